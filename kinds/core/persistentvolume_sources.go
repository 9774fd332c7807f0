// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/podspec"
)

// volumeSources lists the kinds of volume that a persistent volume can be, in the order in which a second one is refused.
func volumeSources(spec *corev1.PersistentVolumeSpec, rules VolumeRules) []podspec.Source {
	return []podspec.Source{
		{Name: "hostPath", Set: spec.HostPath != nil, Validate: func(p *field.Path) field.ErrorList { return podspec.ValidateHostPath(spec.HostPath, p) }},
		{Name: "gcePersistentDisk", Path: "persistentDisk", Set: spec.GCEPersistentDisk != nil, Validate: func(p *field.Path) field.ErrorList {
			return podspec.ValidatePartitioned("pdName", spec.GCEPersistentDisk.PDName, spec.GCEPersistentDisk.Partition, p)
		}},
		{Name: "awsElasticBlockStore", Set: spec.AWSElasticBlockStore != nil, Validate: func(p *field.Path) field.ErrorList {
			return podspec.ValidatePartitioned("volumeID", spec.AWSElasticBlockStore.VolumeID, spec.AWSElasticBlockStore.Partition, p)
		}},
		{Name: "glusterfs", Set: spec.Glusterfs != nil, Validate: func(p *field.Path) field.ErrorList { return validateGlusterfs(spec.Glusterfs, p) }},
		{Name: "flocker", Set: spec.Flocker != nil, Validate: func(p *field.Path) field.ErrorList { return podspec.ValidateFlocker(spec.Flocker, p) }},
		{Name: "nfs", Set: spec.NFS != nil, Validate: func(p *field.Path) field.ErrorList { return podspec.ValidateNFS(spec.NFS, p) }},
		{Name: "rbd", Set: spec.RBD != nil, Validate: func(p *field.Path) field.ErrorList {
			return podspec.ValidateCeph(spec.RBD.CephMonitors, &spec.RBD.RBDImage, p)
		}},
		{Name: "quobyte", Set: spec.Quobyte != nil, Validate: func(p *field.Path) field.ErrorList { return podspec.ValidateQuobyte(spec.Quobyte, p) }},
		{Name: "cephFS", Path: "cephfs", Set: spec.CephFS != nil, Validate: func(p *field.Path) field.ErrorList {
			return podspec.ValidateCeph(spec.CephFS.Monitors, nil, p)
		}},
		{Name: "iscsi", Set: spec.ISCSI != nil, Validate: func(p *field.Path) field.ErrorList { return validateISCSI(spec.ISCSI, rules.Name, p) }},
		{Name: "cinder", Set: spec.Cinder != nil, Validate: func(p *field.Path) field.ErrorList {
			return append(podspec.Require(p, "volumeID", spec.Cinder.VolumeID), requireSecret(spec.Cinder.SecretRef, p)...)
		}},
		{Name: "fc", Set: spec.FC != nil, Validate: func(p *field.Path) field.ErrorList { return podspec.ValidateFC(spec.FC, p) }},
		// Nobody has ever refused this one as a second.
		{Name: "flexVolume", Beside: true, Set: spec.FlexVolume != nil, Validate: func(p *field.Path) field.ErrorList {
			return podspec.ValidateFlex(spec.FlexVolume.Driver, spec.FlexVolume.Options, p)
		}},
		{Name: "azureFile", Set: spec.AzureFile != nil, Validate: func(p *field.Path) field.ErrorList { return validateAzureFile(spec.AzureFile, p) }},
		{Name: "vsphereVolume", Set: spec.VsphereVolume != nil, Validate: func(p *field.Path) field.ErrorList {
			return podspec.Require(p, "volumePath", spec.VsphereVolume.VolumePath)
		}},
		{Name: "photonPersistentDisk", Set: spec.PhotonPersistentDisk != nil, Validate: func(p *field.Path) field.ErrorList {
			return podspec.Require(p, "pdID", spec.PhotonPersistentDisk.PdID)
		}},
		{Name: "portworxVolume", Set: spec.PortworxVolume != nil, Validate: func(p *field.Path) field.ErrorList {
			return podspec.Require(p, "volumeID", spec.PortworxVolume.VolumeID)
		}},
		{Name: "azureDisk", Set: spec.AzureDisk != nil, Validate: func(p *field.Path) field.ErrorList { return podspec.ValidateAzureDisk(spec.AzureDisk, p) }},
		{Name: "scaleIO", Set: spec.ScaleIO != nil, Validate: func(p *field.Path) field.ErrorList {
			return podspec.Require(p, "gateway", spec.ScaleIO.Gateway, "system", spec.ScaleIO.System, "volumeName", spec.ScaleIO.VolumeName)
		}},
		{Name: "local", Set: spec.Local != nil, Validate: func(p *field.Path) field.ErrorList { return validateLocal(spec, p) }},
		{Name: "storageos", Set: spec.StorageOS != nil, Validate: func(p *field.Path) field.ErrorList { return validateStorageOS(spec.StorageOS, p) }},
		{Name: "csi", Set: spec.CSI != nil, Validate: func(p *field.Path) field.ErrorList { return validateCSI(spec.CSI, p) }},
	}
}

