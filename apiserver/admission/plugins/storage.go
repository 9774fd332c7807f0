// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"cmp"
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
)

var storageClasses = schema.GroupResource{Group: storagev1.GroupName, Resource: "storageclasses"}

const (
	defaultClassNote     = "storageclass.kubernetes.io/is-default-class"
	defaultClassNoteBeta = "storageclass.beta.kubernetes.io/is-default-class"
)

// defaultStorageClass gives claims without a class the default one.
type defaultStorageClass struct{ reader admission.Reader }

// Admit implements admission.Mutator.
func (p defaultStorageClass) Admit(ctx context.Context, a *admission.Attributes) error {
	claim, ok := admission.Object[*corev1.PersistentVolumeClaim](a)
	if !ok || !a.Is("", "persistentvolumeclaims") || a.Operation != admission.Create {
		return nil
	}
	if _, old := claim.Annotations[corev1.BetaStorageClassAnnotation]; old || claim.Spec.StorageClassName != nil {
		return nil
	}
	list, err := admission.List[*storagev1.StorageClass](ctx, p.reader, storageClasses, "")
	if err != nil {
		return admission.Forbidden(a, err)
	}
	list = slices.DeleteFunc(list, func(c *storagev1.StorageClass) bool {
		return c.Annotations[defaultClassNote] != "true" && c.Annotations[defaultClassNoteBeta] != "true"
	})
	if len(list) > 0 {
		claim.Spec.StorageClassName = new(newest(list).Name)
	}
	return nil
}

// newest returns the object made last; of those made in the same second the first by name.
func newest[T metav1.Object](list []T) T {
	return slices.MinFunc(list, func(x, y T) int {
		return cmp.Or(y.GetCreationTimestamp().Compare(x.GetCreationTimestamp().Time), cmp.Compare(x.GetName(), y.GetName()))
	})
}

// storageInUse puts the finalizers on storage objects that keep them while somebody uses them.
type storageInUse struct{}

// Admit implements admission.Mutator.
func (storageInUse) Admit(_ context.Context, a *admission.Attributes) error {
	if a.Operation != admission.Create || a.Subresource != "" {
		return nil
	}
	finalizer := ""
	switch a.Object.(type) {
	case *corev1.PersistentVolume:
		finalizer = "kubernetes.io/pv-protection"
	case *corev1.PersistentVolumeClaim:
		finalizer = "kubernetes.io/pvc-protection"
	case *storagev1.VolumeAttributesClass:
		finalizer = "kubernetes.io/vac-protection"
	default:
		return nil
	}
	obj := a.Meta()
	if !slices.Contains(obj.GetFinalizers(), finalizer) {
		obj.SetFinalizers(append(slices.Clip(obj.GetFinalizers()), finalizer))
	}
	return nil
}

// claimResize allows claims to grow only where their class says so.
type claimResize struct{ reader admission.Reader }

// Validate implements admission.Validator.
func (p claimResize) Validate(ctx context.Context, a *admission.Attributes) error {
	claim, ok1 := admission.Object[*corev1.PersistentVolumeClaim](a)
	old, ok2 := admission.Old[*corev1.PersistentVolumeClaim](a)
	if !ok1 || !ok2 || !a.Is("", "persistentvolumeclaims") || a.Operation != admission.Update {
		return nil
	}
	now, before := claim.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
	if now.Cmp(before) <= 0 {
		return nil
	}
	if old.Status.Phase != corev1.ClaimBound {
		return admission.Forbiddenf(a, "Only bound persistent volume claims can be expanded")
	}
	name := classOf(claim)
	if name != "" && name == classOf(old) {
		class, found, err := admission.GetAny[*storagev1.StorageClass](ctx, p.reader, storageClasses, "", name)
		if err == nil && found && class.AllowVolumeExpansion != nil && *class.AllowVolumeExpansion {
			return nil
		}
	}
	return admission.Forbiddenf(a, "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize")
}

func classOf(claim *corev1.PersistentVolumeClaim) string {
	if name, ok := claim.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return name
	}
	if claim.Spec.StorageClassName != nil {
		return *claim.Spec.StorageClassName
	}
	return ""
}
