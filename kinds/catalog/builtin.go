// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package catalog

import (
	"slices"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/apps"
	"kogge.dev/kogge/kinds/batch"
	"kogge.dev/kogge/kinds/coordination"
	"kogge.dev/kogge/kinds/core"
	"kogge.dev/kogge/kinds/discovery"
	"kogge.dev/kogge/kinds/node"
	"kogge.dev/kogge/kinds/policy"
	"kogge.dev/kogge/kinds/rbac"
	"kogge.dev/kogge/kinds/scheduling"
)

// builtIn lists the kinds in the order in which discovery lists their groups.
func builtIn() []*kinds.Kind {
	return slices.Concat(
		core.Kinds(),
		apps.Kinds(),
		batch.Kinds(),
		policy.Kinds(),
		rbac.Kinds(),
		scheduling.Kinds(),
		coordination.Kinds(),
		node.Kinds(),
		discovery.Kinds(),
	)
}
