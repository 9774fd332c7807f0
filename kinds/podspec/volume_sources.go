// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/objectmeta"
)

// sourcesOf lists the kinds of volume that a pod can have, in the order in which a second one is refused.
func sourcesOf(v *corev1.Volume, meta *metav1.ObjectMeta, opts Options, at *field.Path) []Source {
	return []Source{
		{Name: "emptyDir", Set: v.EmptyDir != nil, Validate: func(p *field.Path) field.ErrorList { return validateEmptyDir(v.EmptyDir, p) }},
		{Name: "hostPath", Set: v.HostPath != nil, Validate: func(p *field.Path) field.ErrorList { return ValidateHostPath(v.HostPath, p) }},
		{Name: "gitRepo", Set: v.GitRepo != nil, Validate: func(p *field.Path) field.ErrorList {
			return append(Require(p, "repository", v.GitRepo.Repository), validateDescending(v.GitRepo.Directory, p.Child("directory"))...)
		}},
		{Name: "gcePersistentDisk", Path: "persistentDisk", Set: v.GCEPersistentDisk != nil, Validate: func(p *field.Path) field.ErrorList {
			return ValidatePartitioned("pdName", v.GCEPersistentDisk.PDName, v.GCEPersistentDisk.Partition, p)
		}},
		{Name: "awsElasticBlockStore", Set: v.AWSElasticBlockStore != nil, Validate: func(p *field.Path) field.ErrorList {
			return ValidatePartitioned("volumeID", v.AWSElasticBlockStore.VolumeID, v.AWSElasticBlockStore.Partition, p)
		}},
		{Name: "secret", Set: v.Secret != nil, Validate: func(p *field.Path) field.ErrorList {
			return validateObject("secretName", v.Secret.SecretName, v.Secret.DefaultMode, v.Secret.Items, p)
		}},
		{Name: "nfs", Set: v.NFS != nil, Validate: func(p *field.Path) field.ErrorList { return ValidateNFS(v.NFS, p) }},
		{Name: "iscsi", Set: v.ISCSI != nil, Validate: func(p *field.Path) field.ErrorList {
			return ValidateISCSI(ISCSI{
				Portal: v.ISCSI.TargetPortal, IQN: v.ISCSI.IQN, LUN: v.ISCSI.Lun, Initiator: v.ISCSI.InitiatorName, Inline: true,
				NeedsSecret: v.ISCSI.DiscoveryCHAPAuth || v.ISCSI.SessionCHAPAuth, HasSecret: v.ISCSI.SecretRef != nil,
			}, p)
		}},
		{Name: "glusterfs", Set: v.Glusterfs != nil, Validate: func(p *field.Path) field.ErrorList {
			return Require(p, "endpoints", v.Glusterfs.EndpointsName, "path", v.Glusterfs.Path)
		}},
		{Name: "flocker", Set: v.Flocker != nil, Validate: func(p *field.Path) field.ErrorList { return ValidateFlocker(v.Flocker, p) }},
		{Name: "persistentVolumeClaim", Set: v.PersistentVolumeClaim != nil, Validate: func(p *field.Path) field.ErrorList {
			return Require(p, "claimName", v.PersistentVolumeClaim.ClaimName)
		}},
		{Name: "rbd", Set: v.RBD != nil, Validate: func(p *field.Path) field.ErrorList { return ValidateCeph(v.RBD.CephMonitors, &v.RBD.RBDImage, p) }},
		{Name: "cinder", Set: v.Cinder != nil, Validate: func(p *field.Path) field.ErrorList {
			return append(Require(p, "volumeID", v.Cinder.VolumeID), requireSecretName(v.Cinder.SecretRef, p)...)
		}},
		{Name: "cephFS", Path: "cephfs", Set: v.CephFS != nil, Validate: func(p *field.Path) field.ErrorList { return ValidateCeph(v.CephFS.Monitors, nil, p) }},
		{Name: "quobyte", Set: v.Quobyte != nil, Validate: func(p *field.Path) field.ErrorList { return ValidateQuobyte(v.Quobyte, p) }},
		// The name of this field is misspelt on the wire of errors, and has always been.
		{Name: "downwarAPI", Path: "downwardAPI", Set: v.DownwardAPI != nil, Validate: func(p *field.Path) field.ErrorList {
			errs := validateMode(v.DownwardAPI.DefaultMode, p.Child("defaultMode"))
			for i := range v.DownwardAPI.Items {
				errs = append(errs, validateDownwardFile(&v.DownwardAPI.Items[i], p)...)
			}
			return errs
		}},
		{Name: "fc", Set: v.FC != nil, Validate: func(p *field.Path) field.ErrorList { return ValidateFC(v.FC, p) }},
		{Name: "flexVolume", Set: v.FlexVolume != nil, Validate: func(p *field.Path) field.ErrorList {
			return ValidateFlex(v.FlexVolume.Driver, v.FlexVolume.Options, p)
		}},
		{Name: "configMap", Set: v.ConfigMap != nil, Validate: func(p *field.Path) field.ErrorList {
			return validateObject("name", v.ConfigMap.Name, v.ConfigMap.DefaultMode, v.ConfigMap.Items, p)
		}},
		{Name: "azureFile", Set: v.AzureFile != nil, Validate: func(p *field.Path) field.ErrorList {
			return Require(p, "secretName", v.AzureFile.SecretName, "shareName", v.AzureFile.ShareName)
		}},
		{Name: "vsphereVolume", Set: v.VsphereVolume != nil, Validate: func(p *field.Path) field.ErrorList {
			return Require(p, "volumePath", v.VsphereVolume.VolumePath)
		}},
		{Name: "photonPersistentDisk", Set: v.PhotonPersistentDisk != nil, Validate: func(p *field.Path) field.ErrorList {
			return Require(p, "pdID", v.PhotonPersistentDisk.PdID)
		}},
		{Name: "portworxVolume", Set: v.PortworxVolume != nil, Validate: func(p *field.Path) field.ErrorList {
			return Require(p, "volumeID", v.PortworxVolume.VolumeID)
		}},
		{Name: "azureDisk", Set: v.AzureDisk != nil, Validate: func(p *field.Path) field.ErrorList { return ValidateAzureDisk(v.AzureDisk, p) }},
		{Name: "storageos", Set: v.StorageOS != nil, Validate: func(p *field.Path) field.ErrorList {
			return append(ValidateStorageOS(v.StorageOS.VolumeName, v.StorageOS.VolumeNamespace, p), requireSecretName(v.StorageOS.SecretRef, p)...)
		}},
		{Name: "projected", Set: v.Projected != nil, Validate: func(p *field.Path) field.ErrorList { return validateProjected(v.Projected, opts, p) }},
		{Name: "scaleIO", Set: v.ScaleIO != nil, Validate: func(p *field.Path) field.ErrorList {
			return Require(p, "gateway", v.ScaleIO.Gateway, "system", v.ScaleIO.System, "volumeName", v.ScaleIO.VolumeName)
		}},
		{Name: "csi", Set: v.CSI != nil, Validate: func(p *field.Path) field.ErrorList { return validateInlineCSI(v.CSI, p) }},
		{Name: "ephemeral", Set: v.Ephemeral != nil, Validate: func(p *field.Path) field.ErrorList {
			return validateEphemeral(v, meta, at, p)
		}},
		{Name: "image", Set: v.Image != nil, Validate: func(p *field.Path) field.ErrorList {
			var errs field.ErrorList
			if opts.Pod { // a template may leave the image to whoever makes pods of it
				errs = Require(p, "reference", v.Image.Reference)
			}
			return append(errs, validatePullPolicy(v.Image.PullPolicy, p.Child("pullPolicy"))...)
		}},
	}
}

