// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package catalog

import "k8s.io/apimachinery/pkg/runtime/schema"

// Priorities returns the group's and the version's priority: what the APIServices of the built-in group versions carry,
// and what discovery and clients order by.
func Priorities(gv schema.GroupVersion) (group, version int32) {
	if gv.Group == "" {
		return 18_000, 1
	}
	switch gv.Version {
	case "v2":
		version = 30
	case "v1":
		version = 15
	default:
		version = 9
	}
	switch gv.String() {
	case "resource.k8s.io/v1", "flowcontrol.apiserver.k8s.io/v1":
		version = 21
	case "resource.k8s.io/v1beta2":
		version = 15
	case "coordination.k8s.io/v1beta1":
		version = 13
	case "admissionregistration.k8s.io/v1beta1", "coordination.k8s.io/v1alpha2":
		version = 12
	case "resource.k8s.io/v1alpha3":
		version = 1
	}
	return groupPriorities()[gv.Group], version
}

func groupPriorities() map[string]int32 {
	return map[string]int32{
		"apiregistration.k8s.io":       20_000,
		"apps":                         17_800,
		"events.k8s.io":                17_750,
		"authentication.k8s.io":        17_700,
		"authorization.k8s.io":         17_600,
		"autoscaling":                  17_500,
		"batch":                        17_400,
		"certificates.k8s.io":          17_300,
		"networking.k8s.io":            17_200,
		"policy":                       17_100,
		"rbac.authorization.k8s.io":    17_000,
		"storage.k8s.io":               16_800,
		"apiextensions.k8s.io":         16_700,
		"admissionregistration.k8s.io": 16_700,
		"scheduling.k8s.io":            16_600,
		"coordination.k8s.io":          16_500,
		"node.k8s.io":                  16_300,
		"discovery.k8s.io":             16_200,
		"resource.k8s.io":              16_200,
		"flowcontrol.apiserver.k8s.io": 16_100,
		"internal.apiserver.k8s.io":    16_000,
	}
}
