// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/equal"
)

// node returns the node's API object as far as it is known.
func (k *Kubelet) node() *corev1.Node {
	if k.client == nil {
		return nil
	}
	n, _ := k.nodes.Get("", k.config.NodeName)
	return n
}

// nodeStatus registers the node and keeps its status. It reports when something changed, and else every five minutes, because
// the lease shows that the node lives. The runtime has no event for its own readiness, so it is asked: often while the node is
// not ready, twice a minute after that.
type nodeStatus struct {
	k              *Kubelet
	runtimeVersion string
	wake           chan struct{} // one slot: something may have changed

	mu       sync.Mutex
	pressure map[corev1.NodeConditionType]bool
	network  string // why the network is not ready; empty if it is
	asked    time.Time
	port     int32 // the server's
	// problem says why the node is not ready; silent is set while the runtime does not answer at all.
	problem string
	silent  bool
	// sent is the status as the API server has it, as far as known.
	sent   *corev1.NodeStatus
	sentAt time.Time
	// announced is the readiness that the last event told of.
	announced bool
	// inUse are the volumes that the API server knows to be in use; told is closed, and made anew, when they change.
	inUse []corev1.UniqueVolumeName
	told  chan struct{}
}

func newNodeStatus(k *Kubelet) *nodeStatus {
	return &nodeStatus{
		k: k, wake: make(chan struct{}, 1), told: make(chan struct{}), pressure: map[corev1.NodeConditionType]bool{}, network: "container runtime status check may not have completed yet",
		port: k.config.Settings.Port,
	}
}

// nodeUpdated is told that the node's object changed. Pods may wait for a volume that is attached now.
func (k *Kubelet) nodeUpdated(old, n *corev1.Node) {
	k.status.poke()
	if !slices.Equal(old.Status.VolumesAttached, n.Status.VolumesAttached) {
		k.retryPods()
	}
}

// announceTimeout bounds how long a volume waits for the node's status to name it; the pod tries again.
const announceTimeout = 10 * time.Second

// announce returns once the status that the API server has names a volume as in use.
func (k *Kubelet) announce(ctx context.Context, name corev1.UniqueVolumeName) error {
	if k.client == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	s := k.status
	for {
		s.mu.Lock()
		listed, told := slices.Contains(s.inUse, name), s.told
		s.mu.Unlock()
		if listed {
			return nil
		}
		s.poke()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-told:
		}
	}
}

func (k *Kubelet) volumeReleased() { k.status.poke() }

// setInUse remembers what the API server knows to be in use, and wakes who waits for it.
func (s *nodeStatus) setInUse(names []corev1.UniqueVolumeName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(s.inUse, names) {
		return
	}
	s.inUse = names
	close(s.told)
	s.told = make(chan struct{})
}

// poke makes the status be looked at soon.
func (s *nodeStatus) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *nodeStatus) run(ctx context.Context) {
	const fast, slow = 100 * time.Millisecond, 30 * time.Second
	for !s.register(ctx) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(fast):
		}
	}
	s.k.plugins.ensureCSINode(ctx)
	var last time.Time
	for ctx.Err() == nil {
		ready := s.askRuntime(ctx)
		next := slow
		if err := s.report(ctx, ready); err != nil {
			if ctx.Err() == nil {
				s.k.log.Warn("node status can't be reported", "err", err)
			}
			next = time.Second
		}
		if !ready {
			next = fast
			if time.Since(s.k.started) > 30*time.Second {
				next = 2 * time.Second
			}
		}
		last = time.Now()
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.wake:
			// Bursts of changes make one report. What stands between the node and being ready is looked at sooner.
			calm := time.Second
			if !ready {
				calm = 50 * time.Millisecond
			}
			select {
			case <-ctx.Done():
			case <-time.After(max(20*time.Millisecond, calm-time.Since(last))):
			}
		}
		timer.Stop()
	}
}

