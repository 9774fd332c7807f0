// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package resourceclaim gives pods the resource claims that their templates promise, and takes claims back from pods that no
// longer need them. Two loops share the work: one looks at pods (claims are made and reserved), one at claims (reservations,
// allocations and generated claims are dropped).
package resourceclaim

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/dynamic-resource-allocation/resourceclaim"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/pods"
)

// Indexes of pods and claims.
const (
	podsByClaim    = "pods by resource claim"
	podsByTemplate = "pods by resource claim template"
	claimsByPod    = "resource claims by owning pod"
)

type controller struct {
	reconcile.Scope
	pods      *client.Informer[*corev1.Pod]
	claims    *client.Informer[*resourcev1.ResourceClaim]
	templates *client.Informer[*resourcev1.ResourceClaimTemplate]
	podAPI    client.Resource[*corev1.Pod]
	api       client.Resource[*resourcev1.ResourceClaim]

	mu sync.Mutex
	// made names the claims that were made for a pod, by the pod's name for them. The informer may not show them yet when the
	// pod is looked at again, and a second claim must not be made then.
	made map[types.UID]map[string]string
}

// New makes the loop that looks at pods.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope: scope, pods: client.InformerFor[*corev1.Pod](scope.Informers), claims: client.InformerFor[*resourcev1.ResourceClaim](scope.Informers),
		templates: client.InformerFor[*resourcev1.ResourceClaimTemplate](scope.Informers),
		podAPI:    client.Of[*corev1.Pod](scope.Client), api: client.Of[*resourcev1.ResourceClaim](scope.Client),
		made: map[types.UID]map[string]string{},
	}
	c.pods.AddIndex(podsByClaim, func(pod *corev1.Pod) []string {
		var out []string
		for _, key := range claimsOf(pod) {
			out = append(out, key.String())
		}
		return out
	})
	c.pods.AddIndex(podsByTemplate, templatesOf)
	c.claims.AddIndex(claimsByPod, func(claim *resourcev1.ResourceClaim) []string {
		if _, uid := owner(claim); uid != "" {
			return []string{string(uid)}
		}
		return nil
	})
	loop := reconcile.New(reconcile.Config{
		Name: "resourceclaim-controller", Log: scope.Log, Workers: 4, Informers: scope.Informers, Reconcile: c.reconcilePod,
	})
	look := func(list ...*corev1.Pod) {
		for _, pod := range list {
			if len(pod.Spec.ResourceClaims) > 0 {
				loop.Enqueue(reconcile.KeyOf(pod))
			}
		}
	}
	c.pods.Handle(client.Handler[*corev1.Pod]{
		Add: func(pod *corev1.Pod) { look(pod) }, Update: func(_, pod *corev1.Pod) { look(pod) },
		Delete: func(pod *corev1.Pod) { c.forget(pod.UID) },
	})
	claimed := func(claim *resourcev1.ResourceClaim) {
		look(c.pods.ByIndex(podsByClaim, reconcile.KeyOf(claim).String())...)
	}
	c.claims.Handle(client.Handler[*resourcev1.ResourceClaim]{
		Add: claimed, Update: func(_, claim *resourcev1.ResourceClaim) { claimed(claim) }, Delete: claimed,
	})
	promised := func(template *resourcev1.ResourceClaimTemplate) {
		look(c.pods.ByIndex(podsByTemplate, reconcile.KeyOf(template).String())...)
	}
	c.templates.Handle(client.Handler[*resourcev1.ResourceClaimTemplate]{
		Add: promised, Update: func(_, template *resourcev1.ResourceClaimTemplate) { promised(template) },
	})
	return loop
}

// claimsOf lists the claims that a pod uses, as far as they are known.
func claimsOf(pod *corev1.Pod) []reconcile.Key {
	var out []reconcile.Key
	for i := range pod.Spec.ResourceClaims {
		if name, _, err := resourceclaim.Name(pod, &pod.Spec.ResourceClaims[i]); err == nil && name != nil {
			out = append(out, reconcile.Key{Namespace: pod.Namespace, Name: *name})
		}
	}
	if extended := pod.Status.ExtendedResourceClaimStatus; extended != nil {
		out = append(out, reconcile.Key{Namespace: pod.Namespace, Name: extended.ResourceClaimName})
	}
	return out
}

