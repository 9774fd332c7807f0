// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"kogge.dev/kogge/internal/equal"
)

func TestAllocatableFollowsAdvertisedCapacity(t *testing.T) {
	list := func(pairs ...string) corev1.ResourceList {
		out := corev1.ResourceList{}
		for i := 0; i < len(pairs); i += 2 {
			out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
		}
		return out
	}
	status := corev1.NodeStatus{
		Capacity:    list("cpu", "2", "example.com/dongle", "4", "example.com/new", "1"),
		Allocatable: list("cpu", "1", "example.com/dongle", "3", "example.com/withdrawn", "7"),
	}
	followExtended(&status)
	want := list("cpu", "1", "example.com/dongle", "4", "example.com/new", "1")
	if !equal.Semantic(status.Allocatable, want) {
		t.Errorf("allocatable is %v, want %v", status.Allocatable, want)
	}
}
