// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package apps describes the kinds of the apps API group.
package apps

import (
	appsv1 "k8s.io/api/apps/v1"

	"kogge.dev/kogge/kinds"
)

// Kinds lists the group's kinds in the order of discovery.
func Kinds() []*kinds.Kind {
	return []*kinds.Kind{controllerRevision(), daemonSet(), deployment(), replicaSet(), statefulSet()}
}

// all is the category of what "kubectl get all" shows.
func all() []string { return []string{"all"} }

// version is the only one that is served and stored.
var version = appsv1.SchemeGroupVersion
