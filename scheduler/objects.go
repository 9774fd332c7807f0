// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"

	"kogge.dev/kogge/client"
)

// followObjects subscribes to what decisions depend on besides nodes and pods.
func (s *Scheduler) followObjects(set *client.Informers) {
	followObject[*corev1.Namespace](s, set)
	s.claimSet = followObject[*corev1.PersistentVolumeClaim](s, set)
	s.claimSet.Handle(client.Handler[*corev1.PersistentVolumeClaim]{
		Update: func(_, _ *corev1.PersistentVolumeClaim) { s.waits.fire() },
		Delete: func(*corev1.PersistentVolumeClaim) { s.waits.fire() },
	})
	followObject[*corev1.PersistentVolume](s, set)
	followObject[*storagev1.StorageClass](s, set)
	followObject[*storagev1.CSINode](s, set)
	followObject[*storagev1.CSIDriver](s, set)
	followObject[*storagev1.CSIStorageCapacity](s, set)
	followObject[*storagev1.VolumeAttachment](s, set)
	followObject[*resourcev1.ResourceClaim](s, set)
	followObject[*resourcev1.DeviceClass](s, set)
	followObject[*resourcev1.ResourceSlice](s, set)
	followObject[*policyv1.PodDisruptionBudget](s, set)
	followObject[*corev1.Service](s, set)
	followObject[*corev1.ReplicationController](s, set)
	followObject[*appsv1.ReplicaSet](s, set)
	followObject[*appsv1.StatefulSet](s, set)
}
