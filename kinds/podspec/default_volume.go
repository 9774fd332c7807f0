// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	corev1 "k8s.io/api/core/v1"
)

func defaultVolume(v *corev1.Volume) {
	source := &v.VolumeSource
	if *source == (corev1.VolumeSource{}) {
		source.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
	if source.Image != nil {
		defaultPullPolicy(&source.Image.PullPolicy, source.Image.Reference)
	}
	DefaultHostPath(source.HostPath)
	if source.Secret != nil {
		setNil(&source.Secret.DefaultMode, corev1.SecretVolumeSourceDefaultMode)
	}
	if source.ConfigMap != nil {
		setNil(&source.ConfigMap.DefaultMode, corev1.ConfigMapVolumeSourceDefaultMode)
	}
	if source.DownwardAPI != nil {
		setNil(&source.DownwardAPI.DefaultMode, corev1.DownwardAPIVolumeSourceDefaultMode)
		defaultDownwardItems(source.DownwardAPI.Items)
	}
	defaultProjected(source.Projected)
	if source.ISCSI != nil {
		setZero(&source.ISCSI.ISCSIInterface, "default")
	}
	if source.RBD != nil {
		setZero(&source.RBD.RBDPool, "rbd")
		setZero(&source.RBD.RadosUser, "admin")
		setZero(&source.RBD.Keyring, "/etc/ceph/keyring")
	}
	DefaultAzureDisk(source.AzureDisk)
	if source.ScaleIO != nil {
		setZero(&source.ScaleIO.StorageMode, "ThinProvisioned")
		setZero(&source.ScaleIO.FSType, "xfs")
	}
	if source.Ephemeral != nil && source.Ephemeral.VolumeClaimTemplate != nil {
		DefaultClaimSpec(&source.Ephemeral.VolumeClaimTemplate.Spec)
	}
}

// DefaultHostPath fills the unset fields of a host path, of a pod's or a persistent volume; nil is left alone.
func DefaultHostPath(source *corev1.HostPathVolumeSource) {
	if source != nil {
		setNil(&source.Type, corev1.HostPathUnset)
	}
}

// DefaultAzureDisk fills the unset fields of an Azure disk, of a pod's or a persistent volume; nil is left alone.
func DefaultAzureDisk(source *corev1.AzureDiskVolumeSource) {
	if source == nil {
		return
	}
	setNil(&source.CachingMode, corev1.AzureDataDiskCachingReadWrite)
	setNil(&source.FSType, "ext4")
	setNil(&source.ReadOnly, false)
	setNil(&source.Kind, corev1.AzureSharedBlobDisk)
}

func defaultProjected(source *corev1.ProjectedVolumeSource) {
	if source == nil {
		return
	}
	setNil(&source.DefaultMode, corev1.ProjectedVolumeSourceDefaultMode)
	for i := range source.Sources {
		s := &source.Sources[i]
		if s.DownwardAPI != nil {
			defaultDownwardItems(s.DownwardAPI.Items)
		}
		if s.ServiceAccountToken != nil {
			setNil(&s.ServiceAccountToken.ExpirationSeconds, tokenLifetime)
		}
	}
}

func defaultDownwardItems(items []corev1.DownwardAPIVolumeFile) {
	for i := range items {
		defaultFieldRef(items[i].FieldRef)
	}
}
