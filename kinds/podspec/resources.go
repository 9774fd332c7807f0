// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	podresource "k8s.io/component-helpers/resource"

	"kogge.dev/kogge/kinds/check"
)

type nameRule = func(name corev1.ResourceName, at *field.Path) field.ErrorList

// ValidateContainerResources judges a container's requests and limits outside of a pod.
func ValidateContainerResources(r *corev1.ResourceRequirements, at *field.Path) field.ErrorList {
	return validateResources(r, ValidateContainerResourceName, nil, Options{}, at)
}

func validateResources(r *corev1.ResourceRequirements, rule nameRule, claims []string, opts Options, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	limits, requests := at.Child("limits"), at.Child("requests")
	compute, huge := false, false
	for _, l := range []struct {
		path *field.Path
		list corev1.ResourceList
	}{{limits, r.Limits}, {requests, r.Requests}} {
		for name, quantity := range l.list {
			path := l.path.Key(string(name))
			errs = append(errs, rule(name, path)...)
			errs = append(errs, ValidateQuantity(name, quantity, path)...)
			if isHugePage(name) {
				huge = true
				errs = append(errs, validateHugePages(name, quantity, opts, path)...)
			}
			compute = compute || name == corev1.ResourceCPU || name == corev1.ResourceMemory
		}
	}
	for name, quantity := range r.Requests {
		limit, limited := r.Limits[name]
		switch {
		case !limited:
			if !overcommittable(name) {
				errs = append(errs, field.Required(limits, "Limit must be set for non overcommitable resources"))
			}
		case !overcommittable(name) && quantity.Cmp(limit) != 0:
			errs = append(errs, field.Invalid(requests, quantity.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String())))
		case quantity.Cmp(limit) > 0:
			errs = append(errs, field.Invalid(requests, quantity.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String())))
		}
	}
	if huge && !compute {
		errs = append(errs, field.Forbidden(at, "HugePages require cpu or memory"))
	}
	return append(errs, validateClaimRefs(r.Claims, claims, at.Child("claims"))...)
}

func validateHugePages(name corev1.ResourceName, quantity resource.Quantity, opts Options, at *field.Path) field.ErrorList {
	if opts.IndivisibleHugePages || divisible(name, quantity) {
		return nil
	}
	return field.ErrorList{field.Invalid(at, quantity.String(), fmt.Sprintf("%s is not positive integer multiple of %s", quantity.String(), name))}
}

// divisible reports whether an amount of huge pages is a whole number of them.
func divisible(name corev1.ResourceName, quantity resource.Quantity) bool {
	page, err := resource.ParseQuantity(strings.TrimPrefix(string(name), corev1.ResourceHugePagesPrefix))
	if err != nil || page.Sign() <= 0 || page.MilliValue()%milliScale != 0 {
		return false
	}
	return quantity.Value()%page.Value() == 0
}

// validateClaimRefs judges a container's references to the pod's resource claims: each to one claim, or to one request of it.
func validateClaimRefs(refs []corev1.ResourceClaim, claims []string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	whole, parts := sets.New[string](), map[string]sets.Set[string]{}
	for i, ref := range refs {
		path := at.Index(i)
		if ref.Name == "" {
			errs = append(errs, field.Required(path, ""))
			continue
		}
		if whole.Has(ref.Name) {
			errs = append(errs, field.Duplicate(path, ref.Name))
		} else if ref.Request == "" {
			for range parts[ref.Name] {
				errs = append(errs, field.Duplicate(path, ref.Name))
			}
			whole.Insert(ref.Name)
		} else {
			errs = append(errs, check.Label(ref.Request, path.Child("request"))...)
			if parts[ref.Name].Has(ref.Request) {
				errs = append(errs, field.Duplicate(path, ref.Name+"/"+ref.Request))
			}
			if parts[ref.Name] == nil {
				parts[ref.Name] = sets.New[string]()
			}
			parts[ref.Name].Insert(ref.Request)
		}
		if !slices.Contains(claims, ref.Name) {
			missing := field.NotFound(path, ref.Name)
			missing.Detail = "must be one of the names in pod.spec.resourceClaims"
			if len(claims) == 0 {
				missing.Detail += " which is empty"
			} else {
				missing.Detail += ": " + strings.Join(claims, ", ")
			}
			errs = append(errs, missing)
		}
	}
	return errs
}

