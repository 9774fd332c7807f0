// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package core describes the kinds of the core API group, among them events, which events.k8s.io serves too.
package core

import (
	corev1 "k8s.io/api/core/v1"

	"kogge.dev/kogge/kinds"
)

// version is the group's only one, served and stored.
var version = corev1.SchemeGroupVersion

// all is the category of what "kubectl get all" shows.
func all() []string { return []string{"all"} }

// Kinds lists the group's kinds in the order of discovery.
func Kinds() []*kinds.Kind {
	return []*kinds.Kind{
		binding(),
		componentStatus(),
		configMap(),
		endpoints(),
		event(),
		limitRange(),
		namespace(),
		node(),
		persistentVolumeClaim(),
		persistentVolume(),
		pod(),
		podTemplate(),
		replicationController(),
		resourceQuota(),
		secret(),
		serviceAccount(),
		service(),
	}
}
