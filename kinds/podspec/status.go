// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/objectmeta"
)

// ValidateStatus judges a pod's status that is to replace old's.
func ValidateStatus(pod, old *corev1.Pod) field.ErrorList {
	at := field.NewPath("status")
	opts := OptionsFor(old)
	annotations := field.NewPath("metadata", "annotations")
	errs := validateAnnotationChange(pod.Annotations, old.Annotations, annotations)
	errs = append(errs, validateAnnotations(pod.Annotations, &pod.Spec, opts, annotations)...)
	errs = append(errs, validateConditions(pod.Status.Conditions, at.Child("conditions"))...)
	errs = append(errs, validateNomination(pod, old, at)...)
	if pod.Status.ObservedGeneration < 0 {
		errs = append(errs, field.Invalid(at.Child("observedGeneration"), pod.Status.ObservedGeneration, "must be a non-negative integer"))
	}
	errs = append(errs, check.Immutable(pod.Status.QOSClass, old.Status.QOSClass, at.Child("qosClass"))...)
	errs = append(errs, validateRevivals(pod, old, at)...)
	errs = append(errs, validateClaimStatuses(pod, at)...)
	errs = append(errs, validateAddresses(pod, old, at)...)
	for _, l := range []struct {
		name       string
		statuses   []corev1.ContainerStatus
		containers []corev1.Container
	}{
		{"containerStatuses", pod.Status.ContainerStatuses, pod.Spec.Containers},
		{"initContainerStatuses", pod.Status.InitContainerStatuses, pod.Spec.InitContainers},
	} {
		for i := range l.statuses {
			path := at.Child(l.name).Index(i)
			errs = append(errs, validateStatusUser(&l.statuses[i], pod.Spec.OS, path.Child("user", "linux"))...)
			errs = append(errs, validateHealth(&l.statuses[i], l.containers, path.Child("allocatedResourcesStatus"))...)
		}
	}
	for i := range pod.Status.EphemeralContainerStatuses {
		s, path := &pod.Status.EphemeralContainerStatuses[i], at.Child("ephemeralContainerStatuses").Index(i)
		errs = append(errs, validateStatusUser(s, pod.Spec.OS, path.Child("user", "linux"))...)
		if len(s.AllocatedResourcesStatus) > 0 {
			errs = append(errs, field.Forbidden(path.Child("allocatedResourcesStatus"), "must not be specified in container status"))
		}
	}
	return errs
}

func validateConditions(conditions []corev1.PodCondition, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, c := range conditions {
		if c.ObservedGeneration < 0 {
			errs = append(errs, field.Invalid(at.Index(i).Child("observedGeneration"), c.ObservedGeneration, "must be a non-negative integer"))
		}
		switch c.Type {
		case corev1.PodScheduled, corev1.PodReady, corev1.PodInitialized:
		default:
			errs = append(errs, check.QualifiedName(string(c.Type), at.Index(i).Child("Type"))...)
		}
	}
	return errs
}

// validateNomination judges the node that the scheduler hopes for; a pod that has one hopes for none.
func validateNomination(pod, old *corev1.Pod, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	path, name := at.Child("nominatedNodeName"), pod.Status.NominatedNodeName
	if pod.Spec.NodeName != old.Spec.NodeName {
		errs = append(errs, field.Forbidden(at.Child("nodeName"), "may not be changed directly"))
	}
	if name == "" || name == old.Status.NominatedNodeName {
		return errs
	}
	errs = append(errs, check.Messages(path, name, objectmeta.Subdomain(name, false))...)
	if old.Spec.NodeName != "" {
		errs = append(errs, field.Forbidden(path, "may not be set on pods that are already bound to a node"))
	}
	return errs
}

