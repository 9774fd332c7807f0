// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podspec

import (
	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// What an unset field of a probe stands for.
const (
	probeTimeout          = 1  // seconds
	probePeriod           = 10 // seconds
	probeSuccessThreshold = 1
	probeFailureThreshold = 3
)

// tokenLifetime is what a projected service account token has when none is named, in seconds.
const tokenLifetime = 3600

// Default fills the unset fields of a pod spec, whether it stands in a pod or in a template. DefaultPod fills more.
func Default(spec *corev1.PodSpec) {
	setZero(&spec.DNSPolicy, corev1.DNSClusterFirst)
	setZero(&spec.RestartPolicy, corev1.RestartPolicyAlways)
	setZero(&spec.SchedulerName, corev1.DefaultSchedulerName)
	setNil(&spec.SecurityContext, corev1.PodSecurityContext{})
	setNil(&spec.TerminationGracePeriodSeconds, corev1.DefaultTerminationGracePeriodSeconds)
	// Two names of one field, of which the older one always follows the newer.
	setZero(&spec.ServiceAccountName, spec.DeprecatedServiceAccount)
	spec.DeprecatedServiceAccount = spec.ServiceAccountName
	for i := range spec.Volumes {
		defaultVolume(&spec.Volumes[i])
	}
	for i := range spec.InitContainers {
		defaultContainer(&spec.InitContainers[i])
	}
	for i := range spec.Containers {
		defaultContainer(&spec.Containers[i])
	}
	for i := range spec.EphemeralContainers {
		defaultContainer((*corev1.Container)(&spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
	RoundUp(spec.Overhead)
	if spec.Resources != nil {
		RoundUp(spec.Resources.Limits)
		RoundUp(spec.Resources.Requests)
	}
}

// DefaultTemplate fills the unset fields of a pod template.
func DefaultTemplate(template *corev1.PodTemplateSpec) {
	dropInitAnnotations(template.Annotations)
	Default(&template.Spec)
}

// dropInitAnnotations drops what init containers were before they had fields, lest some program still takes it for them.
func dropInitAnnotations(annotations map[string]string) {
	for _, stage := range []string{"alpha", "beta"} {
		delete(annotations, "pod."+stage+".kubernetes.io/init-containers")
		delete(annotations, "pod."+stage+".kubernetes.io/init-container-statuses")
	}
}

// RoundUp raises quantities to whole thousandths, the finest step that the API keeps.
func RoundUp(list corev1.ResourceList) {
	for name, quantity := range list {
		quantity.RoundUp(resource.Milli)
		list[name] = quantity
	}
}

// DefaultClaim fills the unset fields of a persistent volume claim.
func DefaultClaim(claim *corev1.PersistentVolumeClaim) {
	setZero(&claim.Status.Phase, corev1.ClaimPending)
	DefaultClaimSpec(&claim.Spec)
	RoundUp(claim.Status.Capacity)
	RoundUp(claim.Status.AllocatedResources)
}

// DefaultClaimSpec fills the unset fields of the spec of a claim or of a claim template.
func DefaultClaimSpec(spec *corev1.PersistentVolumeClaimSpec) {
	setNil(&spec.VolumeMode, corev1.PersistentVolumeFilesystem)
	RoundUp(spec.Resources.Limits)
	RoundUp(spec.Resources.Requests)
}

func defaultContainer(c *corev1.Container) {
	defaultPullPolicy(&c.ImagePullPolicy, c.Image)
	setZero(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	setZero(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	for i := range c.Ports {
		setZero(&c.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	for i := range c.Env {
		source := c.Env[i].ValueFrom
		if source == nil {
			continue
		}
		defaultFieldRef(source.FieldRef)
		if source.FileKeyRef != nil {
			setNil(&source.FileKeyRef.Optional, false)
		}
	}
	RoundUp(c.Resources.Limits)
	RoundUp(c.Resources.Requests)
	for _, probe := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		defaultProbe(probe)
	}
	if c.Lifecycle == nil {
		return
	}
	for _, hook := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
		if hook != nil {
			defaultHTTPGet(hook.HTTPGet)
		}
	}
}

// defaultPullPolicy sets the policy of an image. Stored objects have theirs, and to read a name costs more than the other defaults of a container.
func defaultPullPolicy(policy *corev1.PullPolicy, image string) {
	if *policy == "" {
		*policy = pullPolicyOf(image)
	}
}

// pullPolicyOf returns the policy of an image that names none: an image that may change under its name is pulled always.
func pullPolicyOf(image string) corev1.PullPolicy {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return corev1.PullIfNotPresent // validation will name the mistake
	}
	if tagged, ok := named.(reference.Tagged); ok {
		if tagged.Tag() == "latest" {
			return corev1.PullAlways
		}
		return corev1.PullIfNotPresent
	}
	if _, ok := named.(reference.Digested); ok {
		return corev1.PullIfNotPresent
	}
	return corev1.PullAlways
}

func defaultProbe(probe *corev1.Probe) {
	if probe == nil {
		return
	}
	setZero(&probe.TimeoutSeconds, probeTimeout)
	setZero(&probe.PeriodSeconds, probePeriod)
	setZero(&probe.SuccessThreshold, probeSuccessThreshold)
	setZero(&probe.FailureThreshold, probeFailureThreshold)
	defaultHTTPGet(probe.HTTPGet)
	if probe.GRPC != nil {
		setNil(&probe.GRPC.Service, "")
	}
}

func defaultHTTPGet(action *corev1.HTTPGetAction) {
	if action == nil {
		return
	}
	setZero(&action.Path, "/")
	setZero(&action.Scheme, corev1.URISchemeHTTP)
}

func defaultFieldRef(ref *corev1.ObjectFieldSelector) {
	if ref != nil {
		setZero(&ref.APIVersion, "v1")
	}
}

// setZero gives *p the value when it holds its type's zero.
func setZero[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// setNil points *p at the value when it points nowhere.
func setNil[T any](p **T, value T) {
	if *p == nil {
		*p = new(value)
	}
}
