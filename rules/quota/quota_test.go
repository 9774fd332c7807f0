// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package quota_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/rules/quota"
)

func list(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func podWith(requests, limits corev1.ResourceList) *corev1.Pod {
	return &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits}}}}}
}

func TestUsage(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ended := podWith(list("cpu", "1"), nil)
	ended.Status.Phase = corev1.PodSucceeded
	overdue := podWith(list("cpu", "1"), nil)
	overdue.DeletionTimestamp, overdue.DeletionGracePeriodSeconds = new(metav1.NewTime(now.Add(-time.Minute))), new(int64(30))
	leaving := podWith(list("cpu", "1"), nil)
	leaving.DeletionTimestamp, leaving.DeletionGracePeriodSeconds = new(metav1.NewTime(now.Add(-time.Second))), new(int64(30))
	core := func(r string) schema.GroupResource { return schema.GroupResource{Resource: r} }
	for _, c := range []struct {
		name string
		gr   schema.GroupResource
		obj  runtime.Object
		want string
	}{
		{
			"a pod", core("pods"), podWith(list("cpu", "500m", "memory", "1Gi", "example.com/gpu", "2", "hugepages-2Mi", "4Mi"), list("cpu", "1")),
			"count/pods=1,cpu=500m,hugepages-2Mi=4Mi,limits.cpu=1,memory=1Gi,pods=1,requests.cpu=500m,requests.example.com/gpu=2,requests.hugepages-2Mi=4Mi,requests.memory=1Gi",
		},
		{"a pod that has ended", core("pods"), ended, "count/pods=1"},
		{"a pod that should have ended", core("pods"), overdue, "count/pods=1"},
		{"a pod within its grace period", core("pods"), leaving, "count/pods=1,cpu=1,pods=1,requests.cpu=1"},
		{"a cluster IP", core("services"), &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP}}, "count/services=1,services.loadbalancers=0,services.nodeports=0,services=1"},
		{"node ports", core("services"), &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: make([]corev1.ServicePort, 2)}}, "count/services=1,services.loadbalancers=0,services.nodeports=2,services=1"},
		{"a load balancer without node ports", core("services"), &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, AllocateLoadBalancerNodePorts: new(false), Ports: make([]corev1.ServicePort, 2)}}, "count/services=1,services.loadbalancers=1,services.nodeports=0,services=1"},
		{"a claim", core("persistentvolumeclaims"), &corev1.PersistentVolumeClaim{
			Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: new("gold"), Resources: corev1.VolumeResourceRequirements{Requests: list("storage", "1Gi")}},
		}, "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,requests.storage=1Gi"},
		{"a resource claim", schema.GroupResource{Group: "resource.k8s.io", Resource: "resourceclaims"}, &resourcev1.ResourceClaim{Spec: resourcev1.ResourceClaimSpec{Devices: resourcev1.DeviceClaim{Requests: []resourcev1.DeviceRequest{
			{Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu", Count: 2}}, {Exactly: &resourcev1.ExactDeviceRequest{DeviceClassName: "gpu", Count: 1}},
		}}}}, "count/resourceclaims.resource.k8s.io=1,gpu.deviceclass.resource.k8s.io/devices=3"},
		{"a config map", core("configmaps"), &corev1.ConfigMap{}, "configmaps=1,count/configmaps=1"},
		{"anything", schema.GroupResource{Group: "apps", Resource: "deployments"}, &corev1.ConfigMap{}, "count/deployments.apps=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := quota.Text(quota.For(c.gr).Usage(c.obj, now)); got != c.want {
				t.Errorf("Usage = %s\nwant    %s", got, c.want)
			}
		})
	}
}

