// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
)

// related answers which objects belong to a node's pods. It asks the cache and, because a kubelet may learn of a binding before
// this server's cache does, asks the store for a single pod when the cache knows it without a node.
type related struct {
	reader admission.Reader
}

func core(resource string) schema.GroupResource { return schema.GroupResource{Resource: resource} }

func (r related) pod(ctx context.Context, node, namespace, name string) (bool, error) {
	pod, found, err := admission.Get[*corev1.Pod](ctx, r.reader, core("pods"), namespace, name)
	if err != nil {
		return false, err
	}
	if found && pod.Spec.NodeName != "" {
		return pod.Spec.NodeName == node, nil
	}
	pod, found, err = admission.GetFresh[*corev1.Pod](ctx, r.reader, core("pods"), namespace, name)
	return err == nil && found && pod.Spec.NodeName == node, err
}

// anyPod reports whether a pod of the node in the namespace satisfies want. An empty namespace means all.
func (r related) anyPod(ctx context.Context, node, namespace string, want func(*corev1.Pod) bool) (bool, error) {
	pods, err := r.reader.List(ctx, core("pods"), namespace)
	if err != nil {
		return false, err
	}
	for _, item := range pods {
		pod, ok := item.(*corev1.Pod)
		if ok && pod.Spec.NodeName == node && want(pod) {
			return true, nil
		}
	}
	return false, nil
}

func (r related) configMap(ctx context.Context, node, namespace, name string) (bool, error) {
	return r.anyPod(ctx, node, namespace, func(pod *corev1.Pod) bool { return refersToConfigMap(pod, name) })
}

func (r related) serviceAccount(ctx context.Context, node, namespace, name string) (bool, error) {
	return r.anyPod(ctx, node, namespace, func(pod *corev1.Pod) bool { return pod.Spec.ServiceAccountName == name })
}

func (r related) claim(ctx context.Context, node, namespace, name string) (bool, error) {
	return r.anyPod(ctx, node, namespace, func(pod *corev1.Pod) bool { return usesClaim(pod, name) })
}

func (r related) resourceClaim(ctx context.Context, node, namespace, name string) (bool, error) {
	return r.anyPod(ctx, node, namespace, func(pod *corev1.Pod) bool {
		for i := range pod.Spec.ResourceClaims {
			if n := pod.Spec.ResourceClaims[i].ResourceClaimName; n != nil && *n == name {
				return true
			}
		}
		for i := range pod.Status.ResourceClaimStatuses {
			if n := pod.Status.ResourceClaimStatuses[i].ResourceClaimName; n != nil && *n == name {
				return true
			}
		}
		return pod.Status.ExtendedResourceClaimStatus != nil && pod.Status.ExtendedResourceClaimStatus.ResourceClaimName == name
	})
}

// volume: the claim that the volume is bound to is used by a pod of the node.
func (r related) volume(ctx context.Context, node, _, name string) (bool, error) {
	pv, found, err := admission.GetAny[*corev1.PersistentVolume](ctx, r.reader, core("persistentvolumes"), "", name)
	if err != nil || !found || pv.Spec.ClaimRef == nil {
		return false, err
	}
	return r.claim(ctx, node, pv.Spec.ClaimRef.Namespace, pv.Spec.ClaimRef.Name)
}

// secret: a pod of the node refers to it, or mounts a volume that does.
func (r related) secret(ctx context.Context, node, namespace, name string) (bool, error) {
	ok, err := r.anyPod(ctx, node, namespace, func(pod *corev1.Pod) bool { return refersToSecret(pod, name) })
	if ok || err != nil {
		return ok, err
	}
	volumes, err := r.reader.List(ctx, core("persistentvolumes"), "")
	if err != nil {
		return false, err
	}
	for _, item := range volumes {
		pv, isPV := item.(*corev1.PersistentVolume)
		if !isPV || pv.Spec.ClaimRef == nil || !volumeNeedsSecret(pv, namespace, name) {
			continue
		}
		if ok, err := r.claim(ctx, node, pv.Spec.ClaimRef.Namespace, pv.Spec.ClaimRef.Name); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

func (r related) attachment(ctx context.Context, node, _, name string) (bool, error) {
	va, found, err := admission.GetAny[*storagev1.VolumeAttachment](ctx, r.reader, schema.GroupResource{Group: storagev1.GroupName, Resource: "volumeattachments"}, "", name)
	return err == nil && found && va.Spec.NodeName == node, err
}

func (r related) resourceSlice(ctx context.Context, node, _, name string) (bool, error) {
	s, found, err := admission.GetAny[*resourcev1.ResourceSlice](ctx, r.reader, schema.GroupResource{Group: resourcev1.GroupName, Resource: "resourceslices"}, "", name)
	return err == nil && found && s.Spec.NodeName != nil && *s.Spec.NodeName == node, err
}

func usesClaim(pod *corev1.Pod, name string) bool {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == name {
			return true
		}
		if v.Ephemeral != nil && pod.Name+"-"+v.Name == name {
			return true
		}
	}
	return false
}

// eachContainerEnv calls fn with the env and envFrom of every container of any sort until fn returns true.
func eachContainerEnv(pod *corev1.Pod, fn func([]corev1.EnvVar, []corev1.EnvFromSource) bool) bool {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if fn(list[i].Env, list[i].EnvFrom) {
				return true
			}
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if fn(pod.Spec.EphemeralContainers[i].Env, pod.Spec.EphemeralContainers[i].EnvFrom) {
			return true
		}
	}
	return false
}

