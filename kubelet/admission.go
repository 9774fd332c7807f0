// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"kogge.dev/kogge/kubelet/pod"
	"kogge.dev/kogge/rules/podresource"
	"kogge.dev/kogge/rules/qos"
	"kogge.dev/kogge/rules/taints"
)

// systemCritical is the priority from which pods displace others at the node.
const systemCritical = 2 * 1000000000

func isCritical(p *corev1.Pod, static bool) bool {
	return static || p.Spec.Priority != nil && *p.Spec.Priority >= systemCritical
}

// admitLocked judges whether the node can take a new pod. It returns how the pod ends if not. Pods that ran here before were
// admitted then.
func (k *Kubelet) admitLocked(w *worker, p *corev1.Pod) *pod.End {
	if p.DeletionTimestamp != nil || isFinished(p) || p.Status.StartTime != nil {
		return nil
	}
	others := k.activeLocked(w)
	if end := k.admitNode(p); end != nil {
		return end
	}
	if end := k.admitFeatures(p); end != nil {
		return end
	}
	if end := admitDeclared(p); end != nil {
		return end
	}
	if !w.static && k.underPressure(p) {
		return &pod.End{Rejected: true, Reason: "Evicted", Message: "The node had condition: [" + strings.Join(k.pressures(), ", ") + "]. "}
	}
	if end := portsFree(p, others); end != nil {
		return end
	}
	end := k.fits(p, others)
	if end == nil || !isCritical(p, w.static) {
		return end
	}
	victims := k.victims(p, others)
	if victims == nil {
		return end
	}
	for _, v := range victims {
		v.post(func() {
			grace := time.Duration(0)
			v.event(v.machine.Pod(), "", corev1.EventTypeWarning, "Preempting", "Preempted in order to admit critical pod")
			v.machine.Terminate(pod.End{
				Reason: "Preempting", Message: "Preempted in order to admit critical pod", Grace: &grace,
				Conditions: []corev1.PodCondition{{
					Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet,
					Message: "Pod was preempted by Kubelet to accommodate a critical pod.",
				}},
			})
		})
	}
	return nil
}

// activeLocked returns the other pods that take resources.
func (k *Kubelet) activeLocked(except *worker) []*worker {
	var out []*worker
	for _, w := range k.workers {
		v := w.view.Load()
		if w == except || v.stage == pod.Terminated || isFinished(v.pod) && v.stage == pod.Syncing && v.pod.DeletionTimestamp == nil {
			continue
		}
		out = append(out, w)
	}
	return out
}

// admitNode checks what binds a pod to the kind of node, and taints that forbid to run here at all.
func (k *Kubelet) admitNode(p *corev1.Pod) *pod.End {
	node := k.node()
	if node == nil {
		return nil
	}
	reject := func(reason, message string) *pod.End {
		return &pod.End{Rejected: true, Reason: reason, Message: message}
	}
	ok, err := nodeaffinity.GetRequiredNodeAffinity(p).Match(node)
	if err != nil || !ok {
		return reject("NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector")
	}
	if _, mirror := p.Annotations[annotationSource]; mirror {
		return nil
	}
	if t := taints.Untolerated(node.Spec.Taints, p.Spec.Tolerations, corev1.TaintEffectNoExecute); t != nil {
		return reject("TaintToleration", fmt.Sprintf("Predicate TaintToleration failed: node(s) had untolerated taint {%s: %s}", t.Key, t.Value))
	}
	return nil
}

// hostPort is a port of the node that a pod takes.
type hostPort struct {
	ip       string
	port     int32
	protocol corev1.Protocol
}

func hostPorts(p *corev1.Pod) []hostPort {
	var out []hostPort
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			for _, port := range list[i].Ports {
				if port.HostPort > 0 {
					out = append(out, hostPort{port.HostIP, port.HostPort, port.Protocol})
				}
			}
		}
	}
	return out
}

func (a hostPort) conflicts(b hostPort) bool {
	every := func(ip string) bool { return ip == "" || ip == "0.0.0.0" || ip == "::" }
	return a.port == b.port && a.protocol == b.protocol && (a.ip == b.ip || every(a.ip) || every(b.ip))
}

// portsFree refuses a pod whose ports another pod of the node has.
func portsFree(p *corev1.Pod, others []*worker) *pod.End {
	want := hostPorts(p)
	if len(want) == 0 {
		return nil
	}
	for _, w := range others {
		for _, taken := range hostPorts(w.view.Load().pod) {
			if slices.ContainsFunc(want, taken.conflicts) {
				return &pod.End{Rejected: true, Reason: "NodePorts", Message: "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"}
			}
		}
	}
	return nil
}

// safeSysctl reports whether a setting changes nothing outside the pod's own namespaces.
func safeSysctl(name string) bool {
	switch name {
	case "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start",
		"net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
		"net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem":
		return true
	}
	return false
}

