// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/podspec"
)

func validateVolume(_ kinds.Request, pv *corev1.PersistentVolume) field.ErrorList {
	errs := ValidateVolumeSpec(&pv.Spec, VolumeRules{Name: pv.Name}, field.NewPath("spec"))
	return append(errs, validateMountOptions(pv)...)
}

func validateVolumeUpdate(_ kinds.Request, new, old *corev1.PersistentVolume) field.ErrorList {
	rules := VolumeRules{Name: new.Name}
	if affinity := old.Spec.NodeAffinity; affinity != nil && affinity.Required != nil {
		rules.InvalidNodeAffinityValues = podspec.HasInvalidNodeValues(affinity.Required.NodeSelectorTerms)
	}
	errs := ValidateVolumeSpec(&new.Spec, rules, field.NewPath("spec"))
	errs = append(errs, validateMountOptions(new)...)

	source := new.Spec.PersistentVolumeSource.DeepCopy()
	if csi := old.Spec.CSI; csi != nil && csi.ControllerExpandSecretRef == nil && source.CSI != nil {
		source.CSI.ControllerExpandSecretRef = nil // may be added
	}
	if !equal.Semantic(*source, old.Spec.PersistentVolumeSource) {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "persistentvolumesource"),
			fmt.Sprintf("spec.persistentvolumesource is immutable after creation\n%v", difference(old.Spec.PersistentVolumeSource, *source))))
	}
	errs = append(errs, check.Immutable(new.Spec.VolumeMode, old.Spec.VolumeMode, field.NewPath("volumeMode"))...)
	if old.Spec.NodeAffinity != nil && !equal.Semantic(renamedTerms(new.Spec.NodeAffinity, old.Spec.NodeAffinity), new.Spec.NodeAffinity) {
		errs = append(errs, field.Invalid(field.NewPath("nodeAffinity"), new.Spec.NodeAffinity, "field is immutable, except for updating from beta label to GA"))
	}
	if old.Spec.VolumeAttributesClassName != nil && new.Spec.VolumeAttributesClassName == nil {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "volumeAttributesClassName"), "update from non-nil value to nil is forbidden"))
	}
	return errs
}

// difference shows how two values differ, for the reader of an error.
func difference(old, new any) string { return cmp.Diff(old, new) }

// renamedTerms returns old with the topology labels that got new names renamed where new renames them.
func renamedTerms(new, old *corev1.VolumeNodeAffinity) *corev1.VolumeNodeAffinity {
	out := old.DeepCopy()
	if new == nil || new.Required == nil || out.Required == nil || len(new.Required.NodeSelectorTerms) != len(out.Required.NodeSelectorTerms) {
		return out
	}
	current := map[string]string{
		corev1.LabelFailureDomainBetaZone:   corev1.LabelTopologyZone,
		corev1.LabelFailureDomainBetaRegion: corev1.LabelTopologyRegion,
		corev1.LabelInstanceType:            corev1.LabelInstanceTypeStable,
		"beta.kubernetes.io/arch":           corev1.LabelArchStable,
		"beta.kubernetes.io/os":             corev1.LabelOSStable,
	}
	for i := range out.Required.NodeSelectorTerms {
		was, is := out.Required.NodeSelectorTerms[i].MatchExpressions, new.Required.NodeSelectorTerms[i].MatchExpressions
		for j := range min(len(was), len(is)) {
			if current[was[j].Key] == is[j].Key { // A key that was emptied is told of for that alone.
				was[j].Key = is[j].Key
			}
		}
	}
	return out
}

// validateMountOptions refuses the annotation with mount options where the kind of volume takes none.
func validateMountOptions(pv *corev1.PersistentVolume) field.ErrorList {
	if _, ok := pv.Annotations[corev1.MountOptionAnnotation]; !ok {
		return nil
	}
	s := &pv.Spec
	if s.GCEPersistentDisk != nil || s.AWSElasticBlockStore != nil || s.Glusterfs != nil || s.NFS != nil || s.RBD != nil ||
		s.Quobyte != nil || s.ISCSI != nil || s.Cinder != nil || s.CephFS != nil || s.AzureFile != nil || s.VsphereVolume != nil ||
		s.AzureDisk != nil || s.PhotonPersistentDisk != nil {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("metadata").Child("annotations", corev1.MountOptionAnnotation), "may not specify mount options for this volume type")}
}

// VolumeRules say how strictly ValidateVolumeSpec judges.
type VolumeRules struct {
	// Name of the volume.
	Name string
	// Inline is set for a spec that stands inside a VolumeAttachment and belongs to no volume of its own.
	Inline bool
	// InvalidNodeAffinityValues overlooks values in node affinity that no label can have.
	InvalidNodeAffinityValues bool
}

const inline = " in the context of inline volumes"