func templatesOf(pod *corev1.Pod) []string {
	var out []string
	for i := range pod.Spec.ResourceClaims {
		if name := pod.Spec.ResourceClaims[i].ResourceClaimTemplateName; name != nil {
			out = append(out, pod.Namespace+"/"+*name)
		}
	}
	return out
}

// owner returns the pod that a claim was generated for; empty if there is none.
func owner(claim *resourcev1.ResourceClaim) (name string, uid types.UID) {
	for i := range claim.OwnerReferences {
		if o := &claim.OwnerReferences[i]; o.APIVersion == "v1" && o.Kind == "Pod" && o.Controller != nil && *o.Controller {
			return o.Name, o.UID
		}
	}
	return "", ""
}

// done reports whether a pod has no use for its claims any more.
func done(pod *corev1.Pod) bool {
	return pods.IsFinished(pod) || pod.DeletionTimestamp != nil && pod.Spec.NodeName == ""
}

// reconcilePod makes the claims that are missing, tells the pod their names, and reserves claims for a pod that got its node
// without the scheduler.
func (c *controller) reconcilePod(ctx context.Context, key reconcile.Key) error {
	pod, ok := c.pods.Get(key.Namespace, key.Name)
	if !ok || pod.DeletionTimestamp != nil || pods.IsFinished(pod) {
		return nil
	}
	named := map[string]string{}
	for i := range pod.Spec.ResourceClaims {
		entry := &pod.Spec.ResourceClaims[i]
		name, err := c.ensure(ctx, pod, entry)
		if err != nil {
			c.Events.Event(pod, corev1.EventTypeWarning, "FailedResourceClaimCreation", "PodResourceClaim %s: %v", entry.Name, err)
			return fmt.Errorf("claim %s of pod %s: %w", entry.Name, key, err)
		}
		if name != "" {
			named[entry.Name] = name
		}
	}
	if len(named) > 0 {
		if err := c.tell(ctx, pod, named); err != nil {
			return client.IgnoreNotFound(err)
		}
	}
	if pod.Spec.NodeName == "" {
		return nil // the scheduler reserves
	}
	return c.reserve(ctx, pod)
}

// ensure returns the name of a generated claim that the pod does not know yet; empty when there is nothing to tell.
func (c *controller) ensure(ctx context.Context, pod *corev1.Pod, entry *corev1.PodResourceClaim) (string, error) {
	name, mustOwn, err := resourceclaim.Name(pod, entry)
	switch {
	case errors.Is(err, resourceclaim.ErrClaimNotFound):
	case err != nil:
		return "", fmt.Errorf("checking for claim before creating it: %w", err)
	case name == nil:
		return "", nil // not needed
	default:
		claim, err := c.claim(ctx, pod.Namespace, *name)
		if err != nil {
			return "", err
		}
		if claim != nil && (!mustOwn || resourceclaim.IsForPod(pod, claim, false) == nil) {
			return "", nil
		}
	}
	if entry.ResourceClaimTemplateName == nil {
		return "", nil // the user's affair
	}
	known, err := c.generated(ctx, pod, entry.Name)
	if known != "" || err != nil {
		return known, err
	}
	template, ok := c.templates.Get(pod.Namespace, *entry.ResourceClaimTemplateName)
	if !ok {
		return "", fmt.Errorf("resource claim template %q: resourceclaimtemplate.resource.k8s.io %q not found",
			*entry.ResourceClaimTemplateName, *entry.ResourceClaimTemplateName)
	}
	claim, err := c.api.Create(ctx, fromTemplate(pod, entry.Name, template))
	if err != nil {
		return "", fmt.Errorf("create ResourceClaim: %w", err)
	}
	c.remember(pod.UID, entry.Name, claim.Name)
	return claim.Name, nil
}

