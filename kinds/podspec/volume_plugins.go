// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"net"
	"path"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds/check"
)

// The rules in this file judge sources that pods and persistent volumes share.

// ISCSI names are in one of three forms, told apart by how they begin.
var iscsiForms = map[string]*regexp.Regexp{
	"iqn": regexp.MustCompile(`iqn\.\d{4}-\d{2}\.([[:alnum:]-.]+)(:[^,;*&$|\s]+)$`),
	"eui": regexp.MustCompile(`^eui.[[:alnum:]]{16}$`),
	"naa": regexp.MustCompile(`^naa.[[:alnum:]]{32}$`),
}

// MaxInitiator is how long the name of a volume and its portal may be together where an initiator is named.
const MaxInitiator = 64

// InitiatorTooLong says that they are longer.
const InitiatorTooLong = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified."

// ISCSI is what ValidateISCSI judges.
type ISCSI struct {
	Portal, IQN string
	LUN         int32
	Initiator   *string
	// NeedsSecret and HasSecret tell whether the target asks for one and whether one is named.
	NeedsSecret, HasSecret bool
	// Inline is set for a volume in a pod.
	Inline bool
}

// ValidateISCSI judges an iSCSI target.
func ValidateISCSI(v ISCSI, at *field.Path) field.ErrorList {
	errs := Require(at, "targetPortal", v.Portal)
	if v.IQN == "" {
		errs = append(errs, field.Required(at.Child("iqn"), ""))
	} else {
		errs = append(errs, validateISCSIName(v.IQN, v.Inline, at.Child("iqn"))...)
	}
	if v.LUN < 0 || v.LUN > 255 {
		errs = append(errs, field.Invalid(at.Child("lun"), v.LUN, validation.InclusiveRangeError(0, 255)))
	}
	if v.NeedsSecret && !v.HasSecret {
		errs = append(errs, field.Required(at.Child("secretRef"), ""))
	}
	if v.Initiator != nil {
		errs = append(errs, validateISCSIName(*v.Initiator, v.Inline, at.Child("initiatorname"))...)
	}
	return errs
}

func validateISCSIName(name string, inline bool, at *field.Path) field.ErrorList {
	for prefix, form := range iscsiForms {
		if strings.HasPrefix(name, prefix) {
			if form.MatchString(name) {
				return nil
			}
			return field.ErrorList{field.Invalid(at, name, "must be valid format")}
		}
	}
	if inline {
		return field.ErrorList{field.Invalid(at, name, "must be valid format starting with iqn, eui, or naa")}
	}
	return field.ErrorList{field.Invalid(at, name, "must be valid format")}
}

// ValidateHostPath judges a file or directory of the node.
func ValidateHostPath(source *corev1.HostPathVolumeSource, at *field.Path) field.ErrorList {
	if source.Path == "" {
		return field.ErrorList{field.Required(at.Child("path"), "")}
	}
	errs := ValidateNoBacksteps(source.Path, at.Child("path"))
	if source.Type != nil {
		errs = append(errs, oneOf(*source.Type, at.Child("type"), corev1.HostPathUnset, corev1.HostPathBlockDev, corev1.HostPathCharDev,
			corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate, corev1.HostPathFile, corev1.HostPathFileOrCreate, corev1.HostPathSocket)...)
	}
	return errs
}

// ValidatePartitioned judges a cloud's disk, whose name stands in nameField.
func ValidatePartitioned(nameField, name string, partition int32, at *field.Path) field.ErrorList {
	errs := Require(at, nameField, name)
	if partition < 0 || partition > 255 {
		errs = append(errs, field.Invalid(at.Child("partition"), partition, validation.InclusiveRangeError(1, 255)))
	}
	return errs
}

// ValidateNFS judges a directory of a file server.
func ValidateNFS(source *corev1.NFSVolumeSource, at *field.Path) field.ErrorList {
	errs := Require(at, "server", source.Server, "path", source.Path)
	if !path.IsAbs(source.Path) {
		errs = append(errs, field.Invalid(at.Child("path"), source.Path, "must be an absolute path"))
	}
	return errs
}

// ValidateFlocker judges a Flocker data set.
func ValidateFlocker(source *corev1.FlockerVolumeSource, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if source.DatasetName == "" && source.DatasetUUID == "" {
		errs = append(errs, field.Required(at, "one of datasetName and datasetUUID is required"))
	}
	if source.DatasetName != "" && source.DatasetUUID != "" {
		errs = append(errs, field.Invalid(at, "resource", "datasetName and datasetUUID can not be specified simultaneously"))
	}
	if strings.Contains(source.DatasetName, "/") {
		errs = append(errs, field.Invalid(at.Child("datasetName"), source.DatasetName, "must not contain '/'"))
	}
	return errs
}

