// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package volumes_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/rules/volumes"
)

func volume(name, size string, change ...func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	pv := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Capacity:    corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)},
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeAvailable},
	}
	for _, f := range change {
		f(pv)
	}
	return pv
}

func TestBest(t *testing.T) {
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", UID: "u"},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")}},
		},
	}
	ref := func(name, uid string) func(*corev1.PersistentVolume) {
		return func(pv *corev1.PersistentVolume) {
			pv.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "ns", Name: name}
			pv.Spec.ClaimRef.UID = claim.UID
			if uid != "" {
				pv.Spec.ClaimRef.UID = "other"
			}
		}
	}
	modes := func(pv *corev1.PersistentVolume) {
		pv.Spec.AccessModes = append(pv.Spec.AccessModes, corev1.ReadWriteMany)
	}
	block := func(pv *corev1.PersistentVolume) {
		mode := corev1.PersistentVolumeBlock
		pv.Spec.VolumeMode = &mode
	}
	far := func(pv *corev1.PersistentVolume) { pv.Labels = map[string]string{"far": "yes"} }
	for name, c := range map[string]struct {
		in       []*corev1.PersistentVolume
		reserved bool
		want     string
	}{
		"none":                            {},
		"too small":                       {in: []*corev1.PersistentVolume{volume("a", "1Gi")}},
		"the smaller one":                 {in: []*corev1.PersistentVolume{volume("a", "3Gi"), volume("b", "2Gi")}, want: "b"},
		"fewer modes before size":         {in: []*corev1.PersistentVolume{volume("a", "2Gi", modes), volume("b", "9Gi")}, want: "b"},
		"by name if equal":                {in: []*corev1.PersistentVolume{volume("b", "2Gi"), volume("a", "2Gi")}, want: "a"},
		"its own before a better one":     {in: []*corev1.PersistentVolume{volume("a", "2Gi"), volume("b", "9Gi", ref("c", ""))}, want: "b"},
		"not one of another claim":        {in: []*corev1.PersistentVolume{volume("a", "2Gi", ref("d", ""))}},
		"not one of a forerunner":         {in: []*corev1.PersistentVolume{volume("a", "2Gi", ref("c", "other"))}},
		"not a block device":              {in: []*corev1.PersistentVolume{volume("a", "2Gi", block)}},
		"not an unreachable one":          {in: []*corev1.PersistentVolume{volume("a", "2Gi", far), volume("b", "3Gi")}, want: "b"},
		"its own even if it waits":        {in: []*corev1.PersistentVolume{volume("a", "2Gi"), volume("b", "2Gi", ref("c", ""))}, reserved: true, want: "b"},
		"not a free one if it waits":      {in: []*corev1.PersistentVolume{volume("a", "2Gi")}, reserved: true},
		"its own is of no use far away":   {in: []*corev1.PersistentVolume{volume("a", "2Gi"), volume("b", "2Gi", ref("c", ""), far)}},
		"not one that was released":       {in: []*corev1.PersistentVolume{volume("a", "2Gi", func(pv *corev1.PersistentVolume) { pv.Status.Phase = corev1.VolumeReleased })}},
		"not one of another storageClass": {in: []*corev1.PersistentVolume{volume("a", "2Gi", func(pv *corev1.PersistentVolume) { pv.Spec.StorageClassName = "x" })}},
	} {
		t.Run(name, func(t *testing.T) {
			search := volumes.Search{
				Claim: claim, Reserved: c.reserved, Reachable: func(pv *corev1.PersistentVolume) bool { return pv.Labels["far"] == "" },
			}
			got := ""
			if pv := search.Best(c.in); pv != nil {
				got = pv.Name
			}
			if got != c.want {
				t.Errorf("Best = %q, want %q", got, c.want)
			}
		})
	}
}

func TestDefaultIsTheNewest(t *testing.T) {
	class := func(name string, at time.Time, marked string) *storagev1.StorageClass {
		return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{
			Name: name, CreationTimestamp: metav1.NewTime(at), Annotations: map[string]string{volumes.DefaultClass: marked},
		}}
	}
	now := time.Now()
	all := []*storagev1.StorageClass{class("old", now.Add(-time.Hour), "true"), class("new", now, "true"), class("newest", now.Add(time.Hour), "false")}
	if got := volumes.Default(all); got == nil || got.Name != "new" {
		t.Errorf("Default = %v, want new", got)
	}
	if got := volumes.Default(all[2:]); got != nil {
		t.Errorf("Default = %v, want none", got.Name)
	}
}