// validateRevivals refuses that a container runs again that has ended for good.
func validateRevivals(pod, old *corev1.Pod, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	all := anyContainer(&old.Spec, func(c *corev1.Container) bool {
		return slices.ContainsFunc(c.RestartPolicyRules, func(r corev1.ContainerRestartRule) bool {
			return r.Action == corev1.ContainerRestartRuleActionRestartAllContainers
		})
	})
	for _, l := range []struct {
		name       string
		now, old   []corev1.ContainerStatus
		containers []corev1.Container
		ephemeral  bool
	}{
		{"containerStatuses", pod.Status.ContainerStatuses, old.Status.ContainerStatuses, old.Spec.Containers, false},
		{"initContainerStatuses", pod.Status.InitContainerStatuses, old.Status.InitContainerStatuses, old.Spec.InitContainers, false},
		{"ephemeralContainerStatuses", pod.Status.EphemeralContainerStatuses, old.Status.EphemeralContainerStatuses, nil, true},
	} {
		if all && !l.ephemeral {
			continue
		}
		for i := range l.old {
			before := &l.old[i]
			if before.State.Terminated == nil {
				continue
			}
			j := slices.IndexFunc(l.now, func(s corev1.ContainerStatus) bool { return s.Name == before.Name && s.State.Terminated == nil })
			if j < 0 {
				continue
			}
			k := slices.IndexFunc(l.containers, func(c corev1.Container) bool { return c.Name == before.Name })
			if k < 0 || !Restarts(&l.containers[k], old.Spec.RestartPolicy, before.State.Terminated.ExitCode) {
				errs = append(errs, field.Forbidden(at.Child(l.name).Index(i).Child("state"), "may not be transitioned to non-terminated state"))
			}
		}
	}
	return errs
}

// Restarts reports whether a container that ended with a code is to run again: its own rules come first, then its own
// policy, then the pod's.
func Restarts(c *corev1.Container, pod corev1.RestartPolicy, code int32) bool {
	for _, rule := range c.RestartPolicyRules {
		if rule.ExitCodes == nil {
			continue
		}
		listed := slices.Contains(rule.ExitCodes.Values, code)
		if listed == (rule.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn) {
			return true
		}
	}
	policy := string(pod)
	if c.RestartPolicy != nil {
		policy = string(*c.RestartPolicy)
	}
	switch policy {
	case string(corev1.RestartPolicyAlways):
		return true
	case string(corev1.RestartPolicyOnFailure):
		return code != 0
	}
	return false
}

func validateClaimStatuses(pod *corev1.Pod, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := map[string]bool{}
	for i, status := range pod.Status.ResourceClaimStatuses {
		path := at.Child("resourceClaimStatuses").Index(i)
		if !slices.ContainsFunc(pod.Spec.ResourceClaims, func(c corev1.PodResourceClaim) bool { return c.Name == status.Name }) {
			errs = append(errs, field.Invalid(path.Child("name"), status.Name, "must match the name of an entry in `spec.resourceClaims`"))
		}
		if names[status.Name] {
			errs = append(errs, field.Duplicate(path.Child("name"), status.Name))
		}
		names[status.Name] = true
		if name := status.ResourceClaimName; name != nil {
			errs = append(errs, check.Subdomain(*name, path.Child("resourceClaimName"))...)
		}
	}
	return append(errs, validateExtendedClaim(pod.Status.ExtendedResourceClaimStatus, &pod.Spec, at.Child("extendedResourceClaimStatus"))...)
}

// validateExtendedClaim judges the claim that was made for the extended resources that a pod's containers request.
func validateExtendedClaim(status *corev1.PodExtendedResourceClaimStatus, spec *corev1.PodSpec, at *field.Path) field.ErrorList {
	if status == nil {
		return nil
	}
	var errs field.ErrorList
	if len(status.RequestMappings) == 0 {
		errs = append(errs, field.Required(at.Child("requestMappings"), "at least one request mapping is required"))
	}
	containers := append(slices.Clone(spec.InitContainers), spec.Containers...)
	for i, m := range status.RequestMappings {
		path := at.Child("requestMappings").Index(i)
		j := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == m.ContainerName })
		if j < 0 {
			errs = append(errs, field.Invalid(path.Child("containerName"), m.ContainerName, "must match the name of an entry in spec.initContainers.name or spec.containers.name"))
		} else if _, ok := containers[j].Resources.Requests[corev1.ResourceName(m.ResourceName)]; !ok {
			errs = append(errs, field.Invalid(path.Child("resourceName"), m.ResourceName, "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests"))
		}
		errs = append(errs, check.Label(m.RequestName, at.Child("requestName"))...)
		if slices.Contains(status.RequestMappings[:i], m) {
			errs = append(errs, field.Duplicate(path.Child("containerName"), m.ContainerName), field.Duplicate(path.Child("resourceName"), m.ResourceName),
				field.Duplicate(path.Child("requestName"), m.RequestName))
		}
	}
	if status.ResourceClaimName == "" {
		return append(errs, field.Required(at.Child("resourceClaimName"), ""))
	}
	return append(errs, check.Subdomain(status.ResourceClaimName, at.Child("resourceClaimName"))...)
}

