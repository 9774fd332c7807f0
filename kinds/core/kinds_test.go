// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kinds"
)

func TestKindsAreInOrderOfDiscovery(t *testing.T) {
	var names []string
	for _, k := range Kinds() {
		names = append(names, k.Resource)
		var subs []string
		for _, s := range k.Subresources {
			subs = append(subs, s.Name)
		}
		if !slices.IsSorted(subs) {
			t.Errorf("%s: subresources %v are not sorted", k.Resource, subs)
		}
	}
	want := []string{
		"bindings", "componentstatuses", "configmaps", "endpoints", "events", "limitranges", "namespaces", "nodes", "persistentvolumeclaims",
		"persistentvolumes", "pods", "podtemplates", "replicationcontrollers", "resourcequotas", "secrets", "serviceaccounts", "services",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("Kinds() (-want +got):\n%s", diff)
	}
}

func TestStoragePrefixesAreUpstreams(t *testing.T) {
	for resource, want := range map[string]string{
		"nodes": "minions", "services": "services/specs", "endpoints": "services/endpoints", "replicationcontrollers": "controllers",
		"pods": "pods", "bindings": "", "componentstatuses": "",
	} {
		i := slices.IndexFunc(Kinds(), func(k *kinds.Kind) bool { return k.Resource == resource })
		if got := Kinds()[i].Storage.Prefix; got != want {
			t.Errorf("%s: prefix %q, want %q", resource, got, want)
		}
	}
}

func TestEventsKeepEverythingInBothGroups(t *testing.T) {
	f := filler(3)
	for range 100 {
		in := &corev1.Event{}
		f.Fill(in)
		in.TypeMeta = typeMeta("v1", "Event")
		newer, err := eventFromStorage(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := newer.(*eventsv1.Event).Note; got != in.Message {
			t.Fatalf("note %q, want %q", got, in.Message)
		}
		out, err := eventToStorage(newer)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(in, out); diff != "" {
			t.Fatalf("there and back (-before +after):\n%s", diff)
		}
	}
}

func TestEventsOfTheNewerGroupAreJudgedStrictly(t *testing.T) {
	e := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "ns"}, InvolvedObject: corev1.ObjectReference{Namespace: "ns"}, Type: "Odd"}
	if errs := validateEvent(kinds.Request{Version: corev1.SchemeGroupVersion}, e); len(errs) != 0 {
		t.Errorf("core/v1 refuses: %v", errs)
	}
	got := texts(validateEvent(kinds.Request{Version: eventsv1.SchemeGroupVersion}, e))
	want := []string{`Invalid value type "": has invalid value: Odd`, `Required value eventTime ""`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events.k8s.io/v1 (-want +got):\n%s", diff)
	}
}

func TestPodGracePeriod(t *testing.T) {
	for _, tc := range []struct {
		name    string
		node    string
		phase   corev1.PodPhase
		own     *int64
		asked   *int64
		seconds int64
	}{
		{"the pod's own", "n", corev1.PodRunning, ptr.To[int64](30), nil, 30},
		{"what the request asks for", "n", corev1.PodRunning, ptr.To[int64](30), ptr.To[int64](5), 5},
		{"at once when asked for nothing", "n", corev1.PodRunning, ptr.To[int64](30), ptr.To[int64](0), 0},
		{"at once before it has a node", "", corev1.PodPending, ptr.To[int64](30), ptr.To[int64](5), 0},
		{"at once when it has ended", "n", corev1.PodSucceeded, ptr.To[int64](30), nil, 0},
		{"at once when it has failed", "n", corev1.PodFailed, ptr.To[int64](30), ptr.To[int64](7), 0},
		{"a second when negative", "n", corev1.PodRunning, ptr.To[int64](30), ptr.To[int64](-3), 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := &corev1.Pod{Spec: corev1.PodSpec{NodeName: tc.node, TerminationGracePeriodSeconds: tc.own}, Status: corev1.PodStatus{Phase: tc.phase}}
			seconds, graceful := podGracePeriod(p, &metav1.DeleteOptions{GracePeriodSeconds: tc.asked})
			if seconds != tc.seconds || !graceful {
				t.Errorf("podGracePeriod = %d, %v, want %d, true", seconds, graceful, tc.seconds)
			}
		})
	}
}

func TestStatusKeepsObservedGenerations(t *testing.T) {
	old := &corev1.PodStatus{ObservedGeneration: 4, Conditions: []corev1.PodCondition{{Type: "A", ObservedGeneration: 2}, {Type: "A", ObservedGeneration: 3}}}
	now := &corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: "B"}, {Type: "A"}, {Type: "A", ObservedGeneration: 7}}}
	keepObservedGenerations(now, old)
	want := &corev1.PodStatus{ObservedGeneration: 4, Conditions: []corev1.PodCondition{{Type: "B"}, {Type: "A", ObservedGeneration: 2}, {Type: "A", ObservedGeneration: 7}}}
	if diff := cmp.Diff(want, now); diff != "" {
		t.Errorf("keepObservedGenerations (-want +got):\n%s", diff)
	}
}

