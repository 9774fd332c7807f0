// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package quota

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func serviceEvaluator() *Evaluator {
	gr := schema.GroupResource{Resource: "services"}
	return &Evaluator{
		gr:    gr,
		names: []corev1.ResourceName{CountName(gr), corev1.ResourceServices, corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers},
		usage: func(obj runtime.Object, _ time.Time) corev1.ResourceList {
			svc, ok := obj.(*corev1.Service)
			if !ok {
				return corev1.ResourceList{}
			}
			out := corev1.ResourceList{
				CountName(gr): one(), corev1.ResourceServices: one(),
				corev1.ResourceServicesLoadBalancers: *resource.NewQuantity(0, resource.DecimalSI),
				corev1.ResourceServicesNodePorts:     *resource.NewQuantity(0, resource.DecimalSI),
			}
			ports := int64(len(svc.Spec.Ports))
			switch svc.Spec.Type {
			case corev1.ServiceTypeNodePort:
				out[corev1.ResourceServicesNodePorts] = *resource.NewQuantity(ports, resource.DecimalSI)
			case corev1.ServiceTypeLoadBalancer:
				if svc.Spec.AllocateLoadBalancerNodePorts != nil && !*svc.Spec.AllocateLoadBalancerNodePorts {
					ports = 0
					for i := range svc.Spec.Ports {
						if svc.Spec.Ports[i].NodePort != 0 {
							ports++
						}
					}
				}
				out[corev1.ResourceServicesNodePorts] = *resource.NewQuantity(ports, resource.DecimalSI)
				out[corev1.ResourceServicesLoadBalancers] = one()
			case corev1.ServiceTypeClusterIP, corev1.ServiceTypeExternalName: // counted as a Service alone
			}
			return out
		},
	}
}

// classSuffix: <class>.storageclass.storage.k8s.io/{requests.storage,persistentvolumeclaims}.
const classSuffix = ".storageclass.storage.k8s.io/"

func claimEvaluator() *Evaluator {
	gr := schema.GroupResource{Resource: "persistentvolumeclaims"}
	return &Evaluator{
		gr:    gr,
		names: []corev1.ResourceName{CountName(gr), corev1.ResourcePersistentVolumeClaims, corev1.ResourceRequestsStorage},
		also: func(name corev1.ResourceName) bool {
			s := string(name)
			return strings.HasSuffix(s, classSuffix+string(corev1.ResourceRequestsStorage)) || strings.HasSuffix(s, classSuffix+string(corev1.ResourcePersistentVolumeClaims))
		},
		usage: func(obj runtime.Object, _ time.Time) corev1.ResourceList {
			claim, ok := obj.(*corev1.PersistentVolumeClaim)
			if !ok {
				return corev1.ResourceList{}
			}
			return claimUsage(gr, claim)
		},
		scope: func(sel corev1.ScopedResourceSelectorRequirement, obj runtime.Object) (bool, error) {
			claim, ok := obj.(*corev1.PersistentVolumeClaim)
			if !ok {
				return false, fmt.Errorf("expect *v1.PersistentVolumeClaim, got %T", obj)
			}
			if sel.ScopeName != corev1.ResourceQuotaScopeVolumeAttributesClass {
				return false, nil
			}
			class := ""
			if claim.Spec.VolumeAttributesClassName != nil {
				class = *claim.Spec.VolumeAttributesClassName
			}
			return selects(sel, class)
		},
	}
}

func claimUsage(gr schema.GroupResource, claim *corev1.PersistentVolumeClaim) corev1.ResourceList {
	out := corev1.ResourceList{CountName(gr): one(), corev1.ResourcePersistentVolumeClaims: one()}
	class := ""
	if name, ok := claim.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		class = name
	} else if claim.Spec.StorageClassName != nil {
		class = *claim.Spec.StorageClassName
	}
	if class != "" {
		out[corev1.ResourceName(class)+classSuffix+corev1.ResourcePersistentVolumeClaims] = one()
	}
	size, ok := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	// An expansion that was taken back still holds what was allocated for it.
	if allocated, has := claim.Status.AllocatedResources[corev1.ResourceStorage]; has && ok && allocated.Cmp(size) > 0 {
		size = allocated
	}
	if ok {
		out[corev1.ResourceRequestsStorage] = size
		if class != "" {
			out[corev1.ResourceName(class)+classSuffix+corev1.ResourceRequestsStorage] = size
		}
	}
	return out
}

// deviceSuffix: <class>.deviceclass.resource.k8s.io/devices.
const deviceSuffix = ".deviceclass.resource.k8s.io/devices"

func resourceClaimEvaluator() *Evaluator {
	gr := schema.GroupResource{Group: resourcev1.GroupName, Resource: "resourceclaims"}
	return &Evaluator{
		gr:    gr,
		names: []corev1.ResourceName{CountName(gr)},
		also:  func(name corev1.ResourceName) bool { return strings.HasSuffix(string(name), deviceSuffix) },
		usage: func(obj runtime.Object, _ time.Time) corev1.ResourceList {
			out := corev1.ResourceList{CountName(gr): one()}
			claim, ok := obj.(*resourcev1.ResourceClaim)
			if !ok {
				return out
			}
			for i := range claim.Spec.Devices.Requests {
				for class, n := range worstCase(&claim.Spec.Devices.Requests[i]) {
					name := corev1.ResourceName(class + deviceSuffix)
					sum := out[name].DeepCopy()
					sum.Add(*resource.NewQuantity(n, resource.DecimalSI))
					out[name] = sum
				}
			}
			return out
		},
	}
}

// worstCase counts the devices that a request may take of each class. Of alternatives, each class's largest counts; a request for
// all devices counts as many as a claim can hold.
func worstCase(r *resourcev1.DeviceRequest) map[string]int64 {
	count := func(mode resourcev1.DeviceAllocationMode, n int64) int64 {
		if mode == resourcev1.DeviceAllocationModeAll {
			return resourcev1.AllocationResultsMaxSize
		}
		return max(n, 1)
	}
	out := map[string]int64{}
	if r.Exactly != nil {
		out[r.Exactly.DeviceClassName] = count(r.Exactly.AllocationMode, r.Exactly.Count)
	}
	for i := range r.FirstAvailable {
		s := &r.FirstAvailable[i]
		out[s.DeviceClassName] = max(out[s.DeviceClassName], count(s.AllocationMode, s.Count))
	}
	return out
}
