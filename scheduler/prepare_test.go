// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/rules/volumes"
)

// TestBoundFor looks at a claim as the binder leaves it after each of its writes, and at claims that will never be bound.
func TestBoundFor(t *testing.T) {
	claim := func(version string, annotations map[string]string, change func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "c", UID: "u", ResourceVersion: version, Annotations: annotations}}
		change(c)
		return c
	}
	selected := map[string]string{volumes.SelectedNode: "one"}
	completed := map[string]string{volumes.SelectedNode: "one", volumes.BindCompleted: "yes"}
	nothing := func(*corev1.PersistentVolumeClaim) {}
	named := func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "v" }
	bound := func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName, c.Status.Phase = "v", corev1.ClaimBound }
	wanted := claim("1", selected, nothing)
	for name, test := range map[string]struct {
		claim *corev1.PersistentVolumeClaim
		bound bool
		fails bool
	}{
		"as it was wanted":         {claim("1", completed, bound), false, false},
		"not bound":                {claim("2", selected, nothing), false, false},
		"bound but for its status": {claim("2", completed, named), false, false},
		"bound":                    {claim("3", completed, bound), true, false},
		"gone":                     {nil, false, true},
		"another one":              {claim("3", completed, func(c *corev1.PersistentVolumeClaim) { bound(c); c.UID = "other" }), false, true},
		"going":                    {claim("3", completed, func(c *corev1.PersistentVolumeClaim) { bound(c); c.DeletionTimestamp = &metav1.Time{} }), false, true},
		"given back":               {claim("3", nil, nothing), false, true},
	} {
		if got, err := boundFor(wanted, test.claim); got != test.bound || (err != nil) != test.fails {
			t.Errorf("boundFor() a claim %s = %v, %v; want %v, error %v", name, got, err, test.bound, test.fails)
		}
	}
}
