// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package volumes says how claims and persistent volumes name each other and which volume fits which claim: the part of
// binding that the binder, the scheduler and the provisioners have to agree about.
package volumes

import (
	"cmp"
	"errors"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// Annotations of the protocol between binder, scheduler and provisioners. Only their presence counts, but for those that
// carry a name.
const (
	// BindCompleted: a claim was bound once. Without its volume it is lost from then on.
	BindCompleted = "pv.kubernetes.io/bind-completed"
	// BoundByController: the reference was made by the binder and may be taken back by it.
	BoundByController = "pv.kubernetes.io/bound-by-controller"
	// ProvisionedBy names who made a volume, and who is to delete it.
	ProvisionedBy = "pv.kubernetes.io/provisioned-by"
	// MigratedTo names the CSI driver that does the work of an in-tree plugin.
	MigratedTo = "pv.kubernetes.io/migrated-to"
	// Provisioner and BetaProvisioner ask the named provisioner to make a volume for a claim.
	Provisioner     = "volume.kubernetes.io/storage-provisioner"
	BetaProvisioner = "volume.beta.kubernetes.io/storage-provisioner"
	// SelectedNode names the node that the scheduler chose for the claim's first consumer.
	SelectedNode = "volume.kubernetes.io/selected-node"
	// DefaultClass and BetaDefaultClass, "true", mark the class of claims that name none.
	DefaultClass     = "storageclass.kubernetes.io/is-default-class"
	BetaDefaultClass = "storageclass.beta.kubernetes.io/is-default-class"
)

// NoProvisioner is what a class names whose volumes are only made by hand.
const NoProvisioner = "kubernetes.io/no-provisioner"

// ClaimClass returns the class that a claim asks for, empty for none.
func ClaimClass(claim *corev1.PersistentVolumeClaim) string {
	if class, ok := claim.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return class
	}
	return deref(claim.Spec.StorageClassName)
}

// NamesClass reports whether a claim says something about its class, be it that it wants none.
func NamesClass(claim *corev1.PersistentVolumeClaim) bool {
	_, beta := claim.Annotations[corev1.BetaStorageClassAnnotation]
	return beta || claim.Spec.StorageClassName != nil
}

// VolumeClass returns the class of a volume, empty for none.
func VolumeClass(pv *corev1.PersistentVolume) string {
	if class, ok := pv.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return class
	}
	return pv.Spec.StorageClassName
}

// Default returns the class of claims that name none: the newest of those marked as the default, or nil.
func Default(classes []*storagev1.StorageClass) *storagev1.StorageClass {
	var best *storagev1.StorageClass
	for _, class := range classes {
		if class.Annotations[DefaultClass] != "true" && class.Annotations[BetaDefaultClass] != "true" {
			continue
		}
		if best == nil || newer(class, best) {
			best = class
		}
	}
	return best
}

func newer(a, b *storagev1.StorageClass) bool {
	if a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.Name < b.Name
	}
	return b.CreationTimestamp.Before(&a.CreationTimestamp)
}