func TestServiceUpdateKeepsWhatWasAllocated(t *testing.T) {
	old := &corev1.Service{Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeNodePort, ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.1"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
		Ports: []corev1.ServicePort{{Name: "a", Port: 1, NodePort: 30001}, {Name: "b", Port: 2, NodePort: 30002}},
	}}
	applied := func(kind corev1.ServiceType, ports ...corev1.ServicePort) *corev1.Service {
		s := &corev1.Service{Spec: corev1.ServiceSpec{Type: kind, Ports: ports, IPFamilies: old.Spec.IPFamilies}}
		defaultService(s)
		prepareService(kinds.Request{}, s, old)
		return s
	}
	t.Run("addresses and ports by name", func(t *testing.T) {
		s := applied(corev1.ServiceTypeNodePort, corev1.ServicePort{Name: "b", Port: 2}, corev1.ServicePort{Name: "c", Port: 3})
		if s.Spec.ClusterIP != "10.0.0.1" || !slices.Equal(s.Spec.ClusterIPs, []string{"10.0.0.1"}) {
			t.Errorf("cluster IPs %q %v", s.Spec.ClusterIP, s.Spec.ClusterIPs)
		}
		if s.Spec.Ports[0].NodePort != 30002 || s.Spec.Ports[1].NodePort != 0 {
			t.Errorf("node ports %d %d, want 30002 0", s.Spec.Ports[0].NodePort, s.Spec.Ports[1].NodePort)
		}
	})
	t.Run("not a port that another name takes", func(t *testing.T) {
		s := applied(corev1.ServiceTypeNodePort, corev1.ServicePort{Name: "a", Port: 1}, corev1.ServicePort{Name: "x", Port: 5, NodePort: 30001})
		if s.Spec.Ports[0].NodePort != 0 {
			t.Errorf("node port %d, want 0", s.Spec.Ports[0].NodePort)
		}
	})
	t.Run("nothing that the new type has no use for", func(t *testing.T) {
		s := old.DeepCopy()
		s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "foo.bar"
		prepareService(kinds.Request{}, s, old)
		if s.Spec.ClusterIP != "" || s.Spec.ClusterIPs != nil || s.Spec.IPFamilies != nil || s.Spec.Ports[0].NodePort != 0 {
			t.Errorf("left over: %+v", s.Spec)
		}
	})
	t.Run("clusterIPs follow clusterIP", func(t *testing.T) {
		s := old.DeepCopy()
		s.Spec.ClusterIP = "10.0.0.9"
		prepareService(kinds.Request{}, s, old)
		if !slices.Equal(s.Spec.ClusterIPs, []string{"10.0.0.9"}) {
			t.Errorf("cluster IPs %v", s.Spec.ClusterIPs)
		}
		if errs := validateServiceUpdate(kinds.Request{}, s, old); !strings.Contains(errs.ToAggregate().Error(), fixed) {
			t.Errorf("a changed cluster IP is not refused: %v", errs)
		}
	})
}

func TestServiceTargetPortFollowsPort(t *testing.T) {
	s := &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}, {Port: 81, TargetPort: intstr.FromString("web")}}}}
	defaultService(s)
	if got := s.Spec.Ports[0].TargetPort; got != intstr.FromInt32(80) {
		t.Errorf("target port %v, want 80", got)
	}
	if got := s.Spec.Ports[1].TargetPort; got != intstr.FromString("web") {
		t.Errorf("target port %v, want web", got)
	}
}

func TestEventsVanishAfterAnHour(t *testing.T) {
	if got := event().TTL(&corev1.Event{}); got != time.Hour {
		t.Errorf("TTL = %v, want 1h", got)
	}
}

func TestSecretTakesStringData(t *testing.T) {
	s := &corev1.Secret{Data: map[string][]byte{"a": []byte("old"), "b": []byte("kept")}, StringData: map[string]string{"a": "new"}}
	defaultSecret(s)
	if string(s.Data["a"]) != "new" || string(s.Data["b"]) != "kept" || s.StringData != nil || s.Type != corev1.SecretTypeOpaque {
		t.Errorf("defaultSecret = %+v", s)
	}
}

func TestNamespaceKeepsItsFinalizer(t *testing.T) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a"}}
	defaultNamespace(ns)
	createNamespace(kinds.Request{}, ns)
	if ns.Labels[corev1.LabelMetadataName] != "a" || !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		t.Errorf("createNamespace = %+v", ns)
	}
	changed := ns.DeepCopy()
	changed.Spec.Finalizers = nil
	namespace().PrepareUpdate(kinds.Request{}, changed, ns)
	if len(changed.Spec.Finalizers) != 1 {
		t.Error("an update takes the finalizer away")
	}
}

// A key of a volume's affinity that is emptied is told of for that alone, not as a change of what is immutable.
func TestVolumeAffinityWithoutKey(t *testing.T) {
	volume := func(key string) *corev1.PersistentVolume {
		return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}, Spec: corev1.PersistentVolumeSpec{
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: corev1.NodeSelectorOpExists}},
			}}}},
		}}
	}
	for key, immutable := range map[string]bool{"a": false, "": false, "b": true} {
		errs := validateVolumeUpdate(kinds.Request{}, volume(key), volume("a"))
		told := strings.Contains(errs.ToAggregate().Error(), "field is immutable")
		if told != immutable {
			t.Errorf("key %q: %v; told that it is immutable: %v, want %v", key, errs, told, immutable)
		}
	}
}
