// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package disruption

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// scale adds up how many pods the controllers of the covered ones want.
func (c *controller) scale(ctx context.Context, covered []*corev1.Pod) (total int32, unmanaged bool, err error) {
	known := map[types.UID]bool{} // pods' direct controllers
	counted := map[types.UID]bool{}
	for _, pod := range covered {
		ref := metav1.GetControllerOf(pod)
		if ref == nil {
			unmanaged = true
			continue
		}
		if known[ref.UID] {
			continue
		}
		known[ref.UID] = true
		uid, n, err := c.scaleOf(ctx, pod.Namespace, ref)
		if err != nil {
			return 0, false, err
		}
		if uid == "" {
			return 0, false, fmt.Errorf("found no controllers for pod %q", pod.Name)
		}
		if !counted[uid] {
			counted[uid] = true
			total += n
		}
	}
	return total, unmanaged, nil
}

// scaleOf returns who decides about the number of pods of a controller, and that number: a Deployment instead of its
// ReplicaSet. An empty UID means that there is no such controller.
func (c *controller) scaleOf(ctx context.Context, namespace string, ref *metav1.OwnerReference) (types.UID, int32, error) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return "", 0, err
	}
	switch gk := (schema.GroupKind{Group: gv.Group, Kind: ref.Kind}); gk {
	case schema.GroupKind{Kind: "ReplicationController"}:
		if rc, ok := c.replications.Get(namespace, ref.Name); ok && rc.UID == ref.UID {
			return rc.UID, value(rc.Spec.Replicas), nil
		}
	case schema.GroupKind{Group: appsv1.GroupName, Kind: "StatefulSet"}:
		if set, ok := c.statefulSets.Get(namespace, ref.Name); ok && set.UID == ref.UID {
			return set.UID, value(set.Spec.Replicas), nil
		}
	case schema.GroupKind{Group: appsv1.GroupName, Kind: "ReplicaSet"}:
		set, ok := c.replicaSets.Get(namespace, ref.Name)
		if !ok || set.UID != ref.UID {
			return "", 0, nil
		}
		if up := metav1.GetControllerOf(set); up != nil && up.Kind == "Deployment" {
			if d, ok := c.deployments.Get(namespace, up.Name); ok && d.UID == up.UID {
				return d.UID, value(d.Spec.Replicas), nil
			}
		}
		return set.UID, value(set.Spec.Replicas), nil
	default:
		return c.askScale(ctx, namespace, gk.WithVersion(gv.Version), ref)
	}
	return "", 0, nil
}

// askScale reads the scale subresource of any other kind.
func (c *controller) askScale(ctx context.Context, namespace string, gvk schema.GroupVersionKind, ref *metav1.OwnerReference) (types.UID, int32, error) {
	gvr, err := c.scales.Resource(gvk)
	if err != nil {
		return "", 0, err
	}
	scale, err := c.scales.Get(ctx, gvr, namespace, ref.Name)
	if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
		return "", 0, fmt.Errorf("%s does not implement the scale subresource", gvr.GroupResource())
	}
	if err != nil {
		return "", 0, err
	}
	if scale.UID != ref.UID {
		return "", 0, nil
	}
	return scale.UID, scale.Spec.Replicas, nil
}

func value(replicas *int32) int32 {
	if replicas == nil {
		return 1
	}
	return *replicas
}
