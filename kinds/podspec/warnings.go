// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// warner collects what a client should know about a spec that is accepted.
type warner struct {
	warnings []string
}

func (w *warner) say(at *field.Path, format string, args ...any) {
	w.warnings = append(w.warnings, fmt.Sprintf("%s: ", at)+fmt.Sprintf(format, args...))
}

// PodWarnings warns of what is accepted in a new pod but will not do what it seems to.
func PodWarnings(pod *corev1.Pod) []string {
	w := &warner{}
	w.appArmor(&pod.Spec, &pod.ObjectMeta, nil)
	w.pod(&pod.Spec, &pod.ObjectMeta, nil)
	return w.warnings
}

// TemplateWarnings does the same for a pod template; a nil one has none. old is nil on create.
func TemplateWarnings(template, _ *corev1.PodTemplateSpec, at *field.Path) []string {
	if template == nil {
		return nil
	}
	w := &warner{}
	w.pod(&template.Spec, &template.ObjectMeta, at)
	w.appArmor(&template.Spec, &template.ObjectMeta, at)
	return w.warnings
}

// appArmor warns of annotations that should be fields, unless they repeat the pod's own profile. A new pod's annotations
// have been taken into fields by now, so that a field which says the same is no excuse.
func (w *warner) appArmor(spec *corev1.PodSpec, meta *metav1.ObjectMeta, at *field.Path) {
	own := podAppArmor(spec)
	visit(spec, nil, func(c *corev1.Container, _ *field.Path) {
		key := corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix + c.Name
		text, ok := meta.Annotations[key]
		profile := appArmorOf(text)
		if !ok || profile != nil && sameAppArmor(profile, own) {
			return
		}
		w.say(at.Child("metadata", "annotations").Key(key), `deprecated since v1.30; use the "appArmorProfile" field instead`)
	})
}

func (w *warner) pod(spec *corev1.PodSpec, meta *metav1.ObjectMeta, at *field.Path) {
	path := at.Child("spec")
	w.scheduling(spec, path)
	w.annotations(spec, meta, at)
	w.volumes(spec.Volumes, path.Child("volumes"))
	w.duplicates(spec, path)
	w.fraction(spec.Overhead, path.Child("overhead"))
	visit(spec, path, func(c *corev1.Container, at *field.Path) {
		w.fraction(c.Resources.Limits, at.Child("resources", "limits"))
		w.fraction(c.Resources.Requests, at.Child("resources", "requests"))
		w.env(c.Env, at.Child("env"))
	})
	w.ports(spec, path)
	if seconds := spec.TerminationGracePeriodSeconds; seconds != nil && *seconds < 0 {
		w.say(path.Child("terminationGracePeriodSeconds"), "must be >= 0; negative values are invalid and will be treated as 1")
	}
	if spec.DNSConfig != nil {
		for i, server := range spec.DNSConfig.Nameservers {
			w.warnings = append(w.warnings, validation.GetWarningsForIP(path.Child("dnsConfig", "nameservers").Index(i), server)...)
		}
	}
	for i, alias := range spec.HostAliases {
		w.warnings = append(w.warnings, validation.GetWarningsForIP(path.Child("hostAliases").Index(i).Child("ip"), alias.IP)...)
	}
}

// oldLabel says what replaces a label of nodes that is going out of use, or nothing.
func oldLabel(key string) string {
	switch key {
	case "beta.kubernetes.io/arch":
		return `deprecated since v1.14; use "kubernetes.io/arch" instead`
	case "beta.kubernetes.io/os":
		return `deprecated since v1.14; use "kubernetes.io/os" instead`
	case corev1.LabelFailureDomainBetaRegion:
		return `deprecated since v1.17; use "topology.kubernetes.io/region" instead`
	case corev1.LabelFailureDomainBetaZone:
		return `deprecated since v1.17; use "topology.kubernetes.io/zone" instead`
	case corev1.LabelInstanceType:
		return `deprecated since v1.17; use "node.kubernetes.io/instance-type" instead`
	case "app.kubernetes.io/created-by":
		return "deprecated since v1.9"
	case "scheduler.alpha.kubernetes.io/preferAvoidPods":
		return "deprecated since v1.22; use Taints and Tolerations instead"
	case "node-role.kubernetes.io/master":
		return `use "node-role.kubernetes.io/control-plane" instead`
	}
	return ""
}

