// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package networking describes the kinds of the networking.k8s.io API group.
package networking

import (
	networkingv1 "k8s.io/api/networking/v1"
	networkingv1beta1 "k8s.io/api/networking/v1beta1"

	"kogge.dev/kogge/kinds"
)

// Kinds lists the group's kinds in the order of discovery.
func Kinds() []*kinds.Kind {
	return []*kinds.Kind{ingressClass(), ingress(), ipAddress(), networkPolicy(), serviceCIDR()}
}

var (
	// version is the one that is served by default and stored.
	version = networkingv1.SchemeGroupVersion
	// beta is the older one of addresses and ranges.
	beta = networkingv1beta1.SchemeGroupVersion
)
