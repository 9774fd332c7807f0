// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package podsecurity holds pods to the Pod Security Standard that their namespace's labels name: enforced on pods, told as warning
// and in the audit on pods and on everything that makes pods.
package podsecurity

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	configapi "k8s.io/pod-security-admission/admission/api"
	"k8s.io/pod-security-admission/admission/api/load"
	"k8s.io/pod-security-admission/admission/api/validation"
	psapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/request"
)

// Name of the plugin.
const Name = "PodSecurity"

// Plugin is the admission plugin.
type Plugin struct {
	reader    admission.Reader
	evaluator policy.Evaluator
	// defaults are the policy of what a namespace's labels don't say.
	defaults psapi.Policy
	exempt   configapi.PodSecurityExemptions
}

// Read decodes a configuration (pod-security.admission.config.k8s.io/v1) and judges it.
func Read(data []byte) (*configapi.PodSecurityConfiguration, error) {
	c, err := load.LoadFromData(data)
	if err != nil {
		return nil, err
	}
	if errs := validation.ValidatePodSecurityConfiguration(c); len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	return c, nil
}

// New makes the plugin. Without a configuration, namespaces without labels are privileged and nobody is exempt.
func New(reader admission.Reader, c *configapi.PodSecurityConfiguration) (*Plugin, error) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return nil, fmt.Errorf("pod security: %w", err)
	}
	if c == nil {
		if c, err = Read(nil); err != nil {
			return nil, fmt.Errorf("pod security: %w", err)
		}
	}
	defaults, err := configapi.ToPolicy(c.Defaults)
	if err != nil {
		return nil, fmt.Errorf("pod security: %w", err)
	}
	return &Plugin{reader: reader, evaluator: evaluator, defaults: defaults, exempt: c.Exemptions}, nil
}

// Validate implements admission.Validator.
func (p *Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create && a.Operation != admission.Update {
		return nil
	}
	switch {
	case a.Is("", "namespaces"):
		return p.namespace(ctx, a)
	case a.Is("", "pods", "", "ephemeralcontainers", "resize"):
		if pod, ok := admission.Object[*corev1.Pod](a); ok && !p.exempted(ctx, a, &pod.Spec) {
			return p.pod(ctx, a, pod)
		}
	case a.Subresource == "":
		if meta, spec := template(a.Object); spec != nil && !p.exempted(ctx, a, spec) {
			return p.controller(ctx, a, meta, spec)
		}
	}
	return nil
}

// exempted reports whether nobody judges the pod, and says why in the audit.
func (p *Plugin) exempted(ctx context.Context, a *admission.Attributes, spec *corev1.PodSpec) bool {
	reason := ""
	switch {
	case slices.Contains(p.exempt.Namespaces, a.Namespace):
		reason = "namespace"
	case slices.Contains(p.exempt.Usernames, a.User.Name):
		reason = "user"
	case spec.RuntimeClassName != nil && slices.Contains(p.exempt.RuntimeClasses, *spec.RuntimeClassName):
		reason = "runtimeClass"
	default:
		return false
	}
	annotate(request.From(ctx), psapi.ExemptionReasonAnnotationKey, reason)
	return true
}

// template returns the pod that a controller's object describes.
func template(obj runtime.Object) (*metav1.ObjectMeta, *corev1.PodSpec) {
	var t *corev1.PodTemplateSpec
	switch o := obj.(type) {
	case *corev1.PodTemplate:
		t = &o.Template
	case *corev1.ReplicationController:
		t = o.Spec.Template
	case *appsv1.ReplicaSet:
		t = &o.Spec.Template
	case *appsv1.Deployment:
		t = &o.Spec.Template
	case *appsv1.StatefulSet:
		t = &o.Spec.Template
	case *appsv1.DaemonSet:
		t = &o.Spec.Template
	case *batchv1.Job:
		t = &o.Spec.Template
	case *batchv1.CronJob:
		t = &o.Spec.JobTemplate.Spec.Template
	}
	if t == nil {
		return nil, nil
	}
	return &t.ObjectMeta, &t.Spec
}

