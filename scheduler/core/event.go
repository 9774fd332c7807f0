// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

// Kind is what changed.
type Kind string

// The kinds of objects whose changes may make a pod schedulable.
const (
	Nodes         Kind = "nodes"
	AssignedPods  Kind = "pods" // those with a node, assumed ones excepted
	Claims        Kind = "persistentvolumeclaims"
	Volumes       Kind = "persistentvolumes"
	Classes       Kind = "storageclasses"
	CSINodes      Kind = "csinodes"
	CSIDrivers    Kind = "csidrivers"
	Capacities    Kind = "csistoragecapacities"
	DeviceClaims  Kind = "resourceclaims"
	DeviceClasses Kind = "deviceclasses"
	DeviceSlices  Kind = "resourceslices"
	Attachments   Kind = "volumeattachments"
	Namespaces    Kind = "namespaces"
	Budgets       Kind = "poddisruptionbudgets"
	otherObjects  Kind = ""
	unschedulable      = "" // rejector of pods that found no node at all
)

// Action is how it changed, a set of bits.
type Action uint

// The ways of change. Update means one that no finer bit describes.
const (
	Add Action = 1 << iota
	Delete
	Update
	UpdateAllocatable
	UpdateLabels
	UpdateTaints
	UpdateConditions
	UpdateImages
	UpdateScaleDown
	UpdateFeatures

	Updates = Update | UpdateAllocatable | UpdateLabels | UpdateTaints | UpdateConditions | UpdateImages | UpdateScaleDown | UpdateFeatures
	Any     = Add | Delete | Updates
)

// Event is a change. Old is nil for additions, New for deletions; nodes are *corev1.Node, pods *Pod, others their API type.
type Event struct {
	Kind     Kind
	Action   Action
	Old, New any
}