// ValidateCeph judges a Ceph file system or, with an image, block device.
func ValidateCeph(monitors []string, image *string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(monitors) == 0 {
		errs = append(errs, field.Required(at.Child("monitors"), ""))
	}
	if image != nil {
		errs = append(errs, Require(at, "image", *image)...)
	}
	return errs
}

// ValidateQuobyte judges a Quobyte volume.
func ValidateQuobyte(source *corev1.QuobyteVolumeSource, at *field.Path) field.ErrorList {
	const pairs, maxTenant = "must be a host:port pair or multiple pairs separated by commas", 64
	var errs field.ErrorList
	switch {
	case source.Registry == "":
		errs = append(errs, field.Required(at.Child("registry"), pairs))
	case len(source.Tenant) > maxTenant:
		errs = append(errs, field.Required(at.Child("tenant"), "must be a UUID and may not exceed a length of 64 characters"))
	default:
		for pair := range strings.SplitSeq(source.Registry, ",") {
			if _, _, err := net.SplitHostPort(pair); err != nil {
				errs = append(errs, field.Invalid(at.Child("registry"), source.Registry, pairs))
			}
		}
	}
	return append(errs, Require(at, "volume", source.Volume)...)
}

// ValidateFC judges a Fibre Channel volume.
func ValidateFC(source *corev1.FCVolumeSource, at *field.Path) field.ErrorList {
	names := at.Child("targetWWNs")
	var errs field.ErrorList
	if len(source.TargetWWNs) == 0 && len(source.WWIDs) == 0 {
		errs = append(errs, field.Required(names, "must specify either targetWWNs or wwids, but not both"))
	}
	if len(source.TargetWWNs) > 0 && len(source.WWIDs) > 0 {
		errs = append(errs, field.Invalid(names, source.TargetWWNs, "targetWWNs and wwids can not be specified simultaneously"))
	}
	if len(source.TargetWWNs) > 0 {
		if source.Lun == nil {
			errs = append(errs, field.Required(at.Child("lun"), "lun is required if targetWWNs is specified"))
		} else if *source.Lun < 0 || *source.Lun > 255 {
			errs = append(errs, field.Invalid(at.Child("lun"), source.Lun, validation.InclusiveRangeError(0, 255)))
		}
	}
	return errs
}

// ValidateFlex judges a FlexVolume; options in Kubernetes' own name spaces are the kubelet's to set.
func ValidateFlex(driver string, options map[string]string, at *field.Path) field.ErrorList {
	errs := Require(at, "driver", driver)
	for key := range options {
		space, _, _ := strings.Cut(key, "/")
		space = "." + strings.ToLower(space)
		if strings.HasSuffix(space, ".kubernetes.io") || strings.HasSuffix(space, ".k8s.io") {
			errs = append(errs, field.Invalid(at.Child("options").Key(key), key, "kubernetes.io and k8s.io namespaces are reserved"))
		}
	}
	return errs
}

// ValidateAzureDisk judges an Azure disk.
func ValidateAzureDisk(source *corev1.AzureDiskVolumeSource, at *field.Path) field.ErrorList {
	errs := Require(at, "diskName", source.DiskName, "diskURI", source.DataDiskURI)
	if source.CachingMode != nil {
		errs = append(errs, oneOf(*source.CachingMode, at.Child("cachingMode"), corev1.AzureDataDiskCachingNone, corev1.AzureDataDiskCachingReadOnly, corev1.AzureDataDiskCachingReadWrite)...)
	}
	if source.Kind == nil {
		return errs
	}
	errs = append(errs, oneOf(*source.Kind, at.Child("kind"), corev1.AzureDedicatedBlobDisk, corev1.AzureManagedDisk, corev1.AzureSharedBlobDisk)...)
	if *source.Kind == corev1.AzureManagedDisk {
		if !strings.HasPrefix(source.DataDiskURI, "/subscriptions/") {
			errs = append(errs, field.NotSupported(at.Child("diskURI"), source.DataDiskURI,
				[]string{"/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"}))
		}
	} else if !strings.HasPrefix(source.DataDiskURI, "https://") {
		errs = append(errs, field.NotSupported(at.Child("diskURI"), source.DataDiskURI,
			[]string{"https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"}))
	}
	return errs
}

// ValidateStorageOS judges the names of a StorageOS volume.
func ValidateStorageOS(name, namespace string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if name == "" {
		errs = append(errs, field.Required(at.Child("volumeName"), ""))
	} else {
		errs = append(errs, check.Label(name, at.Child("volumeName"))...)
	}
	if namespace != "" {
		errs = append(errs, check.Label(namespace, at.Child("volumeNamespace"))...)
	}
	return errs
}

// ValidateDriverName judges the name of a CSI driver.
func ValidateDriverName(name string, at *field.Path) field.ErrorList {
	const longest = 63
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	if len(name) > longest {
		errs = append(errs, field.TooLong(at, "", longest))
	}
	return append(errs, check.Messages(at, name, validation.IsDNS1123Subdomain(strings.ToLower(name)))...)
}