// NodeSelectorWarnings warns of node labels in a selector that are going out of use.
func NodeSelectorWarnings(selector map[string]string, at *field.Path) []string {
	w := &warner{}
	for key := range selector {
		if why := oldLabel(key); why != "" {
			w.say(at.Key(key), "%s", why)
		}
	}
	return w.warnings
}

// OldLabelWarning says what replaces a label of nodes that is going out of use; it is empty for all others.
func OldLabelWarning(key string) string { return oldLabel(key) }

// NodeTermWarnings warns of node labels in a required term that are going out of use.
func NodeTermWarnings(term corev1.NodeSelectorTerm, at *field.Path) []string {
	w := &warner{}
	for i, r := range term.MatchExpressions {
		if why := oldLabel(r.Key); why != "" {
			w.say(at.Child("matchExpressions").Index(i).Child("key"), "%s is %s", r.Key, why)
		}
	}
	return w.warnings
}

const nullSelector = "a null labelSelector results in matching no pod"

func (w *warner) scheduling(spec *corev1.PodSpec, at *field.Path) {
	w.warnings = append(w.warnings, NodeSelectorWarnings(spec.NodeSelector, at.Child("nodeSelector"))...)
	if spec.Affinity != nil && spec.Affinity.NodeAffinity != nil {
		w.nodeAffinity(spec.Affinity.NodeAffinity, at.Child("affinity", "nodeAffinity"))
	}
	for i, c := range spec.TopologySpreadConstraints {
		path := at.Child("topologySpreadConstraints").Index(i)
		if why := oldLabel(c.TopologyKey); why != "" {
			w.say(path.Child("topologyKey"), "%s is %s", c.TopologyKey, why)
		}
		if c.LabelSelector == nil {
			w.say(path.Child("labelSelector"), nullSelector)
		}
	}
	if spec.Affinity == nil {
		return
	}
	if pod := spec.Affinity.PodAffinity; pod != nil {
		w.podTerms(pod.RequiredDuringSchedulingIgnoredDuringExecution, pod.PreferredDuringSchedulingIgnoredDuringExecution, at.Child("affinity", "podAffinity"))
	}
	if pod := spec.Affinity.PodAntiAffinity; pod != nil {
		w.podTerms(pod.RequiredDuringSchedulingIgnoredDuringExecution, pod.PreferredDuringSchedulingIgnoredDuringExecution, at.Child("affinity", "podAntiAffinity"))
	}
}

func (w *warner) nodeAffinity(node *corev1.NodeAffinity, at *field.Path) {
	if required := node.RequiredDuringSchedulingIgnoredDuringExecution; required != nil {
		for i, term := range required.NodeSelectorTerms {
			w.warnings = append(w.warnings, NodeTermWarnings(term, at.Child(ruleRequired, "nodeSelectorTerms").Index(i))...)
		}
	}
	for i, term := range node.PreferredDuringSchedulingIgnoredDuringExecution {
		path := at.Child(rulePreferred).Index(i).Child("preference")
		w.warnings = append(w.warnings, NodeTermWarnings(term.Preference, path)...)
		for j, r := range term.Preference.MatchExpressions {
			for k, value := range r.Values {
				for _, msg := range validation.IsValidLabelValue(value) {
					w.say(path.Child("matchExpressions").Index(j).Child("values").Index(k), "%s is invalid, %s", value, msg)
				}
			}
		}
	}
}

func (w *warner) podTerms(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm, at *field.Path) {
	for i := range required {
		if required[i].LabelSelector == nil {
			w.say(at.Child(ruleRequired).Index(i).Child("labelSelector"), nullSelector)
		}
	}
	for i := range preferred {
		if preferred[i].PodAffinityTerm.LabelSelector == nil {
			w.say(at.Child(rulePreferred).Index(i).Child("podAffinityTerm", "labelSelector"), nullSelector)
		}
	}
}