// policyOf reads the namespace's labels. Labels that don't parse count as restricted for enforcement; flaw says what is wrong with them.
func (p *Plugin) policyOf(ctx context.Context, a *admission.Attributes) (policies psapi.Policy, flaw string, err error) {
	ns, found, err := admission.GetAny[*corev1.Namespace](ctx, p.reader, schema.GroupResource{Resource: "namespaces"}, "", a.Namespace)
	if err == nil && !found {
		err = apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, a.Namespace)
	}
	if err != nil {
		return psapi.Policy{}, "", apierrors.NewInternalError(fmt.Errorf("failed to lookup namespace %q: %w", a.Namespace, err))
	}
	policies, errs := psapi.PolicyToEvaluate(ns.Labels, p.defaults)
	if len(errs) > 0 {
		flaw = errs.ToAggregate().Error()
	}
	return policies, flaw, nil
}

func (p *Plugin) pod(ctx context.Context, a *admission.Attributes, pod *corev1.Pod) error {
	policies, flaw, err := p.policyOf(ctx, a)
	if err != nil {
		return err
	}
	state := request.From(ctx)
	old, updated := admission.Old[*corev1.Pod](a)
	if updated && a.Operation == admission.Update && !significant(pod, old) {
		if flaw == "" && policies.FullyPrivileged() {
			annotate(state, "enforce-policy", policies.Enforce.String()) // It is not the pod that lets it pass.
		}
		return nil
	}
	annotate(state, "enforce-policy", policies.Enforce.String())
	cache := map[psapi.LevelVersion]policy.AggregateCheckResult{}
	evaluate := func(lv psapi.LevelVersion) policy.AggregateCheckResult {
		if r, ok := cache[lv]; ok {
			return r
		}
		r := policy.AggregateCheckResults(p.evaluator.EvaluatePod(lv, &pod.ObjectMeta, &pod.Spec))
		cache[lv] = r
		return r
	}
	if flaw != "" {
		annotate(state, "error", "failed to parse policy: "+flaw)
	}
	enforced := evaluate(policies.Enforce)
	p.tell(state, policies, evaluate, enforced.Allowed)
	if !enforced.Allowed {
		return admission.Forbiddenf(a, "violates PodSecurity %q: %s", policies.Enforce.String(), enforced.ForbiddenDetail())
	}
	return nil
}

// tell leaves the audit annotation and, for what is not refused anyway, the warning.
func (p *Plugin) tell(state *request.State, policies psapi.Policy, evaluate func(psapi.LevelVersion) policy.AggregateCheckResult, warn bool) {
	if state == nil {
		return
	}
	if r := evaluate(policies.Audit); !r.Allowed {
		annotate(state, "audit-violations", fmt.Sprintf("would violate PodSecurity %q: %s", policies.Audit.String(), r.ForbiddenDetail()))
	}
	if !warn {
		return
	}
	if r := evaluate(policies.Warn); !r.Allowed {
		state.Warn(fmt.Sprintf("would violate PodSecurity %q: %s", policies.Warn.String(), r.ForbiddenDetail()))
	}
}

func annotate(state *request.State, key, value string) {
	if state != nil {
		state.Annotate("pod-security.kubernetes.io/"+key, value)
	}
}

func (p *Plugin) controller(ctx context.Context, a *admission.Attributes, meta *metav1.ObjectMeta, spec *corev1.PodSpec) error {
	policies, _, err := p.policyOf(ctx, a)
	if err != nil {
		return err
	}
	p.tell(request.From(ctx), policies, func(lv psapi.LevelVersion) policy.AggregateCheckResult {
		return policy.AggregateCheckResults(p.evaluator.EvaluatePod(lv, meta, spec))
	}, true)
	return nil
}

// significant: an update that brings no other image and no other container is not judged again, so that pods that became forbidden can
// still be finished off, and resized.
func significant(pod, old *corev1.Pod) bool {
	if otherImages(pod.Spec.Containers, old.Spec.Containers) || otherImages(pod.Spec.InitContainers, old.Spec.InitContainers) {
		return true
	}
	return slices.ContainsFunc(pod.Spec.EphemeralContainers, func(c corev1.EphemeralContainer) bool {
		same := func(o corev1.EphemeralContainer) bool { return o.Name == c.Name && o.Image == c.Image }
		return !slices.ContainsFunc(old.Spec.EphemeralContainers, same)
	})
}

func otherImages(containers, old []corev1.Container) bool {
	return !slices.EqualFunc(containers, old, func(a, b corev1.Container) bool { return a.Image == b.Image })
}