// Waits reports whether claims of a class are bound only when a pod that uses them is scheduled.
func Waits(class *storagev1.StorageClass) bool {
	return class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

// IsFor reports whether a volume refers to this claim, by its name and, once bound, by its UID.
func IsFor(pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) bool {
	ref := pv.Spec.ClaimRef
	return ref != nil && ref.Namespace == claim.Namespace && ref.Name == claim.Name && (ref.UID == "" || ref.UID == claim.UID)
}

// IsBound reports whether a claim is bound for good and by whom it may be used.
func IsBound(claim *corev1.PersistentVolumeClaim) bool {
	return claim.Spec.VolumeName != "" && metav1.HasAnnotation(claim.ObjectMeta, BindCompleted)
}

// Reasons why a volume that a claim names can't serve it.
var (
	ErrTooSmall   = errors.New("requested PV is too small")
	ErrClass      = errors.New("storageClassName does not match")
	ErrAttributes = errors.New("volumeAttributesClassName does not match")
	ErrVolumeMode = errors.New("incompatible volumeMode")
	ErrAccessMode = errors.New("incompatible accessMode")
)

// Satisfies returns why a volume can't serve a claim, or nil. Who has the volume now, its labels and where it can be
// reached are not looked at.
func Satisfies(pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) error {
	have, want := pv.Spec.Capacity[corev1.ResourceStorage], claim.Spec.Resources.Requests[corev1.ResourceStorage]
	switch {
	case have.Cmp(want) < 0:
		return ErrTooSmall
	case VolumeClass(pv) != ClaimClass(claim):
		return ErrClass
	case deref(pv.Spec.VolumeAttributesClassName) != deref(claim.Spec.VolumeAttributesClassName):
		return ErrAttributes
	case !SameMode(pv, claim):
		return ErrVolumeMode
	case !HasModes(pv, claim.Spec.AccessModes):
		return ErrAccessMode
	}
	return nil
}

// SameMode reports whether both are file systems or both are block devices.
func SameMode(pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) bool {
	mode := func(m *corev1.PersistentVolumeMode) corev1.PersistentVolumeMode {
		if m == nil {
			return corev1.PersistentVolumeFilesystem
		}
		return *m
	}
	return mode(pv.Spec.VolumeMode) == mode(claim.Spec.VolumeMode)
}

// HasModes reports whether a volume can be accessed in all ways that are asked for.
func HasModes(pv *corev1.PersistentVolume, modes []corev1.PersistentVolumeAccessMode) bool {
	for _, mode := range modes {
		if !slices.Contains(pv.Spec.AccessModes, mode) {
			return false
		}
	}
	return true
}

// Search is a claim's look for a volume.
type Search struct {
	Claim *corev1.PersistentVolumeClaim
	// Reserved limits the search to volumes that refer to the claim already: free ones are the scheduler's to choose.
	Reserved bool
	// Reachable tells whether a volume can be used where it is needed; nil means that all can.
	Reachable func(*corev1.PersistentVolume) bool
	// Taken volumes were chosen for other claims and not written yet.
	Taken map[string]struct{}
}

// Best returns the volume that a claim should get: the one that refers to it, else of those that fit the one with the
// fewest access modes and then the smallest. Ties are broken by name, so that two looks find the same one. It is nil if
// there is none.
func (s Search) Best(candidates []*corev1.PersistentVolume) *corev1.PersistentVolume {
	selector := labels.Everything()
	if s.Claim.Spec.Selector != nil {
		var err error
		if selector, err = metav1.LabelSelectorAsSelector(s.Claim.Spec.Selector); err != nil {
			return nil
		}
	}
	var best *corev1.PersistentVolume
	for _, pv := range candidates {
		if _, taken := s.Taken[pv.Name]; taken || pv.DeletionTimestamp != nil || pv.Spec.ClaimRef != nil && !IsFor(pv, s.Claim) {
			continue
		}
		reachable := s.Reachable == nil || s.Reachable(pv)
		if IsFor(pv, s.Claim) {
			if s.servesReserved(pv) {
				if !reachable {
					return nil
				}
				return pv
			}
			continue
		}
		if s.Reserved || !reachable || pv.Status.Phase != corev1.VolumeAvailable || !selector.Matches(labels.Set(pv.Labels)) || Satisfies(pv, s.Claim) != nil {
			continue
		}
		if best == nil || compare(pv, best) < 0 {
			best = pv
		}
	}
	return best
}

// servesReserved judges a volume that names the claim: whoever wrote the name answers for class and labels.
func (s Search) servesReserved(pv *corev1.PersistentVolume) bool {
	have, want := pv.Spec.Capacity[corev1.ResourceStorage], s.Claim.Spec.Resources.Requests[corev1.ResourceStorage]
	return have.Cmp(want) >= 0 && SameMode(pv, s.Claim) && HasModes(pv, s.Claim.Spec.AccessModes) &&
		deref(pv.Spec.VolumeAttributesClassName) == deref(s.Claim.Spec.VolumeAttributesClassName)
}

func compare(a, b *corev1.PersistentVolume) int {
	sizeA, sizeB := a.Spec.Capacity[corev1.ResourceStorage], b.Spec.Capacity[corev1.ResourceStorage]
	return cmp.Or(cmp.Compare(len(a.Spec.AccessModes), len(b.Spec.AccessModes)), sizeA.Cmp(sizeB), cmp.Compare(a.Name, b.Name))
}

// BindTo returns a copy of a volume that refers to a claim, and whether that changes anything.
func BindTo(pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) (*corev1.PersistentVolume, bool) {
	ref := pv.Spec.ClaimRef
	if IsFor(pv, claim) && ref.UID == claim.UID {
		return pv, false
	}
	next := pv.DeepCopy()
	if !IsFor(pv, claim) {
		metav1.SetMetaDataAnnotation(&next.ObjectMeta, BoundByController, "yes")
	}
	next.Spec.ClaimRef = &corev1.ObjectReference{
		Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
		ResourceVersion: claim.ResourceVersion,
	}
	return next, true
}

// ClaimsOf returns the names of the claims that a pod uses, in its namespace: those it names, and those made for its
// generic ephemeral volumes.
func ClaimsOf(pod *corev1.Pod) []types.NamespacedName {
	var out []types.NamespacedName
	for i := range pod.Spec.Volumes {
		if name := ClaimName(pod, &pod.Spec.Volumes[i]); name != "" {
			out = append(out, types.NamespacedName{Namespace: pod.Namespace, Name: name})
		}
	}
	return out
}

// ClaimName returns the name of the claim behind a volume of a pod, empty if there is none.
func ClaimName(pod *corev1.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return pod.Name + "-" + v.Name
	}
	return ""
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