func (w *warner) annotations(spec *corev1.PodSpec, meta *metav1.ObjectMeta, at *field.Path) {
	path := at.Child("metadata", "annotations")
	for _, old := range []struct{ key, why string }{
		{"scheduler.alpha.kubernetes.io/critical-pod", `non-functional in v1.16+; use the "priorityClassName" field instead`},
		{"security.alpha.kubernetes.io/sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
		{"security.alpha.kubernetes.io/unsafe-sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
	} {
		if _, ok := meta.Annotations[old.key]; ok {
			w.say(path.Key(old.key), "%s", old.why)
		}
	}
	seccomp := func(key string) {
		if _, ok := meta.Annotations[key]; ok {
			w.say(path.Key(key), `non-functional in v1.27+; use the "seccompProfile" field instead`)
		}
	}
	if spec.SecurityContext == nil || spec.SecurityContext.SeccompProfile == nil {
		seccomp(corev1.SeccompPodAnnotationKey)
	}
	visit(spec, nil, func(c *corev1.Container, _ *field.Path) {
		if c.SecurityContext == nil || c.SecurityContext.SeccompProfile == nil {
			seccomp(corev1.SeccompContainerAnnotationKeyPrefix + c.Name)
		}
	})
}

func (w *warner) duplicates(spec *corev1.PodSpec, at *field.Path) {
	seen := map[string]bool{}
	for i, alias := range spec.HostAliases {
		if seen[alias.IP] {
			w.say(at.Child("hostAliases").Index(i).Child("ip"), "duplicate ip %q", alias.IP)
		}
		seen[alias.IP] = true
	}
	clear(seen)
	for i, secret := range spec.ImagePullSecrets {
		path := at.Child("imagePullSecrets").Index(i).Child("name")
		if seen[secret.Name] {
			w.say(path, "duplicate name %q", secret.Name)
		}
		seen[secret.Name] = true
		if secret.Name == "" {
			w.say(path, "invalid empty name %q", "")
		}
	}
}

// fraction warns of parts of a byte.
func (w *warner) fraction(list corev1.ResourceList, at *field.Path) {
	for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if quantity, ok := list[name]; ok && quantity.MilliValue()%milliScale != 0 {
			w.say(at.Key(string(name)), "fractional byte value %q is invalid, must be an integer", quantity.String())
		}
	}
}

// env warns of variables that are defined twice, unless the second definition refers to the first.
func (w *warner) env(vars []corev1.EnvVar, at *field.Path) {
	seen := map[string]bool{}
	for i, v := range vars {
		if seen[v.Name] {
			ref := "$(" + v.Name + ")"
			if v.ValueFrom != nil || v.Value == ref || !strings.Contains(v.Value, ref) {
				w.say(at.Index(i), "hides previous definition of %q, which may be dropped when using apply", v.Name)
			}
		}
		seen[v.Name] = true
	}
}

// ports warns of ports that two containers, or one twice, claim.
func (w *warner) ports(spec *corev1.PodSpec, at *field.Path) {
	type block struct {
		path *field.Path
		port corev1.ContainerPort
	}
	taken, named := map[string][]block{}, map[string]*field.Path{}
	visit(spec, at, func(c *corev1.Container, at *field.Path) {
		for i, port := range c.Ports {
			path := at.Child("ports").Index(i)
			if port.HostIP != "" && port.HostPort == 0 {
				w.say(path, "hostIP set without hostPort: %+v", port)
			}
			key := fmt.Sprintf("%d/%s", port.ContainerPort, port.Protocol)
			for _, other := range taken[key] {
				switch {
				case port.HostIP == other.port.HostIP && port.HostPort == other.port.HostPort:
					w.say(path, "duplicate port definition with %s", other.path)
				case port.HostPort == 0 || other.port.HostPort == 0:
					w.say(path, "overlapping port definition with %s", other.path)
				case port.HostPort == other.port.HostPort && (port.HostIP == "") != (other.port.HostIP == ""):
					w.say(path, "dangerously ambiguous port definition with %s", other.path)
				}
			}
			taken[key] = append(taken[key], block{path, port})
		}
	})
	visit(spec, at, func(c *corev1.Container, at *field.Path) {
		for i, port := range c.Ports {
			if port.Name == "" {
				continue
			}
			path := at.Child("ports").Index(i)
			if other := named[port.Name]; other != nil {
				w.say(path, "duplicate port name %q with %s, services and probes that select ports by name will use %s", port.Name, other, other)
			} else {
				named[port.Name] = path
			}
		}
	})
}
