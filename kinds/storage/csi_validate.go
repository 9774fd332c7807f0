// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"fmt"
	"strings"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
)

// Bounds of CSI objects.
const (
	maxDriverName     = 63
	maxNodeID         = 256
	minUpdatePeriod   = 10      // seconds
	minTokenSeconds   = 600     // ten minutes
	maxTokenSeconds   = 1 << 32 // as for any token
	fieldIsImmutable  = "field is immutable"
	attachFieldOnWire = "attachedRequired" // how findings name spec.attachRequired
)

func validateCSIDriver(_ kinds.Request, d *storagev1.CSIDriver) field.ErrorList {
	return validateCSIDriverSpec(&d.Spec, field.NewPath("spec"))
}

func validateCSIDriverUpdate(_ kinds.Request, new, old *storagev1.CSIDriver) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateCSIDriverSpec(&new.Spec, path)
	errs = append(errs, check.Immutable(new.Spec.AttachRequired, old.Spec.AttachRequired, path.Child(attachFieldOnWire))...)
	return append(errs, check.Immutable(new.Spec.VolumeLifecycleModes, old.Spec.VolumeLifecycleModes, path.Child("volumeLifecycleModes"))...)
}

func validateCSIDriverSpec(spec *storagev1.CSIDriverSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, required := range []struct {
		name  string
		value *bool
	}{{attachFieldOnWire, spec.AttachRequired}, {"podInfoOnMount", spec.PodInfoOnMount}, {"storageCapacity", spec.StorageCapacity}} {
		if required.value == nil {
			errs = append(errs, field.Required(path.Child(required.name), ""))
		}
	}
	policies := []storagev1.FSGroupPolicy{storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy}
	if p := spec.FSGroupPolicy; p != nil && *p != policies[0] && *p != policies[1] && *p != policies[2] {
		errs = append(errs, field.NotSupported(path.Child("fsGroupPolicy"), p, policies))
	}
	errs = append(errs, validateTokenRequests(spec.TokenRequests, path.Child("tokenRequests"))...)
	modes := []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent, storagev1.VolumeLifecycleEphemeral}
	for _, m := range spec.VolumeLifecycleModes {
		if m != modes[0] && m != modes[1] {
			errs = append(errs, field.NotSupported(path.Child("volumeLifecycleModes"), m, modes))
		}
	}
	if spec.SELinuxMount == nil {
		errs = append(errs, field.Required(path.Child("seLinuxMount"), ""))
	}
	if period := spec.NodeAllocatableUpdatePeriodSeconds; period != nil && *period < minUpdatePeriod {
		errs = append(errs, field.Invalid(path.Child("nodeAllocatableUpdatePeriodSeconds"), *period, "must be greater than or equal to 10 seconds"))
	}
	if spec.ServiceAccountTokenInSecrets != nil && len(spec.TokenRequests) == 0 {
		errs = append(errs, field.Invalid(path.Child("serviceAccountTokenInSecrets"), spec.ServiceAccountTokenInSecrets,
			"serviceAccountTokenInSecrets is set but no tokenRequests are specified"))
	}
	return errs
}

func validateTokenRequests(requests []storagev1.TokenRequest, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, r := range requests {
		at := path.Index(i)
		if seen[r.Audience] {
			errs = append(errs, field.Duplicate(at.Child("audience"), r.Audience))
			continue
		}
		seen[r.Audience] = true
		if r.ExpirationSeconds == nil {
			continue
		}
		if *r.ExpirationSeconds < minTokenSeconds {
			errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *r.ExpirationSeconds, "may not specify a duration less than 10 minutes"))
		}
		if *r.ExpirationSeconds > maxTokenSeconds {
			errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *r.ExpirationSeconds, "may not specify a duration larger than 2^32 seconds"))
		}
	}
	return errs
}

// validateDriverName judges the name of a CSI driver where an object refers to it.
func validateDriverName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	if len(name) > maxDriverName {
		errs = append(errs, field.TooLong(path, "", maxDriverName))
	}
	return append(errs, check.Messages(path, name, utilvalidation.IsDNS1123Subdomain(strings.ToLower(name)))...)
}

func validateCSINode(_ kinds.Request, n *storagev1.CSINode) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i := range n.Spec.Drivers {
		d, path := &n.Spec.Drivers[i], field.NewPath("spec", "drivers").Index(i)
		errs = append(errs, validateDriverName(d.Name, path.Child("name"))...)
		switch {
		case d.NodeID == "":
			errs = append(errs, field.Required(path.Child("nodeID"), ""))
		case len(d.NodeID) > maxNodeID:
			errs = append(errs, field.Invalid(path.Child("nodeID"), d.NodeID, fmt.Sprintf("must be %d characters or less", maxNodeID)))
		}
		if d.Allocatable != nil {
			errs = append(errs, check.Counts(path.Child("allocatable"), check.Optional("count", d.Allocatable.Count))...)
		}
		if seen[d.Name] {
			errs = append(errs, field.Duplicate(path.Child("name"), d.Name))
		}
		seen[d.Name] = true
		errs = append(errs, validateTopologyKeys(d.TopologyKeys, path)...)
	}
	return errs
}

func validateTopologyKeys(keys []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for _, key := range keys {
		if key == "" {
			errs = append(errs, field.Required(path, ""))
		}
		if seen[key] {
			errs = append(errs, field.Duplicate(path, key))
		}
		seen[key] = true
		errs = append(errs, check.QualifiedName(key, path)...)
	}
	return errs
}

// validateCSINodeUpdate keeps what a driver said of itself, but for how much it can attach.
func validateCSINodeUpdate(req kinds.Request, new, old *storagev1.CSINode) field.ErrorList {
	errs := validateCSINode(req, new)
	for i := range old.Spec.Drivers {
		was := *old.Spec.Drivers[i].DeepCopy()
		was.Allocatable = nil
		for k := range new.Spec.Drivers {
			is := *new.Spec.Drivers[k].DeepCopy()
			if is.Name != was.Name {
				continue
			}
			is.Allocatable = nil
			errs = append(errs, check.Immutable(&is, &was, field.NewPath("spec", "drivers"))...)
		}
	}
	return errs
}

func validateCSIStorageCapacity(_ kinds.Request, c *storagev1.CSIStorageCapacity) field.ErrorList {
	return validateCapacity(c, nil)
}

func validateCapacity(c *storagev1.CSIStorageCapacity, oldTopology *metav1.LabelSelector) field.ErrorList {
	errs := check.LenientSelector(c.NodeTopology, oldTopology, field.NewPath("nodeTopology"))
	errs = append(errs, check.Subdomain(c.StorageClassName, field.NewPath("storageClassName"))...)
	if c.Capacity != nil && c.Capacity.Sign() < 0 {
		errs = append(errs, field.Invalid(field.NewPath("capacity"), c.Capacity.String(), validation.IsNegativeErrorMsg))
	}
	return errs
}

func validateCSIStorageCapacityUpdate(_ kinds.Request, new, old *storagev1.CSIStorageCapacity) field.ErrorList {
	errs := validateCapacity(new, old.NodeTopology)
	if !equal.Semantic(new.NodeTopology, old.NodeTopology) {
		errs = append(errs, field.Invalid(field.NewPath("nodeTopology"), new.NodeTopology, fieldIsImmutable))
	}
	if new.StorageClassName != old.StorageClassName {
		errs = append(errs, field.Invalid(field.NewPath("storageClassName"), new.StorageClassName, fieldIsImmutable))
	}
	return errs
}
