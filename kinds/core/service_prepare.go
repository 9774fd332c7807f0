// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// A Service's fields are tied to one another and to its type. These functions guess what a client means that changes
// only some of them; what they leave wrong, validation refuses.

// pairClusterIPs brings clusterIP and clusterIPs in line: clients that know only the first may set that alone.
func pairClusterIPs(new, old *corev1.Service) {
	spec := &new.Spec
	if old == nil {
		if spec.ClusterIP != "" && len(spec.ClusterIPs) == 0 {
			spec.ClusterIPs = []string{spec.ClusterIP}
		}
		return
	}
	before := &old.Spec
	if spec.ClusterIP == before.ClusterIP {
		if len(spec.ClusterIPs) == 0 && len(before.ClusterIPs) > 0 {
			spec.ClusterIPs = slices.Clone(before.ClusterIPs)
		}
		return
	}
	if !slices.Equal(spec.ClusterIPs, before.ClusterIPs) {
		return
	}
	if spec.ClusterIP == "" {
		spec.ClusterIPs = nil
	} else {
		spec.ClusterIPs = []string{spec.ClusterIP}
	}
}

// keepAllocated fills in addresses and ports that old has and new leaves open, so that a manifest without them can be
// applied again and again.
func keepAllocated(new, old *corev1.Service) {
	spec, before := &new.Spec, &old.Spec
	if hasClusterIP(spec) && hasClusterIP(before) {
		if spec.ClusterIP == "" {
			spec.ClusterIP = before.ClusterIP
		}
		if len(spec.ClusterIPs) == 0 {
			spec.ClusterIPs = slices.Clone(before.ClusterIPs)
		}
	}
	if hasNodePorts(spec) && hasNodePorts(before) {
		keepNodePorts(spec, before)
	}
	if hasHealthPort(spec) && hasHealthPort(before) && spec.HealthCheckNodePort == 0 {
		spec.HealthCheckNodePort = before.HealthCheckNodePort
	}
}

// keepNodePorts gives a port without node port the one that the port of the same name had, unless it is taken.
func keepNodePorts(spec, before *corev1.ServiceSpec) {
	had := map[string]int32{}
	stays := map[int32]bool{}
	for _, port := range before.Ports {
		had[port.Name] = port.NodePort
		if port.NodePort != 0 && slices.ContainsFunc(spec.Ports, func(p corev1.ServicePort) bool { return p.NodePort == port.NodePort }) {
			stays[port.NodePort] = true
		}
	}
	for i := range spec.Ports {
		port := &spec.Ports[i]
		if port.NodePort == 0 && !stays[had[port.Name]] {
			port.NodePort = had[port.Name]
		}
	}
}

// dropForType clears fields that the new type has no use for and that the client did not change: they were set
// automatically for the old type.
func dropForType(new, old *corev1.Service) {
	spec, before := &new.Spec, &old.Spec
	if hasClusterIP(before) && !hasClusterIP(spec) {
		if spec.ClusterIP == before.ClusterIP && slices.Equal(spec.ClusterIPs, before.ClusterIPs) {
			spec.ClusterIP, spec.ClusterIPs = "", nil
		}
		if reflect.DeepEqual(spec.IPFamilies, before.IPFamilies) {
			spec.IPFamilies = nil
		}
		if ptr.Deref(spec.IPFamilyPolicy, "") == ptr.Deref(before.IPFamilyPolicy, "") {
			spec.IPFamilyPolicy = nil
		}
	}
	if hasNodePorts(before) && !hasNodePorts(spec) && noNewNodePorts(spec, before) {
		for i := range spec.Ports {
			spec.Ports[i].NodePort = 0
		}
	}
	if hasHealthPort(before) && !hasHealthPort(spec) && spec.HealthCheckNodePort == before.HealthCheckNodePort {
		spec.HealthCheckNodePort = 0
	}
	if before.Type == corev1.ServiceTypeLoadBalancer && spec.Type != corev1.ServiceTypeLoadBalancer {
		if spec.AllocateLoadBalancerNodePorts != nil && ptr.Equal(spec.AllocateLoadBalancerNodePorts, before.AllocateLoadBalancerNodePorts) {
			spec.AllocateLoadBalancerNodePorts = nil
		}
		if ptr.Equal(spec.LoadBalancerClass, before.LoadBalancerClass) {
			spec.LoadBalancerClass = nil
		}
	}
	if reachableFromOutside(before) && !reachableFromOutside(spec) && spec.ExternalTrafficPolicy == before.ExternalTrafficPolicy {
		spec.ExternalTrafficPolicy = ""
	}
	if spec.Type != corev1.ServiceTypeLoadBalancer {
		new.Status.LoadBalancer = corev1.LoadBalancerStatus{}
	}
}

func noNewNodePorts(spec, before *corev1.ServiceSpec) bool {
	for _, port := range spec.Ports {
		if port.NodePort != 0 && !slices.ContainsFunc(before.Ports, func(p corev1.ServicePort) bool { return p.NodePort == port.NodePort }) {
			return false
		}
	}
	return true
}

func hasClusterIP(spec *corev1.ServiceSpec) bool { return spec.Type != corev1.ServiceTypeExternalName }

func hasNodePorts(spec *corev1.ServiceSpec) bool {
	return spec.Type == corev1.ServiceTypeNodePort || spec.Type == corev1.ServiceTypeLoadBalancer
}

// hasHealthPort reports whether nodes tell the load balancer over a port of its own whether they have an endpoint.
func hasHealthPort(spec *corev1.ServiceSpec) bool {
	return spec.Type == corev1.ServiceTypeLoadBalancer && spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// headless reports whether a Service has asked for no cluster IP.
func headless(s *corev1.Service) bool {
	return len(s.Spec.ClusterIPs) == 1 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone
}