func validateEmptyDir(source *corev1.EmptyDirVolumeSource, at *field.Path) field.ErrorList {
	if source.SizeLimit != nil && source.SizeLimit.Sign() < 0 {
		return field.ErrorList{field.Forbidden(at.Child("sizeLimit"), "SizeLimit field must be a valid resource quantity")}
	}
	return nil
}

// validateObject judges a volume made of a secret or a config map.
func validateObject(nameField, name string, mode *int32, items []corev1.KeyToPath, at *field.Path) field.ErrorList {
	errs := Require(at, nameField, name)
	errs = append(errs, validateMode(mode, at.Child("defaultMode"))...)
	return append(errs, validateKeys(items, at.Child("items"))...)
}

func validateInlineCSI(source *corev1.CSIVolumeSource, at *field.Path) field.ErrorList {
	errs := ValidateDriverName(source.Driver, at.Child("driver"))
	if ref := source.NodePublishSecretRef; ref != nil {
		if ref.Name == "" {
			return append(errs, field.Required(at.Child("nodePublishSecretRef", "name"), ""))
		}
		for _, msg := range objectmeta.Subdomain(ref.Name, false) {
			errs = append(errs, field.Invalid(at.Child("name"), ref.Name, msg))
		}
	}
	return errs
}

func requireSecretName(ref *corev1.LocalObjectReference, at *field.Path) field.ErrorList {
	if ref == nil {
		return nil
	}
	return Require(at.Child("secretRef"), "name", ref.Name)
}
