// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/podspec"
	"kogge.dev/kogge/kinds/table"
)

func persistentVolume() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:       "persistentvolumes",
		Singular:       "persistentvolume",
		AnswersDeleted: true,
		ShortNames:     []string{"pv"},
		NoGeneration:   true,
		Storage:        kinds.Storage{Prefix: "persistentvolumes"},
		Subresources:   []kinds.Subresource{kinds.Status[*corev1.PersistentVolume](prepareVolumeStatus, nil)},
	}, version.WithKind("PersistentVolume"),
		func() *corev1.PersistentVolume { return &corev1.PersistentVolume{} },
		func() runtime.Object { return &corev1.PersistentVolumeList{} },
		kinds.Strategy[*corev1.PersistentVolume]{
			Default: defaultVolume,
			PrepareCreate: func(req kinds.Request, pv *corev1.PersistentVolume) {
				pv.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending, LastPhaseTransitionTime: new(req.Now)}
			},
			PrepareUpdate:  func(_ kinds.Request, new, old *corev1.PersistentVolume) { new.Status = old.Status },
			Validate:       validateVolume,
			ValidateUpdate: validateVolumeUpdate,
			Warn:           warnVolume,
			Columns:        volumeColumns(),
			Row:            volumeRow,
		})
}

func defaultVolume(pv *corev1.PersistentVolume) {
	if pv.Status.Phase == "" {
		pv.Status.Phase = corev1.VolumePending
	}
	if pv.Spec.PersistentVolumeReclaimPolicy == "" {
		pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	}
	if pv.Spec.VolumeMode == nil {
		pv.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeFilesystem)
	}
	podspec.RoundUp(pv.Spec.Capacity)
	podspec.DefaultHostPath(pv.Spec.HostPath)
	podspec.DefaultAzureDisk(pv.Spec.AzureDisk)
	if rbd := pv.Spec.RBD; rbd != nil {
		rbd.RBDPool = orText(rbd.RBDPool, "rbd")
		rbd.RadosUser = orText(rbd.RadosUser, "admin")
		rbd.Keyring = orText(rbd.Keyring, "/etc/ceph/keyring")
	}
	if iscsi := pv.Spec.ISCSI; iscsi != nil {
		iscsi.ISCSIInterface = orText(iscsi.ISCSIInterface, "default")
	}
	if sio := pv.Spec.ScaleIO; sio != nil {
		sio.StorageMode = orText(sio.StorageMode, "ThinProvisioned")
		sio.FSType = orText(sio.FSType, "xfs")
	}
}

// prepareVolumeStatus stamps changes of the phase, unless the client did.
func prepareVolumeStatus(req kinds.Request, new, old *corev1.PersistentVolume) {
	new.Spec = old.Spec
	stamp, before := new.Status.LastPhaseTransitionTime, old.Status.LastPhaseTransitionTime
	switch {
	case new.Status.Phase == old.Status.Phase:
		if stamp == nil {
			new.Status.LastPhaseTransitionTime = before
		}
	case stamp == nil || stamp.Equal(before):
		new.Status.LastPhaseTransitionTime = ptr.To(req.Now)
	}
}

func warnVolume(_ kinds.Request, pv, _ *corev1.PersistentVolume) []string {
	var warnings []string
	say := func(path *field.Path, message string) {
		warnings = append(warnings, fmt.Sprintf("%s: %s", path, message))
	}
	annotations, spec := field.NewPath("metadata", "annotations"), field.NewPath("spec")
	if _, ok := pv.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		say(annotations.Key(corev1.BetaStorageClassAnnotation), "deprecated since v1.8; use \"storageClassName\" attribute instead")
	}
	if _, ok := pv.Annotations[corev1.MountOptionAnnotation]; ok {
		say(annotations.Key(corev1.MountOptionAnnotation), "deprecated since v1.31; use \"mountOptions\" attribute instead")
	}
	if pv.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		say(spec.Child("persistentVolumeReclaimPolicy"), "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.")
	}
	if affinity := pv.Spec.NodeAffinity; affinity != nil && affinity.Required != nil {
		path := spec.Child("nodeAffinity", "required", "nodeSelectorTerms")
		for i, term := range affinity.Required.NodeSelectorTerms {
			warnings = append(warnings, podspec.NodeTermWarnings(term, path.Index(i))...)
		}
	}
	for _, gone := range []struct {
		used      bool
		name, why string
	}{
		{pv.Spec.CephFS != nil, "cephfs", "deprecated in v1.28, non-functional in v1.31+"},
		{pv.Spec.PhotonPersistentDisk != nil, "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"},
		{pv.Spec.ScaleIO != nil, "scaleIO", "deprecated in v1.16, non-functional in v1.22+"},
		{pv.Spec.StorageOS != nil, "storageOS", "deprecated in v1.22, non-functional in v1.25+"},
		{pv.Spec.Glusterfs != nil, "glusterfs", "deprecated in v1.25, non-functional in v1.26+"},
		{pv.Spec.RBD != nil, "rbd", "deprecated in v1.28, non-functional in v1.31+"},
	} {
		if gone.used {
			say(spec.Child(gone.name), gone.why)
		}
	}
	return warnings
}

func volumeColumns() []metav1.TableColumnDefinition {
	spec, status := corev1.PersistentVolumeSpec{}.SwaggerDoc(), corev1.PersistentVolumeStatus{}.SwaggerDoc()
	return []metav1.TableColumnDefinition{
		table.Name(),
		table.Text("Capacity", spec["capacity"]),
		table.Text("Access Modes", spec["accessModes"]),
		table.Text("Reclaim Policy", spec["persistentVolumeReclaimPolicy"]),
		table.Text("Status", status["phase"]),
		table.Text("Claim", spec["claimRef"]),
		table.Text("StorageClass", "StorageClass of the pv"),
		table.Text("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
		table.Text("Reason", status["reason"]),
		table.Age(),
		table.Wide(table.Text("VolumeMode", spec["volumeMode"])),
	}
}

func volumeRow(pv *corev1.PersistentVolume, now time.Time) []any {
	claim := ""
	if ref := pv.Spec.ClaimRef; ref != nil {
		claim = ref.Namespace + "/" + ref.Name
	}
	capacity := pv.Spec.Capacity[corev1.ResourceStorage]
	phase := string(pv.Status.Phase)
	if pv.DeletionTimestamp != nil {
		phase = "Terminating"
	}
	class, ok := pv.Annotations[corev1.BetaStorageClassAnnotation]
	if !ok {
		class = pv.Spec.StorageClassName
	}
	return []any{
		pv.Name, capacity.String(), accessModes(pv.Spec.AccessModes), string(pv.Spec.PersistentVolumeReclaimPolicy), phase, claim,
		class, table.Or(pv.Spec.VolumeAttributesClassName, table.Unset), pv.Status.Reason,
		table.Since(pv.CreationTimestamp, now), table.Or(pv.Spec.VolumeMode, table.Unset),
	}
}
