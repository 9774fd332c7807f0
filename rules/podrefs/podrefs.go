// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package podrefs walks over the API objects that a pod names: who may read them, what the kubelet must follow, and what a static pod
// must not name all depend on seeing every place.
package podrefs

import (
	"iter"

	corev1 "k8s.io/api/core/v1"

	"kogge.dev/kogge/rules/volumes"
)

// The resources that pods refer to.
const (
	ServiceAccounts        = "serviceaccounts"
	Secrets                = "secrets"
	ConfigMaps             = "configmaps"
	PersistentVolumeClaims = "persistentvolumeclaims"
	ResourceClaims         = "resourceclaims"
	CSIDrivers             = "csidrivers"
	Endpoints              = "endpoints"
	ClusterTrustBundles    = "clustertrustbundles"
	PodCertificates        = "podcertificates"
)

// Reference is one place where a pod names an object: of its own namespace, unless the resource has none.
type Reference struct {
	Resource string
	// Name of the object. Empty where the pod does not say it: a claim to be made from a template, trust bundles of a signer, a
	// certificate.
	Name string
	// Volume that names it, or nil.
	Volume *corev1.Volume
	// Container whose environment names it, or empty, and what it is: "container", "init container" or "ephemeral container".
	Container, ContainerSort string
	// Variable that takes one key of it; empty when the environment takes all keys, and outside containers.
	Variable string
}

// All iterates over the references of a pod: service account, resource claims, pull secrets, environments, volumes. One object may come
// several times. Secrets and config maps without a name are left out.
func All(pod *corev1.Pod) iter.Seq[Reference] {
	return func(yield func(Reference) bool) {
		w := &walk{pod: pod, yield: yield}
		_ = w.self() && w.containers() && w.volumes()
	}
}

// Has reports whether a pod refers to an object of a resource, by any name.
func Has(pod *corev1.Pod, resource string) bool {
	for r := range All(pod) {
		if r.Resource == resource {
			return true
		}
	}
	return false
}

// Names reports whether a pod refers to an object of a resource by name.
func Names(pod *corev1.Pod, resource, name string) bool {
	for r := range All(pod) {
		if r.Resource == resource && r.Name == name {
			return true
		}
	}
	return false
}

// Of returns the names of a resource's objects that a pod refers to.
func Of(pod *corev1.Pod, resource string) map[string]bool {
	names := map[string]bool{}
	for r := range All(pod) {
		if r.Resource == resource && r.Name != "" {
			names[r.Name] = true
		}
	}
	return names
}

// walk is one iteration. Its methods report whether to go on.
type walk struct {
	pod   *corev1.Pod
	yield func(Reference) bool
}

func (w *walk) put(r Reference) bool {
	if r.Name == "" && (r.Resource == Secrets || r.Resource == ConfigMaps) {
		return true
	}
	return w.yield(r)
}

func (w *walk) self() bool {
	if name := w.pod.Spec.ServiceAccountName; name != "" && !w.put(Reference{Resource: ServiceAccounts, Name: name}) {
		return false
	}
	for i := range w.pod.Spec.ResourceClaims {
		if !w.put(Reference{Resource: ResourceClaims, Name: deref(w.pod.Spec.ResourceClaims[i].ResourceClaimName)}) {
			return false
		}
	}
	for i := range w.pod.Status.ResourceClaimStatuses {
		if !w.put(Reference{Resource: ResourceClaims, Name: deref(w.pod.Status.ResourceClaimStatuses[i].ResourceClaimName)}) {
			return false
		}
	}
	if s := w.pod.Status.ExtendedResourceClaimStatus; s != nil && !w.put(Reference{Resource: ResourceClaims, Name: s.ResourceClaimName}) {
		return false
	}
	for i := range w.pod.Spec.ImagePullSecrets {
		if !w.put(Reference{Resource: Secrets, Name: w.pod.Spec.ImagePullSecrets[i].Name}) {
			return false
		}
	}
	return true
}

func (w *walk) containers() bool {
	spec := &w.pod.Spec
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		if !w.environment(Reference{Container: c.Name, ContainerSort: "init container"}, c.Env, c.EnvFrom) {
			return false
		}
	}
	for i := range spec.Containers {
		c := &spec.Containers[i]
		if !w.environment(Reference{Container: c.Name, ContainerSort: "container"}, c.Env, c.EnvFrom) {
			return false
		}
	}
	for i := range spec.EphemeralContainers {
		c := &spec.EphemeralContainers[i]
		if !w.environment(Reference{Container: c.Name, ContainerSort: "ephemeral container"}, c.Env, c.EnvFrom) {
			return false
		}
	}
	return true
}

