// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package batch describes the kinds of the batch API group.
package batch

import (
	batchv1 "k8s.io/api/batch/v1"

	"kogge.dev/kogge/kinds"
)

// Kinds lists the group's kinds in the order of discovery.
func Kinds() []*kinds.Kind { return []*kinds.Kind{cronJob(), job()} }

// version is the only one that is served and stored.
var version = batchv1.SchemeGroupVersion