// ValidateVolumeSpec judges the spec of a persistent volume or one inside a volume attachment.
func ValidateVolumeSpec(spec *corev1.PersistentVolumeSpec, rules VolumeRules, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if rules.Inline {
		errs = append(errs, validateInlineVolume(spec, at)...)
	}
	errs = append(errs, podspec.ValidateAccessModes(spec.AccessModes, at.Child("accessModes"), "")...)
	if !rules.Inline {
		errs = append(errs, validateVolumeCapacity(spec.Capacity, at.Child("capacity"))...)
	}
	errs = append(errs, validateReclaimPolicy(spec.PersistentVolumeReclaimPolicy, rules, at.Child("persistentVolumeReclaimPolicy"))...)
	if affinity := spec.NodeAffinity; affinity != nil && !rules.Inline {
		if affinity.Required == nil {
			errs = append(errs, field.Required(at.Child("nodeAffinity", "required"), "must specify required node constraints"))
		} else {
			errs = append(errs, podspec.ValidateNodeSelector(affinity.Required, podspec.Options{InvalidNodeAffinityValues: rules.InvalidNodeAffinityValues}, at.Child("nodeAffinity", "required"))...)
		}
	}
	errs = append(errs, podspec.ValidateSources(volumeSources(spec, rules), at)...)
	if spec.HostPath != nil && path.Clean(spec.HostPath.Path) == "/" && spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		errs = append(errs, field.Forbidden(at.Child("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'"))
	}
	if spec.StorageClassName != "" {
		if rules.Inline {
			errs = append(errs, field.Forbidden(at.Child("storageClassName"), "may not be specified"+inline))
		} else {
			errs = append(errs, check.Subdomain(spec.StorageClassName, at.Child("storageClassName"))...)
		}
	}
	if mode := spec.VolumeMode; mode != nil {
		switch {
		case !rules.Inline:
			errs = append(errs, supported(*mode, at.Child("volumeMode"), corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
		case *mode != corev1.PersistentVolumeFilesystem:
			errs = append(errs, field.Forbidden(at.Child("volumeMode"), "may not specify volumeMode other than "+string(corev1.PersistentVolumeFilesystem)+inline))
		}
	}
	if class := spec.VolumeAttributesClassName; class != nil {
		if *class == "" {
			errs = append(errs, field.Required(at.Child("volumeAttributesClassName"), "an empty string is disallowed"))
		} else {
			errs = append(errs, check.Subdomain(*class, at.Child("volumeAttributesClassName"))...)
		}
		if spec.CSI == nil {
			errs = append(errs, field.Required(at.Child("csi"), "has to be specified when using volumeAttributesClassName"))
		}
	}
	return errs
}

func validateInlineVolume(spec *corev1.PersistentVolumeSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if spec.ClaimRef != nil {
		errs = append(errs, field.Forbidden(at.Child("claimRef"), "may not be specified"+inline))
	}
	if len(spec.Capacity) > 0 {
		errs = append(errs, field.Forbidden(at.Child("capacity"), "may not be specified"+inline))
	}
	if spec.CSI == nil {
		errs = append(errs, field.Required(at.Child("csi"), "has to be specified"+inline))
	}
	if spec.NodeAffinity != nil {
		errs = append(errs, field.Forbidden(at.Child("nodeAffinity"), "may not be specified"+inline))
	}
	return errs
}

func validateVolumeCapacity(capacity corev1.ResourceList, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(capacity) == 0 {
		errs = append(errs, field.Required(at, ""))
	}
	if _, ok := capacity[corev1.ResourceStorage]; !ok || len(capacity) > 1 {
		errs = append(errs, field.NotSupported(at, capacity, []corev1.ResourceName{corev1.ResourceStorage}))
	}
	for name, quantity := range capacity {
		if quantity.Value() < 0 {
			errs = append(errs, field.Invalid(at.Key(string(name)), quantity.Value(), "must be a valid resource quantity"))
		}
		errs = append(errs, podspec.ValidatePositive(quantity, at.Key(string(name)))...)
	}
	return errs
}

func validateReclaimPolicy(policy corev1.PersistentVolumeReclaimPolicy, rules VolumeRules, at *field.Path) field.ErrorList {
	if policy == "" {
		return nil
	}
	if !rules.Inline {
		return supported(policy, at, corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimRetain)
	}
	if policy != corev1.PersistentVolumeReclaimRetain {
		return field.ErrorList{field.Forbidden(at, "may only be "+string(corev1.PersistentVolumeReclaimRetain)+inline)}
	}
	return nil
}

// accessModes writes access modes in their short forms.
func accessModes(modes []corev1.PersistentVolumeAccessMode) string {
	var short []string
	for _, m := range []struct {
		mode corev1.PersistentVolumeAccessMode
		name string
	}{{corev1.ReadWriteOnce, "RWO"}, {corev1.ReadOnlyMany, "ROX"}, {corev1.ReadWriteMany, "RWX"}, {corev1.ReadWriteOncePod, "RWOP"}} {
		if slices.Contains(modes, m.mode) {
			short = append(short, m.name)
		}
	}
	return strings.Join(short, ",")
}