// claimNames returns the names of a pod's resource claims, sorted.
func claimNames(claims []corev1.PodResourceClaim) []string {
	var names []string
	for _, claim := range claims {
		if claim.Name != "" {
			names = append(names, claim.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func validatePodClaims(claims []corev1.PodResourceClaim, meta *metav1.ObjectMeta, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	static := false
	if meta != nil {
		_, static = meta.Annotations[corev1.MirrorPodAnnotationKey]
	}
	names := map[string]bool{}
	for i, claim := range claims {
		if static {
			errs = append(errs, field.Forbidden(field.NewPath(""), "static pods do not support resource claims"))
			continue
		}
		path := at.Index(i)
		switch {
		case claim.Name == "":
			errs = append(errs, field.Required(path.Child("name"), ""))
		case names[claim.Name]:
			errs = append(errs, field.Duplicate(path.Child("name"), claim.Name))
		default:
			errs = append(errs, check.Label(claim.Name, path.Child("name"))...)
			names[claim.Name] = true
		}
		if claim.ResourceClaimName != nil && claim.ResourceClaimTemplateName != nil {
			errs = append(errs, field.Invalid(path, claim, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"))
		}
		if claim.ResourceClaimName == nil && claim.ResourceClaimTemplateName == nil {
			errs = append(errs, field.Invalid(path, claim, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"))
		}
		if name := claim.ResourceClaimName; name != nil {
			errs = append(errs, check.Subdomain(*name, path.Child("resourceClaimName"))...)
		}
		if name := claim.ResourceClaimTemplateName; name != nil {
			errs = append(errs, check.Subdomain(*name, path.Child("resourceClaimTemplateName"))...)
		}
	}
	return errs
}

// validatePodResourceName admits what a pod can ask for as a whole.
func validatePodResourceName(name corev1.ResourceName, at *field.Path) field.ErrorList {
	if errs := ValidateResourceName(name, at); len(errs) > 0 {
		return errs
	}
	if podresource.IsSupportedPodLevelResource(name) {
		return nil
	}
	return field.ErrorList{field.NotSupported(at, name, sets.List(podresource.SupportedPodLevelResources()))}
}

// validatePodResources judges what the pod asks for as a whole: its containers' share must fit into it.
func (s *surroundings) validatePodResources(at *field.Path) field.ErrorList {
	r := s.spec.Resources
	if r == nil {
		return nil
	}
	if s.spec.OS != nil && s.spec.OS.Name == corev1.Windows {
		return field.ErrorList{field.Forbidden(at, "may not be set for a windows pod")}
	}
	var errs field.ErrorList
	if r.Claims != nil {
		errs = append(errs, field.Forbidden(at.Child("claims"), "claims may not be set for Resources at pod-level"))
	}
	errs = append(errs, validateResources(r, validatePodResourceName, s.claims, s.opts, at)...)

	pod := &corev1.Pod{Spec: *s.spec}
	for name, used := range podresource.AggregateContainerRequests(pod, podresource.PodResourcesOptions{}) {
		if have, ok := r.Requests[name]; ok && used.Cmp(have) > 0 {
			errs = append(errs, field.Invalid(at.Child("requests").Key(string(name)), have.String(),
				fmt.Sprintf("must be greater than or equal to aggregate container requests of %s", used.String())))
		}
	}
	for name, used := range podresource.AggregateContainerLimits(pod, podresource.PodResourcesOptions{}) {
		if have, ok := r.Limits[name]; ok && isHugePage(name) && used.Cmp(have) > 0 {
			errs = append(errs, field.Invalid(at.Child("limits").Key(string(name)), have.String(),
				fmt.Sprintf("must be greater than or equal to aggregate container limits of %s", used.String())))
		}
	}
	for i := range s.spec.Containers {
		for name, limit := range s.spec.Containers[i].Resources.Limits {
			if have, ok := r.Limits[name]; ok && limit.Cmp(have) > 0 {
				errs = append(errs, field.Invalid(at.Child("containers").Index(i).Key(string(name)).Child("limits"), limit.String(),
					fmt.Sprintf("must be less than or equal to pod limits of %s", have.String())))
			}
		}
	}
	return errs
}