func validateAddresses(pod, old *corev1.Pod, at *field.Path) field.ErrorList {
	var podIPs, knownPod, hostIPs, knownHost []string
	for _, ip := range pod.Status.PodIPs {
		podIPs = append(podIPs, ip.IP)
	}
	for _, ip := range old.Status.PodIPs {
		knownPod = append(knownPod, ip.IP)
	}
	for _, ip := range pod.Status.HostIPs {
		hostIPs = append(hostIPs, ip.IP)
	}
	for _, ip := range old.Status.HostIPs {
		knownHost = append(knownHost, ip.IP)
	}
	errs := validateDualStack(podIPs, knownPod, pod.Status.PodIPs, at.Child("podIPs"))
	if len(hostIPs) > 0 && hostIPs[0] != pod.Status.HostIP {
		errs = append(errs, field.Invalid(at.Child("hostIPs").Index(0).Child("ip"), hostIPs[0], "must be equal to `hostIP`"))
	}
	return append(errs, validateDualStack(hostIPs, knownHost, pod.Status.HostIPs, at.Child("hostIPs"))...)
}

// validateDualStack admits one address of each family.
func validateDualStack(ips, known []string, value any, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, ip := range ips {
		errs = append(errs, validation.IsValidIPForLegacyField(at.Index(i), ip, true, known)...)
	}
	if len(ips) < 2 {
		return errs
	}
	dual, err := netutils.IsDualStackIPStrings(ips)
	if err != nil {
		errs = append(errs, field.InternalError(at, fmt.Errorf("failed to check for dual stack with error:%w", err)))
	}
	if !dual || len(ips) > 2 {
		errs = append(errs, field.Invalid(at, value, "may specify no more than one IP for each IP family"))
	}
	return errs
}

func validateStatusUser(s *corev1.ContainerStatus, os *corev1.PodOS, at *field.Path) field.ErrorList {
	if s.User == nil || s.User.Linux == nil {
		return nil
	}
	if os != nil && os.Name == corev1.Windows {
		return field.ErrorList{field.Forbidden(at, "cannot be set for a windows pod")}
	}
	user := s.User.Linux
	errs := check.Messages(at.Child("uid"), user.UID, validation.IsValidUserID(user.UID))
	errs = append(errs, check.Messages(at.Child("gid"), user.GID, validation.IsValidGroupID(user.GID))...)
	for i, group := range user.SupplementalGroups {
		errs = append(errs, check.Messages(at.Child("supplementalGroups").Index(i), group, validation.IsValidGroupID(group))...)
	}
	return errs
}

// validateHealth judges what a node says about the devices of a container. One that the spec does not have is overlooked.
func validateHealth(s *corev1.ContainerStatus, containers []corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	found := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == s.Name })
	for i, allocated := range s.AllocatedResourcesStatus {
		path := at.Index(i)
		if found >= 0 {
			errs = append(errs, validateAllocated(allocated.Name, &containers[found], path.Child("name"))...)
		}
		for j, r := range allocated.Resources {
			at := path.Child("resources").Index(j)
			errs = append(errs, oneOf(r.Health, at.Child("health"), corev1.ResourceHealthStatusHealthy, corev1.ResourceHealthStatusUnhealthy, corev1.ResourceHealthStatusUnknown)...)
			if r.Message != nil {
				if *r.Message == "" {
					errs = append(errs, field.Required(at.Child("message"), "must be non-empty if specified"))
				} else if len(*r.Message) > corev1.ResourceHealthMessageMaxLength {
					errs = append(errs, field.TooLong(at.Child("message"), *r.Message, corev1.ResourceHealthMessageMaxLength))
				}
			}
			if slices.ContainsFunc(allocated.Resources[:j], func(o corev1.ResourceHealth) bool { return o.ResourceID == r.ResourceID }) {
				errs = append(errs, field.Duplicate(at.Child("resourceID"), r.ResourceID))
			}
		}
	}
	return errs
}

func validateAllocated(name corev1.ResourceName, c *corev1.Container, at *field.Path) field.ErrorList {
	if !strings.HasPrefix(string(name), "claim:") {
		if _, ok := c.Resources.Requests[name]; ok {
			return nil
		}
		return field.ErrorList{field.Invalid(at, name, "must match one of the container's resource requests")}
	}
	for _, claim := range c.Resources.Claims {
		full := "claim:" + claim.Name
		if claim.Request != "" {
			full += "/" + claim.Request
		}
		if full == string(name) {
			return nil
		}
	}
	return field.ErrorList{field.Invalid(at, name, "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty")}
}