// namespace refuses labels that don't parse and warns of pods that a stricter level would refuse.
func (p *Plugin) namespace(ctx context.Context, a *admission.Attributes) error {
	ns, ok := admission.Object[*corev1.Namespace](a)
	if !ok {
		return nil
	}
	now, errs := psapi.PolicyToEvaluate(ns.Labels, p.defaults)
	old, updating := admission.Old[*corev1.Namespace](a)
	if a.Operation == admission.Create || !updating {
		if len(errs) > 0 {
			return apierrors.NewInvalid(schema.GroupKind{Kind: "Namespace"}, ns.Name, errs)
		}
		p.warnOfExemption(ctx, ns, now)
		return nil
	}
	before, oldErrs := psapi.PolicyToEvaluate(old.Labels, p.defaults)
	if len(errs) > 0 && len(oldErrs) == 0 {
		return apierrors.NewInvalid(schema.GroupKind{Kind: "Namespace"}, ns.Name, errs)
	}
	if len(errs) > 0 || before.Enforce == now.Enforce || now.Enforce.Level == psapi.LevelPrivileged {
		return nil
	}
	if before.Enforce.Version == now.Enforce.Version && psapi.CompareLevels(now.Enforce.Level, before.Enforce.Level) < 1 {
		return nil
	}
	if !p.warnOfExemption(ctx, ns, now) {
		p.warnOfPods(ctx, ns.Name, now.Enforce)
	}
	return nil
}

// warnOfExemption reports whether a namespace is exempt, and warns where its labels ask for more than nothing.
func (p *Plugin) warnOfExemption(ctx context.Context, ns *corev1.Namespace, policies psapi.Policy) bool {
	if !slices.Contains(p.exempt.Namespaces, ns.Name) {
		return false
	}
	state := request.From(ctx)
	if state == nil || policies.FullyPrivileged() || policies.Equivalent(&p.defaults) {
		return true
	}
	var said []string
	for _, mode := range []struct {
		name                     string
		policy                   psapi.LevelVersion
		levelLabel, versionLabel string
	}{
		{"enforce", policies.Enforce, psapi.EnforceLevelLabel, psapi.EnforceVersionLabel},
		{"audit", policies.Audit, psapi.AuditLevelLabel, psapi.AuditVersionLabel},
		{"warn", policies.Warn, psapi.WarnLevelLabel, psapi.WarnVersionLabel},
	} {
		_, level := ns.Labels[mode.levelLabel]
		_, version := ns.Labels[mode.versionLabel]
		if mode.policy.Level != psapi.LevelPrivileged && (level || version) {
			said = append(said, mode.name+"="+mode.policy.String())
		}
	}
	state.Warn(fmt.Sprintf("namespace %q is exempt from Pod Security, and the policy (%s) will be ignored", ns.Name, strings.Join(said, ", ")))
	return true
}

// maxPods bounds how many pods of a namespace are looked at for warnings.
const maxPods = 3000

func (p *Plugin) warnOfPods(ctx context.Context, namespace string, enforce psapi.LevelVersion) {
	state := request.From(ctx)
	pods, err := admission.List[*corev1.Pod](ctx, p.reader, schema.GroupResource{Resource: "pods"}, namespace)
	if state == nil || err != nil {
		return
	}
	if len(pods) > maxPods {
		state.Warn(fmt.Sprintf("new PodSecurity enforce level only checked against the first %d of %d existing pods", maxPods, len(pods)))
		pods = pods[:maxPods]
	}
	slices.SortFunc(pods, func(x, y *corev1.Pod) int { return cmp.Compare(x.Name, y.Name) })
	type group struct {
		first string
		count int
	}
	found := map[string]*group{}
	var order []string
	for _, pod := range pods {
		r := policy.AggregateCheckResults(p.evaluator.EvaluatePod(enforce, &pod.ObjectMeta, &pod.Spec))
		if r.Allowed {
			continue
		}
		reason := r.ForbiddenReason()
		if found[reason] == nil {
			found[reason] = &group{first: pod.Name}
			order = append(order, reason)
		}
		found[reason].count++
	}
	if len(order) == 0 {
		return
	}
	state.Warn(fmt.Sprintf("existing pods in namespace %q violate the new PodSecurity enforce level %q", namespace, enforce.String()))
	for _, reason := range order {
		g := found[reason]
		switch g.count {
		case 1:
			state.Warn(g.first + ": " + reason)
		case 2:
			state.Warn(g.first + " (and 1 other pod): " + reason)
		default:
			state.Warn(fmt.Sprintf("%s (and %d other pods): %s", g.first, g.count-1, reason))
		}
	}
}