func refersToConfigMap(pod *corev1.Pod, name string) bool {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.ConfigMap != nil && v.ConfigMap.Name == name {
			return true
		}
		if v.Projected == nil {
			continue
		}
		for j := range v.Projected.Sources {
			if s := v.Projected.Sources[j].ConfigMap; s != nil && s.Name == name {
				return true
			}
		}
	}
	return eachContainerEnv(pod, func(env []corev1.EnvVar, from []corev1.EnvFromSource) bool {
		for i := range env {
			if f := env[i].ValueFrom; f != nil && f.ConfigMapKeyRef != nil && f.ConfigMapKeyRef.Name == name {
				return true
			}
		}
		for i := range from {
			if from[i].ConfigMapRef != nil && from[i].ConfigMapRef.Name == name {
				return true
			}
		}
		return false
	})
}

func refersToSecret(pod *corev1.Pod, name string) bool {
	for i := range pod.Spec.ImagePullSecrets {
		if pod.Spec.ImagePullSecrets[i].Name == name {
			return true
		}
	}
	for i := range pod.Spec.Volumes {
		if volumeRefersToSecret(&pod.Spec.Volumes[i], name) {
			return true
		}
	}
	return eachContainerEnv(pod, func(env []corev1.EnvVar, from []corev1.EnvFromSource) bool {
		for i := range env {
			if f := env[i].ValueFrom; f != nil && f.SecretKeyRef != nil && f.SecretKeyRef.Name == name {
				return true
			}
		}
		for i := range from {
			if from[i].SecretRef != nil && from[i].SecretRef.Name == name {
				return true
			}
		}
		return false
	})
}

func volumeRefersToSecret(v *corev1.Volume, name string) bool {
	local := func(ref *corev1.LocalObjectReference) bool { return ref != nil && ref.Name == name }
	switch {
	case v.Secret != nil:
		return v.Secret.SecretName == name
	case v.Projected != nil:
		for j := range v.Projected.Sources {
			if s := v.Projected.Sources[j].Secret; s != nil && s.Name == name {
				return true
			}
		}
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
		return v.AzureFile.SecretName == name
	}
	return false
}

// volumeNeedsSecret tells whether mounting the volume needs a secret. References without a namespace mean the claim's.
func volumeNeedsSecret(pv *corev1.PersistentVolume, namespace, name string) bool {
	is := func(ref *corev1.SecretReference) bool {
		if ref == nil || ref.Name != name {
			return false
		}
		return ref.Namespace == namespace || ref.Namespace == "" && pv.Spec.ClaimRef.Namespace == namespace
	}
	src := &pv.Spec.PersistentVolumeSource
	switch {
	case src.CSI != nil:
		return is(src.CSI.NodePublishSecretRef) || is(src.CSI.NodeStageSecretRef) || is(src.CSI.ControllerPublishSecretRef) ||
			is(src.CSI.ControllerExpandSecretRef) || is(src.CSI.NodeExpandSecretRef)
	case src.ISCSI != nil:
		return is(src.ISCSI.SecretRef)
	case src.RBD != nil:
		return is(src.RBD.SecretRef)
	case src.CephFS != nil:
		return is(src.CephFS.SecretRef)
	case src.FlexVolume != nil:
		return is(src.FlexVolume.SecretRef)
	case src.ScaleIO != nil:
		return is(src.ScaleIO.SecretRef)
	case src.Cinder != nil:
		return is(src.Cinder.SecretRef)
	case src.AzureFile != nil:
		ns := pv.Spec.ClaimRef.Namespace
		if src.AzureFile.SecretNamespace != nil {
			ns = *src.AzureFile.SecretNamespace
		}
		return src.AzureFile.SecretName == name && ns == namespace
	}
	return false
}