// admitFeatures refuses what this node can't do, before anything is started.
func (k *Kubelet) admitFeatures(p *corev1.Pod) *pod.End {
	reject := func(reason, message string) *pod.End {
		return &pod.End{Rejected: true, Reason: reason, Message: "Pod was rejected: " + message}
	}
	if os := p.Spec.OS; os != nil && string(os.Name) != runtime.GOOS {
		return reject("PodOSNotSupported", fmt.Sprintf("Failed to admit pod as the OS field doesn't match node OS %s", runtime.GOOS))
	}
	if ownUsers(p) && !k.canUserNamespace(p) {
		return reject("UserNamespacesNotSupported", "user namespaces are not supported by the container runtime of this node")
	}
	if sc := p.Spec.SecurityContext; sc != nil {
		for _, s := range sc.Sysctls {
			name := strings.ReplaceAll(s.Name, "/", ".")
			hostScoped := p.Spec.HostNetwork && strings.HasPrefix(name, "net.") || p.Spec.HostIPC && strings.HasPrefix(name, "kernel.")
			allowed := safeSysctl(name) || slices.ContainsFunc(k.config.Settings.AllowedUnsafeSysctls, func(pattern string) bool {
				prefix, wild := strings.CutSuffix(pattern, "*")
				return name == pattern || wild && strings.HasPrefix(name, prefix)
			})
			if !allowed || hostScoped {
				return &pod.End{Rejected: true, Reason: "SysctlForbidden", Message: fmt.Sprintf("forbidden sysctl: %q not allowlisted", s.Name)}
			}
		}
	}
	return nil
}

// fits compares the pod's requests with what the others leave.
func (k *Kubelet) fits(p *corev1.Pod, others []*worker) *pod.End {
	allocatable := k.allocatable()
	_, usable := k.devices.Capacity()
	maps.Copy(allocatable, usable)
	if free := allocatable.Pods().Value() - int64(len(others)); free < 1 {
		return outOf(corev1.ResourcePods, 1, int64(len(others)), allocatable.Pods().Value())
	}
	want := podresource.SpecRequests(p)
	used := corev1.ResourceList{}
	for _, w := range others {
		for name, q := range podresource.SpecRequests(w.view.Load().pod) {
			sum := used[name]
			sum.Add(q)
			used[name] = sum
		}
	}
	for _, name := range sortedNames(want) {
		q := want[name]
		if q.IsZero() {
			continue
		}
		capacity, known := allocatable[name]
		if !known && isExtended(name) {
			continue // devices are judged by their plugin
		}
		taken := used[name]
		free := capacity.DeepCopy()
		free.Sub(taken)
		if q.Cmp(free) > 0 {
			if name == corev1.ResourceCPU {
				return outOf(name, q.MilliValue(), taken.MilliValue(), capacity.MilliValue())
			}
			return outOf(name, q.Value(), taken.Value(), capacity.Value())
		}
	}
	return nil
}

func isExtended(name corev1.ResourceName) bool {
	return strings.Contains(string(name), "/") && !strings.Contains(string(name), "kubernetes.io/")
}

func sortedNames(list corev1.ResourceList) []corev1.ResourceName {
	out := make([]corev1.ResourceName, 0, len(list))
	for name := range list {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func outOf(name corev1.ResourceName, requested, used, capacity int64) *pod.End {
	return &pod.End{
		Rejected: true, Reason: "OutOf" + string(name),
		Message: fmt.Sprintf("Pod was rejected: Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, requested, used, capacity),
	}
}

// victims picks pods to end for a critical one: as few and as unimportant as possible. Nil means that it would not help.
func (k *Kubelet) victims(p *corev1.Pod, others []*worker) []*worker {
	candidates := slices.DeleteFunc(slices.Clone(others), func(w *worker) bool {
		v := w.view.Load().pod
		return isCritical(v, w.static) || priority(v) >= priority(p)
	})
	rank := map[corev1.PodQOSClass]int{corev1.PodQOSBestEffort: 0, corev1.PodQOSBurstable: 1, corev1.PodQOSGuaranteed: 2}
	slices.SortStableFunc(candidates, func(a, b *worker) int {
		va, vb := a.view.Load().pod, b.view.Load().pod
		if d := int(priority(va)) - int(priority(vb)); d != 0 {
			return d
		}
		if d := rank[a.qos] - rank[b.qos]; d != 0 {
			return d
		}
		return vb.CreationTimestamp.Compare(va.CreationTimestamp.Time)
	})
	remaining := slices.Clone(others)
	var out []*worker
	for _, c := range candidates {
		if k.fits(p, remaining) == nil {
			break
		}
		out = append(out, c)
		remaining = slices.DeleteFunc(remaining, func(w *worker) bool { return w == c })
	}
	if k.fits(p, remaining) != nil {
		return nil
	}
	// What turned out not to be needed stays.
	for i := 0; i < len(out); {
		if with := append(slices.Clone(remaining), out[i]); k.fits(p, with) == nil {
			remaining = with
			out = slices.Delete(out, i, i+1)
			continue
		}
		i++
	}
	return out
}

func priority(p *corev1.Pod) int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}

// underPressure reports whether the node takes no pod of this kind now.
func (k *Kubelet) underPressure(p *corev1.Pod) bool {
	conditions := k.pressures()
	if len(conditions) == 0 || isCritical(p, false) {
		return false
	}
	if len(conditions) == 1 && conditions[0] == string(corev1.NodeMemoryPressure) {
		if qos.Of(p) != corev1.PodQOSBestEffort {
			return false
		}
		memory := &corev1.Taint{Key: corev1.TaintNodeMemoryPressure, Effect: corev1.TaintEffectNoSchedule}
		return !taints.Tolerated(p.Spec.Tolerations, memory)
	}
	return true
}
