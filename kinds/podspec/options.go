// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	corev1 "k8s.io/api/core/v1"
)

// Options relax validation. The zero value is right for what is created; for an update OptionsFor and TemplateOptions
// find what the stored object breaks already, so that it can still be changed elsewhere.
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
	// InvalidSpreadKeys overlooks match label keys that a spread constraint's selector names already.
	InvalidSpreadKeys bool
	// NonLocalTokenPath overlooks projected token paths that leave the volume.
	NonLocalTokenPath bool
	// HostSysctls overlooks namespaced sysctls in pods that share the host's namespace.
	HostSysctls bool
	// InitRestartPolicy overlooks a resize policy of RestartContainer in init containers that are no sidecars.
	InitRestartPolicy bool
	// UserNamespaceDevices overlooks block devices in pods with a user namespace.
	UserNamespaceDevices bool
	// TolerationComparison admits the toleration operators Lt and Gt.
	TolerationComparison bool
	// UserNamespaceHostNetwork admits a user namespace together with the host's network.
	UserNamespaceHostNetwork bool
}

// OptionsFor returns the options to validate a pod with that replaces old, or is created when old is nil.
func OptionsFor(old *corev1.Pod) Options {
	opts := Options{Pod: true}
	return opts
}

// TemplateOptions returns the options to validate a template with that replaces old, or is created when old is nil.
func TemplateOptions(old *corev1.PodTemplateSpec) Options {
	return Options{}
}
