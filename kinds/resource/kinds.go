// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package resource describes the kinds of the resource.k8s.io API group: devices, classes of them, and claims to them.
package resource

import (
	resourcev1 "k8s.io/api/resource/v1"

	"kogge.dev/kogge/kinds"
)

// Kinds lists the group's kinds in the order of discovery.
func Kinds() []*kinds.Kind {
	return []*kinds.Kind{deviceClass(), deviceTaintRule(), resourceClaim(), resourceClaimTemplate(), poolStatusRequest(), resourceSlice()}
}

// version is the one that is served by default and stored.
var version = resourcev1.SchemeGroupVersion
