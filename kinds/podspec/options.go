// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/objectmeta"
)

// Options relax validation. The zero value is right for a template that is created; for an update OptionsFor and
// TemplateOptions find what the stored object breaks already, so that it can still be changed elsewhere.
type Options struct {
	// Pod is set when the spec belongs to a pod and not to a template.
	Pod bool
	// InvalidDeletionCost overlooks a pod deletion cost that is no number.
	InvalidDeletionCost bool
	// InvalidAffinityValues overlooks values in pod affinity's selectors that no label can have.
	InvalidAffinityValues bool
	// InvalidNodeAffinityValues overlooks values in required node affinity that no label can have.
	InvalidNodeAffinityValues bool
	// IndivisibleHugePages overlooks huge pages in fractions of a page.
	IndivisibleHugePages bool
	// InvalidSpreadSelector overlooks an invalid selector of a topology spread constraint.
	InvalidSpreadSelector bool
	// InvalidSpreadKeys takes match label keys of spread constraints as not merged into the selector.
	InvalidSpreadKeys bool
	// NonLocalTokenPath overlooks projected token paths that leave the volume.
	NonLocalTokenPath bool
	// HostSysctls overlooks namespaced sysctls in pods that share the host's namespace.
	HostSysctls bool
	// InitRestartPolicy overlooks a resize policy of RestartContainer in init containers that are no sidecars.
	InitRestartPolicy bool
	// UserNamespaceDevices overlooks block devices in pods with a user namespace.
	UserNamespaceDevices bool
	// TolerationComparison admits the toleration operators Lt and Gt, which v1.36 has switched off.
	TolerationComparison bool
	// SELinuxMount admits the SELinux change policy MountOption, which v1.36 has switched off.
	SELinuxMount bool
	// UserNamespaceHostNetwork admits a user namespace together with the host's network, which v1.36 has switched off.
	UserNamespaceHostNetwork bool
}

// OptionsFor returns the options to validate a pod with that replaces old, or is created when old is nil.
func OptionsFor(old *corev1.Pod) Options {
	if old == nil {
		return Options{Pod: true}
	}
	opts := tolerate(&old.Spec, old.Annotations)
	opts.Pod = true
	return opts
}

// TemplateOptions returns the options to validate a template with that replaces old, or is created when old is nil.
func TemplateOptions(old *corev1.PodTemplateSpec) Options {
	if old == nil {
		return Options{}
	}
	return tolerate(&old.Spec, old.Annotations)
}

// tolerate finds what a stored spec breaks.
func tolerate(spec *corev1.PodSpec, annotations map[string]string) Options {
	opts := Options{
		InvalidDeletionCost:      !validDeletionCost(annotations),
		IndivisibleHugePages:     hasIndivisiblePages(spec),
		HostSysctls:              hasHostSysctls(spec),
		NonLocalTokenPath:        hasNonLocalToken(spec),
		SELinuxMount:             spec.SecurityContext != nil && spec.SecurityContext.SELinuxChangePolicy != nil,
		UserNamespaceHostNetwork: !sharesUsers(spec) && spec.HostNetwork,
		UserNamespaceDevices:     !sharesUsers(spec) && anyContainer(spec, func(c *corev1.Container) bool { return len(c.VolumeDevices) > 0 }),
	}
	for _, term := range podTermsOf(spec) {
		if len(validateTermSelectors(term, Options{}, nil)) > 0 {
			opts.InvalidAffinityValues = true
		}
	}
	if spec.Affinity != nil && spec.Affinity.NodeAffinity != nil && spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		opts.InvalidNodeAffinityValues = HasInvalidNodeValues(spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms)
	}
	for i := range spec.TopologySpreadConstraints {
		c := &spec.TopologySpreadConstraints[i]
		if len(objectmeta.ValidateLabelSelector(c.LabelSelector, objectmeta.Tolerance{}, nil)) > 0 {
			opts.InvalidSpreadSelector = true
		}
		if len(validateMatchKeys(c.MatchLabelKeys, nil, c.LabelSelector, field.NewPath(""))) > 0 {
			opts.InvalidSpreadKeys = true
		}
	}
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		for _, policy := range c.ResizePolicy {
			if !isSidecar(c) && policy.RestartPolicy == corev1.RestartContainer {
				opts.InitRestartPolicy = true
			}
		}
	}
	for _, t := range spec.Tolerations {
		if t.Operator == corev1.TolerationOpLt || t.Operator == corev1.TolerationOpGt {
			opts.TolerationComparison = true
		}
	}
	return opts
}

func hasIndivisiblePages(spec *corev1.PodSpec) bool {
	bad := func(list corev1.ResourceList) bool {
		for name, quantity := range list {
			if isHugePage(name) && !divisible(name, quantity) {
				return true
			}
		}
		return false
	}
	return bad(spec.Overhead) || anyContainer(spec, func(c *corev1.Container) bool { return bad(c.Resources.Limits) || bad(c.Resources.Requests) })
}

func hasHostSysctls(spec *corev1.PodSpec) bool {
	if spec.SecurityContext == nil {
		return false
	}
	for _, s := range spec.SecurityContext.Sysctls {
		if len(validateHostSysctl(spec, s.Name, nil)) > 0 {
			return true
		}
	}
	return false
}

func hasNonLocalToken(spec *corev1.PodSpec) bool {
	for _, v := range spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, source := range v.Projected.Sources {
			if source.ServiceAccountToken != nil && len(validateLocalPath(source.ServiceAccountToken.Path, nil)) > 0 {
				return true
			}
		}
	}
	return false
}
