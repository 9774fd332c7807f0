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
	"kogge.dev/kogge/rules/podrefs"
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
	return r.anyPod(ctx, node, namespace, func(pod *corev1.Pod) bool { return podrefs.Names(pod, podrefs.ConfigMaps, name) })
}

func (r related) serviceAccount(ctx context.Context, node, namespace, name string) (bool, error) {
	return r.anyPod(ctx, node, namespace, func(pod *corev1.Pod) bool { return pod.Spec.ServiceAccountName == name })
}

func (r related) claim(ctx context.Context, node, namespace, name string) (bool, error) {
	return r.anyPod(ctx, node, namespace, func(pod *corev1.Pod) bool { return podrefs.Names(pod, podrefs.PersistentVolumeClaims, name) })
}

func (r related) resourceClaim(ctx context.Context, node, namespace, name string) (bool, error) {
	return r.anyPod(ctx, node, namespace, func(pod *corev1.Pod) bool { return podrefs.Names(pod, podrefs.ResourceClaims, name) })
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
	ok, err := r.anyPod(ctx, node, namespace, func(pod *corev1.Pod) bool { return podrefs.Names(pod, podrefs.Secrets, name) })
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