func validateGlusterfs(source *corev1.GlusterfsPersistentVolumeSource, path *field.Path) field.ErrorList {
	errs := podspec.Require(path, "endpoints", source.EndpointsName, "path", source.Path)
	if namespace := source.EndpointsNamespace; namespace != nil {
		at := path.Child("endpointsNamespace")
		if *namespace == "" {
			return append(errs, field.Invalid(at, *namespace, "if the endpointnamespace is set, it must be a valid namespace name"))
		}
		errs = append(errs, check.Label(*namespace, at)...)
	}
	return errs
}

func validateISCSI(source *corev1.ISCSIPersistentVolumeSource, name string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if source.InitiatorName != nil && len(name+":"+source.TargetPortal) > podspec.MaxInitiator {
		errs = append(errs, field.Invalid(path.Child("targetportal"), source.TargetPortal, podspec.InitiatorTooLong))
	}
	errs = append(errs, podspec.ValidateISCSI(podspec.ISCSI{
		Portal: source.TargetPortal, IQN: source.IQN, LUN: source.Lun, Initiator: source.InitiatorName,
		NeedsSecret: source.DiscoveryCHAPAuth || source.SessionCHAPAuth, HasSecret: source.SecretRef != nil,
	}, path)...)
	if source.SecretRef != nil {
		errs = append(errs, podspec.Require(path.Child("secretRef"), "name", source.SecretRef.Name)...)
	}
	return errs
}

func validateAzureFile(source *corev1.AzureFilePersistentVolumeSource, path *field.Path) field.ErrorList {
	errs := podspec.Require(path, "secretName", source.SecretName, "shareName", source.ShareName)
	if source.SecretNamespace != nil {
		errs = append(errs, podspec.Require(path, "secretNamespace", *source.SecretNamespace)...)
	}
	return errs
}

// validateLocal requires that a volume on one node says on which.
func validateLocal(spec *corev1.PersistentVolumeSpec, path *field.Path) field.ErrorList {
	errs := podspec.Require(path, "path", spec.Local.Path)
	errs = append(errs, podspec.ValidateNoBacksteps(spec.Local.Path, path.Child("path"))...)
	if spec.NodeAffinity == nil {
		errs = append(errs, field.Required(field.NewPath("spec", "nodeAffinity"), "Local volume requires node affinity"))
	}
	return errs
}

func validateStorageOS(source *corev1.StorageOSPersistentVolumeSource, path *field.Path) field.ErrorList {
	errs := podspec.ValidateStorageOS(source.VolumeName, source.VolumeNamespace, path)
	if source.SecretRef != nil {
		errs = append(errs, podspec.Require(path.Child("secretRef"), "name", source.SecretRef.Name, "namespace", source.SecretRef.Namespace)...)
	}
	return errs
}

// requireSecret requires that a reference to a secret, if any, is whole.
func requireSecret(ref *corev1.SecretReference, path *field.Path) field.ErrorList {
	if ref == nil {
		return nil
	}
	return podspec.Require(path.Child("secretRef"), "name", ref.Name, "namespace", ref.Namespace)
}

func validateCSI(source *corev1.CSIPersistentVolumeSource, path *field.Path) field.ErrorList {
	errs := podspec.ValidateDriverName(source.Driver, path.Child("driver"))
	errs = append(errs, podspec.Require(path, "volumeHandle", source.VolumeHandle)...)
	for _, s := range []struct {
		name string
		ref  *corev1.SecretReference
	}{
		{"controllerPublishSecretRef", source.ControllerPublishSecretRef},
		{"controllerExpandSecretRef", source.ControllerExpandSecretRef},
		{"nodePublishSecretRef", source.NodePublishSecretRef},
		{"nodeExpandSecretRef", source.NodeExpandSecretRef},
	} {
		if s.ref == nil {
			continue
		}
		at := path.Child(s.name)
		if bad := podspec.Require(at, "name", s.ref.Name); len(bad) > 0 {
			errs = append(errs, bad...)
		} else {
			errs = append(errs, check.Subdomain(s.ref.Name, at.Child("name"))...)
		}
		if bad := podspec.Require(at, "namespace", s.ref.Namespace); len(bad) > 0 {
			errs = append(errs, bad...)
		} else {
			errs = append(errs, check.Label(s.ref.Namespace, at.Child("namespace"))...)
		}
	}
	return errs
}
