// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package storage describes the kinds of the storage.k8s.io API group.
package storage

import (
	storagev1 "k8s.io/api/storage/v1"

	"kogge.dev/kogge/kinds"
)

// Kinds lists the group's kinds in the order of discovery.
func Kinds() []*kinds.Kind {
	return []*kinds.Kind{csiDriver(), csiNode(), csiStorageCapacity(), storageClass(), volumeAttachment(), volumeAttributesClass()}
}

// version is the only one that is served and stored.
var version = storagev1.SchemeGroupVersion

// fill points *p at value when it points nowhere.
func fill[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}