func (w *walk) environment(r Reference, env []corev1.EnvVar, from []corev1.EnvFromSource) bool {
	for i := range env {
		source := env[i].ValueFrom
		if source == nil {
			continue
		}
		r.Variable = env[i].Name
		if ref := source.ConfigMapKeyRef; ref != nil && !w.put(r.to(ConfigMaps, ref.Name)) {
			return false
		}
		if ref := source.SecretKeyRef; ref != nil && !w.put(r.to(Secrets, ref.Name)) {
			return false
		}
	}
	r.Variable = ""
	for i := range from {
		if ref := from[i].ConfigMapRef; ref != nil && !w.put(r.to(ConfigMaps, ref.Name)) {
			return false
		}
		if ref := from[i].SecretRef; ref != nil && !w.put(r.to(Secrets, ref.Name)) {
			return false
		}
	}
	return true
}

func (r Reference) to(resource, name string) Reference {
	r.Resource, r.Name = resource, name
	return r
}

func (w *walk) volumes() bool {
	for i := range w.pod.Spec.Volumes {
		v := &w.pod.Spec.Volumes[i]
		at := Reference{Volume: v}
		switch {
		case v.PersistentVolumeClaim != nil, v.Ephemeral != nil:
			if !w.put(at.to(PersistentVolumeClaims, volumes.ClaimName(w.pod, v))) {
				return false
			}
		case v.ConfigMap != nil:
			if !w.put(at.to(ConfigMaps, v.ConfigMap.Name)) {
				return false
			}
		case v.Projected != nil:
			if !w.projected(at, v.Projected.Sources) {
				return false
			}
		case v.CSI != nil:
			if !w.put(at.to(CSIDrivers, v.CSI.Driver)) || !w.put(at.to(Secrets, secretOf(v))) {
				return false
			}
		case v.Glusterfs != nil:
			if !w.put(at.to(Endpoints, v.Glusterfs.EndpointsName)) {
				return false
			}
		default:
			if !w.put(at.to(Secrets, secretOf(v))) {
				return false
			}
		}
	}
	return true
}

func (w *walk) projected(at Reference, sources []corev1.VolumeProjection) bool {
	for i := range sources {
		s := &sources[i]
		var r Reference
		switch {
		case s.ConfigMap != nil:
			r = at.to(ConfigMaps, s.ConfigMap.Name)
		case s.Secret != nil:
			r = at.to(Secrets, s.Secret.Name)
		case s.ServiceAccountToken != nil:
			r = at.to(ServiceAccounts, w.pod.Spec.ServiceAccountName)
		case s.ClusterTrustBundle != nil:
			r = at.to(ClusterTrustBundles, deref(s.ClusterTrustBundle.Name))
		case s.PodCertificate != nil:
			r = at.to(PodCertificates, "")
		default:
			continue
		}
		if !w.put(r) {
			return false
		}
	}
	return true
}

// secretOf returns the secret that a volume's own source names, empty if none.
func secretOf(v *corev1.Volume) string {
	local := func(ref *corev1.LocalObjectReference) string {
		if ref == nil {
			return ""
		}
		return ref.Name
	}
	switch {
	case v.Secret != nil:
		return v.Secret.SecretName
	case v.CSI != nil:
		return local(v.CSI.NodePublishSecretRef)
	case v.ISCSI != nil:
		return local(v.ISCSI.SecretRef)
	case v.RBD != nil:
		return local(v.RBD.SecretRef)
	case v.CephFS != nil:
		return local(v.CephFS.SecretRef)
	case v.FlexVolume != nil:
		return local(v.FlexVolume.SecretRef)
	case v.ScaleIO != nil:
		return local(v.ScaleIO.SecretRef)
	case v.StorageOS != nil:
		return local(v.StorageOS.SecretRef)
	case v.Cinder != nil:
		return local(v.Cinder.SecretRef)
	case v.AzureFile != nil:
		return v.AzureFile.SecretName
	}
	return ""
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