// askRuntime learns whether the runtime and its network are ready.
func (s *nodeStatus) askRuntime(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := s.k.config.Runtime.Containers.Status(ctx, &runtimeapi.StatusRequest{})
	problem, network := "", ""
	if err != nil {
		problem = "container runtime status check failed: " + err.Error()
		network = problem
	}
	for _, c := range r.GetStatus().GetConditions() {
		if c.GetStatus() {
			continue
		}
		text := fmt.Sprintf("%s=false reason:%s message:%s", c.GetType(), c.GetReason(), c.GetMessage())
		switch c.GetType() {
		case runtimeapi.NetworkReady:
			network = "container runtime network not ready: " + text
			problem = network
		case runtimeapi.RuntimeReady:
			problem = "container runtime not ready: " + text
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problem, s.network, s.asked, s.silent = problem, network, time.Now(), err != nil
	return problem == ""
}

// networkNotReady returns why pods can't have a network now; empty if they can.
func (s *nodeStatus) networkNotReady(ctx context.Context) string {
	s.mu.Lock()
	message, fresh := s.network, time.Since(s.asked) < time.Second
	s.mu.Unlock()
	if message == "" || fresh {
		return message
	}
	if s.askRuntime(ctx) {
		s.poke()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.network
}

// setPressure records what the eviction manager found.
func (s *nodeStatus) setPressure(t corev1.NodeConditionType, holds bool) {
	s.mu.Lock()
	changed := s.pressure[t] != holds
	s.pressure[t] = holds
	s.mu.Unlock()
	if changed {
		s.poke()
	}
}

// pressures lists the pressure conditions that hold.
func (k *Kubelet) pressures() []string {
	k.status.mu.Lock()
	defer k.status.mu.Unlock()
	var out []string
	for t, holds := range k.status.pressure {
		if holds {
			out = append(out, string(t))
		}
	}
	slices.Sort(out)
	return out
}

// register makes the node's object, or brings labels and annotations of an existing one up to date.
func (s *nodeStatus) register(ctx context.Context) bool {
	k := s.k
	nodes := client.Of[*corev1.Node](k.client)
	want := s.initial()
	existing, err := nodes.Get(ctx, "", k.config.NodeName)
	if apierrors.IsNotFound(err) && *k.config.Settings.RegisterNode {
		ready := s.askRuntime(ctx)
		s.fill(ctx, &want.Status, &corev1.NodeStatus{}, ready, time.Now())
		existing, err = nodes.Create(ctx, want)
		if err == nil {
			k.log.Info("node registered", "node", k.config.NodeName)
		}
	}
	if err != nil {
		if ctx.Err() == nil {
			k.log.Warn("node can't be registered yet", "err", err)
		}
		return false
	}
	patch := map[string]any{}
	labels, annotations := map[string]string{}, map[string]string{}
	for name, value := range want.Labels {
		if existing.Labels[name] != value {
			labels[name] = value
		}
	}
	for name, value := range want.Annotations {
		if existing.Annotations[name] != value {
			annotations[name] = value
		}
	}
	if len(labels)+len(annotations) > 0 {
		patch["metadata"] = map[string]any{"labels": labels, "annotations": annotations}
	}
	if want.Spec.ProviderID != "" && existing.Spec.ProviderID == "" {
		patch["spec"] = map[string]any{"providerID": want.Spec.ProviderID}
	}
	if len(patch) > 0 {
		data, err := json.Marshal(patch)
		if err != nil {
			return false
		}
		if existing, err = nodes.Patch(ctx, "", k.config.NodeName, types.MergePatchType, data); err != nil {
			k.log.Warn("node can't be brought up to date", "err", err)
			return false
		}
	}
	s.sent, s.sentAt = existing.Status.DeepCopy(), time.Time{}
	return true
}

// initial is the node's object as this kubelet would make it.
func (s *nodeStatus) initial() *corev1.Node {
	c := &s.k.config
	n := &corev1.Node{}
	n.Name = c.NodeName
	n.Labels = maps.Clone(c.Labels)
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	info := s.k.machine.info
	n.Labels[corev1.LabelHostname] = c.Hostname
	n.Labels[corev1.LabelOSStable], n.Labels[corev1.LabelArchStable] = info.OperatingSystem, info.Architecture
	n.Labels["beta.kubernetes.io/os"], n.Labels["beta.kubernetes.io/arch"] = info.OperatingSystem, info.Architecture
	n.Annotations = map[string]string{"volumes.kubernetes.io/controller-managed-attach-detach": "true"}
	n.Spec.ProviderID, n.Spec.Taints = c.Settings.ProviderID, c.Settings.RegisterWithTaints
	return n
}

// report patches the status if it changed or was not reported for long.
func (s *nodeStatus) report(ctx context.Context, ready bool) error {
	k := s.k
	base := s.sent
	if n := k.node(); n != nil {
		base = &n.Status
	}
	now := time.Now()
	next := base.DeepCopy()
	s.fill(ctx, next, base, ready, now)
	due := now.Sub(s.sentAt) >= k.config.Settings.NodeStatusReportFrequency.Duration
	if !due && sameStatus(base, next) {
		s.setInUse(next.VolumesInUse)
		return nil
	}
	for i := range next.Conditions {
		if owned := next.Conditions[i].Type; isOwnedCondition(owned) {
			next.Conditions[i].LastHeartbeatTime = metav1.NewTime(now).Rfc3339Copy()
		}
	}
	patch, err := nodePatch(base, next)
	if err != nil {
		return err
	}
	n, err := client.Of[*corev1.Node](k.client).Patch(ctx, "", k.config.NodeName, types.StrategicMergePatchType, patch, "status")
	if apierrors.IsNotFound(err) {
		s.register(ctx)
		return err
	}
	if err != nil {
		return err
	}
	s.sent, s.sentAt = n.Status.DeepCopy(), now
	s.setInUse(next.VolumesInUse)
	return nil
}

func isOwnedCondition(t corev1.NodeConditionType) bool {
	return t == corev1.NodeReady || t == corev1.NodeMemoryPressure || t == corev1.NodeDiskPressure || t == corev1.NodePIDPressure
}

// sameStatus compares statuses but for heartbeats.
func sameStatus(a, b *corev1.NodeStatus) bool {
	strip := func(s *corev1.NodeStatus) *corev1.NodeStatus {
		s = s.DeepCopy()
		for i := range s.Conditions {
			s.Conditions[i].LastHeartbeatTime = metav1.Time{}
		}
		return s
	}
	return equal.Semantic(strip(a), strip(b))
}

// nodePatch is a strategic merge patch; addresses are replaced as a whole, because several may have one type.
func nodePatch(from, to *corev1.NodeStatus) ([]byte, error) {
	target := to.DeepCopy()
	target.Addresses = from.Addresses
	a, err := json.Marshal(&corev1.Node{Status: *from})
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(&corev1.Node{Status: *target})
	if err != nil {
		return nil, err
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(a, b, corev1.Node{})
	if err != nil || reflect.DeepEqual(from.Addresses, to.Addresses) {
		return patch, err
	}
	var parsed map[string]map[string]any
	if err := json.Unmarshal(patch, &parsed); err != nil {
		return nil, err
	}
	if parsed["status"] == nil {
		parsed["status"] = map[string]any{}
	}
	addresses := []any{map[string]any{"$patch": "replace"}}
	for _, address := range to.Addresses {
		addresses = append(addresses, address)
	}
	parsed["status"]["addresses"] = addresses
	return json.Marshal(parsed)
}

// fill writes all that the kubelet owns into a status.
func (s *nodeStatus) fill(ctx context.Context, next, old *corev1.NodeStatus, ready bool, now time.Time) {
	k := s.k
	next.Addresses = nil
	for _, ip := range k.hostIPs {
		next.Addresses = append(next.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	next.Addresses = append(next.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: k.config.Hostname})
	if next.Capacity == nil {
		next.Capacity, next.Allocatable = corev1.ResourceList{}, corev1.ResourceList{}
	}
	maps.Copy(next.Capacity, k.capacity())
	maps.Copy(next.Allocatable, k.allocatable())
	all, usable := k.devices.Capacity()
	maps.Copy(next.Capacity, all)
	followExtended(next)
	maps.Copy(next.Allocatable, usable)
	next.NodeInfo = k.machine.info
	next.NodeInfo.ContainerRuntimeVersion, next.NodeInfo.KubeletVersion = s.runtimeVersion, k.config.Version
	s.mu.Lock()
	port := s.port
	s.mu.Unlock()
	next.DaemonEndpoints.KubeletEndpoint.Port = port
	if list, ok := k.imageList(ctx); ok {
		next.Images = list
	}
	next.VolumesInUse = k.volumes.InUse()
	slices.Sort(next.VolumesInUse)
	next.RuntimeHandlers = k.runtimeHandlers()
	next.Features = &corev1.NodeFeatures{SupplementalGroupsPolicy: new(true)}
	next.DeclaredFeatures = declaredFeatures()
	s.setConditions(next, old, ready, now)
}

// followExtended makes allocatable what others advertise as this node's capacity: an administrator patches the capacity of an
// extended resource only, as the documentation of Kubernetes says ("Advertise Extended Resources for a Node").
func followExtended(s *corev1.NodeStatus) {
	for name, quantity := range s.Capacity {
		if isExtended(name) {
			s.Allocatable[name] = quantity
		}
	}
	maps.DeleteFunc(s.Allocatable, func(name corev1.ResourceName, _ resource.Quantity) bool {
		_, advertised := s.Capacity[name]
		return isExtended(name) && !advertised
	})
}

func (k *Kubelet) runtimeHandlers() []corev1.NodeRuntimeHandler {
	var out []corev1.NodeRuntimeHandler
	for _, name := range slices.Sorted(maps.Keys(k.features)) {
		out = append(out, corev1.NodeRuntimeHandler{Name: name, Features: &corev1.NodeRuntimeHandlerFeatures{
			RecursiveReadOnlyMounts: new(k.features[name].GetRecursiveReadOnlyMounts()), UserNamespaces: new(k.features[name].GetUserNamespaces()),
		}})
	}
	return out
}

func (s *nodeStatus) setConditions(next, old *corev1.NodeStatus, ready bool, now time.Time) {
	stamp := metav1.NewTime(now).Rfc3339Copy()
	set := func(t corev1.NodeConditionType, holds bool, reason, message string) {
		c := corev1.NodeCondition{Type: t, Status: corev1.ConditionFalse, Reason: reason, Message: message, LastHeartbeatTime: stamp, LastTransitionTime: stamp}
		if holds {
			c.Status = corev1.ConditionTrue
		}
		for i := range old.Conditions {
			if o := &old.Conditions[i]; o.Type == t {
				c.LastHeartbeatTime = o.LastHeartbeatTime
				if o.Status == c.Status {
					c.LastTransitionTime = o.LastTransitionTime
				}
			}
		}
		for i := range next.Conditions {
			if next.Conditions[i].Type == t {
				next.Conditions[i] = c
				return
			}
		}
		next.Conditions = append(next.Conditions, c)
	}
	s.mu.Lock()
	problem := s.problem
	pressure := maps.Clone(s.pressure)
	s.mu.Unlock()
	choose := func(holds bool, yes, no string) string {
		if holds {
			return yes
		}
		return no
	}
	memory, disk, pids := pressure[corev1.NodeMemoryPressure], pressure[corev1.NodeDiskPressure], pressure[corev1.NodePIDPressure]
	set(corev1.NodeMemoryPressure, memory, choose(memory, "KubeletHasInsufficientMemory", "KubeletHasSufficientMemory"),
		choose(memory, "kubelet has insufficient memory available", "kubelet has sufficient memory available"))
	set(corev1.NodeDiskPressure, disk, choose(disk, "KubeletHasDiskPressure", "KubeletHasNoDiskPressure"),
		choose(disk, "kubelet has disk pressure", "kubelet has no disk pressure"))
	set(corev1.NodePIDPressure, pids, choose(pids, "KubeletHasInsufficientPID", "KubeletHasSufficientPID"),
		choose(pids, "kubelet has insufficient PID available", "kubelet has sufficient PID available"))
	if ready {
		set(corev1.NodeReady, true, "KubeletReady", "kubelet is posting ready status")
	} else {
		set(corev1.NodeReady, false, "KubeletNotReady", strings.TrimSpace("["+problem+"]"))
	}
	if ready != s.announced {
		s.announced = ready
		s.k.nodeEvent(corev1.EventTypeNormal, choose(ready, "NodeReady", "NodeNotReady"),
			fmt.Sprintf("Node %s status is now: %s", s.k.config.NodeName, choose(ready, "NodeReady", "NodeNotReady")))
	}
}

// nodeEvent reports something about the node itself.
func (k *Kubelet) nodeEvent(kind, reason, message string) {
	ref := corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: k.config.NodeName, UID: types.UID(k.config.NodeName)}
	k.config.Recorder.Event(&ref, kind, reason, message)
}