func TestMatches(t *testing.T) {
	hard := list("pods", "1")
	with := func(scopes ...corev1.ResourceQuotaScope) *corev1.ResourceQuota {
		return &corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{Hard: hard, Scopes: scopes}, Status: corev1.ResourceQuotaStatus{Hard: hard}}
	}
	class := func(op corev1.ScopeSelectorOperator, values ...string) *corev1.ResourceQuota {
		q := with()
		q.Spec.ScopeSelector = &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{{ScopeName: corev1.ResourceQuotaScopePriorityClass, Operator: op, Values: values}}}
		return q
	}
	plain, burst, deadline, high := podWith(nil, nil), podWith(list("cpu", "1"), nil), podWith(nil, nil), podWith(nil, nil)
	deadline.Spec.ActiveDeadlineSeconds = new(int64(5))
	high.Spec.PriorityClassName = "high"
	crossing := podWith(nil, nil)
	crossing.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{Namespaces: []string{"x"}}}}}
	for _, c := range []struct {
		name string
		q    *corev1.ResourceQuota
		pod  *corev1.Pod
		want bool
	}{
		{"no scope", with(), plain, true},
		{"best effort", with(corev1.ResourceQuotaScopeBestEffort), plain, true},
		{"best effort, but with requests", with(corev1.ResourceQuotaScopeBestEffort), burst, false},
		{"not best effort", with(corev1.ResourceQuotaScopeNotBestEffort), burst, true},
		{"terminating", with(corev1.ResourceQuotaScopeTerminating), deadline, true},
		{"not terminating, but with deadline", with(corev1.ResourceQuotaScopeNotTerminating), deadline, false},
		{"both scopes must hold", with(corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotBestEffort), deadline, false},
		{"priority class", class(corev1.ScopeSelectorOpIn, "high"), high, true},
		{"another priority class", class(corev1.ScopeSelectorOpIn, "low"), high, false},
		{"not in, without class", class(corev1.ScopeSelectorOpNotIn, "high"), plain, true},
		{"exists, without class", class(corev1.ScopeSelectorOpExists), plain, false},
		{"cross-namespace affinity", with(corev1.ResourceQuotaScopeCrossNamespacePodAffinity), crossing, true},
		{"no cross-namespace affinity", with(corev1.ResourceQuotaScopeCrossNamespacePodAffinity), plain, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := quota.For(schema.GroupResource{Resource: "pods"}).Matches(c.q, c.pod)
			if err != nil || got != c.want {
				t.Errorf("Matches = %v, %v, want %v", got, err, c.want)
			}
		})
	}
	if ok, _ := quota.For(schema.GroupResource{Resource: "services"}).Matches(with(), &corev1.Service{}); ok {
		t.Error("a service matches a quota on pods")
	}
	if ok, _ := quota.For(schema.GroupResource{Resource: "services"}).Matches(&corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{Hard: list("services", "1"), Scopes: []corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeBestEffort}}}, &corev1.Service{}); ok {
		t.Error("a service is within a scope of pods")
	}
}

func TestConstraints(t *testing.T) {
	pod := podWith(list("cpu", "1"), nil)
	pod.Spec.InitContainers = []corev1.Container{{Name: "a"}}
	err := quota.For(schema.GroupResource{Resource: "pods"}).Constraints([]corev1.ResourceName{"requests.cpu", "limits.memory", "pods", "requests.storage"}, pod)
	if want := "must specify limits.memory for: a,c; requests.cpu for: a"; err == nil || err.Error() != want {
		t.Errorf("Constraints = %v, want %s", err, want)
	}
}

func TestArithmetic(t *testing.T) {
	if got, want := quota.Text(quota.Add(list("cpu", "500m", "pods", "1"), list("cpu", "1", "memory", "1Gi"))), "cpu=1500m,memory=1Gi,pods=1"; got != want {
		t.Errorf("Add = %s, want %s", got, want)
	}
	if got, want := quota.Text(quota.Grown(list("cpu", "2", "pods", "1", "memory", "1"), list("cpu", "500m", "pods", "1", "memory", "2"))), "cpu=1500m"; got != want {
		t.Errorf("Grown = %s, want %s", got, want)
	}
	if got, want := quota.NamesText(quota.Exceeding(list("cpu", "2", "pods", "1"), list("cpu", "1", "memory", "1"))), "cpu"; got != want {
		t.Errorf("Exceeding = %s, want %s", got, want)
	}
	for name, want := range map[corev1.ResourceName]string{"count/deployments.apps": "deployments.apps", "requests.example.com/gpu": "pods", "services": "services", "secrets": "secrets", "gold.storageclass.storage.k8s.io/requests.storage": "persistentvolumeclaims"} {
		if got, ok := quota.GroupResourceOf(name); !ok || got.String() != want {
			t.Errorf("GroupResourceOf(%s) = %s, %v, want %s", name, got, ok, want)
		}
	}
}