// claim returns a claim, nil when there is none. The API is asked only where the informer may lag.
func (c *controller) claim(ctx context.Context, namespace, name string) (*resourcev1.ResourceClaim, error) {
	if claim, ok := c.claims.Get(namespace, name); ok {
		return claim, nil
	}
	claim, err := c.api.Get(ctx, namespace, name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return claim, err
}

// generated returns the claim that was made for the pod before, if it is still there.
func (c *controller) generated(ctx context.Context, pod *corev1.Pod, entry string) (string, error) {
	for _, claim := range c.claims.ByIndex(claimsByPod, string(pod.UID)) {
		if claim.Annotations[resourcev1.PodResourceClaimAnnotation] == entry && claim.DeletionTimestamp == nil {
			return claim.Name, nil
		}
	}
	c.mu.Lock()
	name := c.made[pod.UID][entry]
	c.mu.Unlock()
	if name == "" {
		return "", nil
	}
	claim, err := c.claim(ctx, pod.Namespace, name)
	if claim == nil {
		return "", err
	}
	return name, err
}

func (c *controller) remember(pod types.UID, entry, claim string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made[pod] == nil {
		c.made[pod] = map[string]string{}
	}
	c.made[pod][entry] = claim
}

func (c *controller) forget(pod types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.made, pod)
}

// maxBase is what a generated name leaves of 63 characters for pod and claim: six are random.
const maxBase = 57

// fromTemplate returns the claim that a template describes for one entry of a pod. The pod owns it.
func fromTemplate(pod *corev1.Pod, entry string, template *resourcev1.ResourceClaimTemplate) *resourcev1.ResourceClaim {
	base := pod.Name + "-" + entry + "-"
	if all := len(base); all > maxBase {
		// Both parts are shortened alike, so that neither vanishes.
		base = pod.Name[:len(pod.Name)*maxBase/all] + "-" + entry[:len(entry)*maxBase/all]
	}
	annotations := maps.Clone(template.Spec.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[resourcev1.PodResourceClaimAnnotation] = entry
	yes := true
	return &resourcev1.ResourceClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, GenerateName: base, Annotations: annotations, Labels: maps.Clone(template.Spec.Labels),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID, Controller: &yes}},
		},
		Spec: *template.Spec.Spec.DeepCopy(),
	}
}

// tell writes the names of generated claims into the pod's status.
func (c *controller) tell(ctx context.Context, pod *corev1.Pod, named map[string]string) error {
	var statuses []corev1.PodResourceClaimStatus
	for entry, claim := range named {
		statuses = append(statuses, corev1.PodResourceClaimStatus{Name: entry, ResourceClaimName: &claim})
	}
	slices.SortFunc(statuses, func(a, b corev1.PodResourceClaimStatus) int { return cmp.Compare(a.Name, b.Name) })
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID}, "status": map[string]any{"resourceClaimStatuses": statuses},
	})
	if err != nil {
		return err
	}
	if _, err := c.podAPI.Patch(ctx, pod.Namespace, pod.Name, types.StrategicMergePatchType, patch, "status"); err != nil {
		return fmt.Errorf("name the claims of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// reserve enters a pod that has its node into those of its claims that are allocated and have room for another user.
func (c *controller) reserve(ctx context.Context, pod *corev1.Pod) error {
	for i := range pod.Spec.ResourceClaims {
		name, mustOwn, err := resourceclaim.Name(pod, &pod.Spec.ResourceClaims[i])
		if err != nil || name == nil {
			continue // seen again when the status that was just written arrives
		}
		claim, ok := c.claims.Get(pod.Namespace, *name)
		if !ok || claim.Status.Allocation == nil || resourceclaim.IsReservedForPod(pod, claim, false) || !resourceclaim.CanBeReserved(claim) {
			continue
		}
		if mustOwn {
			if err := resourceclaim.IsForPod(pod, claim, false); err != nil {
				return reconcile.Terminal(err)
			}
		}
		next := claim.DeepCopy()
		next.Status.ReservedFor = append(next.Status.ReservedFor, resourcev1.ResourceClaimConsumerReference{Resource: "pods", Name: pod.Name, UID: pod.UID})
		if _, err := c.api.UpdateStatus(ctx, next); err != nil {
			return fmt.Errorf("reserve claim %s/%s: %w", claim.Namespace, claim.Name, err)
		}
	}
	return nil
}
