// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package aggregation

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/discovery"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/catalog"
)

// Priorities of group-versions that definitions make, as upstream registers them.
const (
	customPriority        = 1000
	customVersionPriority = 100
)

// Locals lists the group-versions of built-in kinds and of custom resource definitions.
func Locals(builtIn []*kinds.Kind, custom []schema.GroupVersion) []Local {
	var out []Local
	for _, g := range discovery.Groups(builtIn) {
		for _, v := range g.Discovery.Versions {
			gv := schema.GroupVersion{Group: g.Discovery.Name, Version: v.Version}
			_, priority := catalog.Priorities(gv)
			out = append(out, Local{GroupVersion: gv, Priority: int32(g.Priority), VersionPriority: priority})
		}
	}
	for _, gv := range custom {
		out = append(out, Local{GroupVersion: gv, Custom: true, Priority: customPriority, VersionPriority: customVersionPriority})
	}
	return out
}
