// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package local_test

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cloud/local"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/testcluster"
)

const limit = 10 * time.Second

func create[T kinds.Object](t *testing.T, c *client.Client, obj T) T {
	t.Helper()
	made, err := client.Of[T](c).Create(t.Context(), obj)
	if err != nil {
		t.Fatalf("create %s: %v", obj.GetName(), err)
	}
	return made
}

// ready makes a node with an address.
func ready(t *testing.T, c *client.Client, name, address string) {
	t.Helper()
	node := create(t, c, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: "node.cloudprovider.kubernetes.io/uninitialized", Value: "true", Effect: corev1.TaintEffectNoSchedule}}},
	})
	setReady(t, c, node.Name, corev1.ConditionTrue, address)
}

func setReady(t *testing.T, c *client.Client, name string, status corev1.ConditionStatus, address string) {
	t.Helper()
	patch := `{"status":{"conditions":[{"type":"Ready","status":"` + string(status) + `"}],"addresses":[{"type":"InternalIP","address":"` + address + `"}]}}`
	if _, err := client.Of[*corev1.Node](c).Patch(t.Context(), "", name, types.MergePatchType, []byte(patch), "status"); err != nil {
		t.Fatal(err)
	}
}

func balancer(name string, port int32) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: port}}, Selector: map[string]string{"app": name}},
	}
}

func addresses(s *corev1.Service) string {
	var out []string
	for _, in := range s.Status.LoadBalancer.Ingress {
		out = append(out, in.IP)
	}
	return strings.Join(out, " ")
}

func awaitService(t *testing.T, c *client.Client, name string, ok func(*corev1.Service) bool) *corev1.Service {
	t.Helper()
	var found *corev1.Service
	testcluster.Await(t, c, "default", limit, func(all []*corev1.Service) bool {
		i := slices.IndexFunc(all, func(s *corev1.Service) bool { return s.Name == name })
		if i < 0 || !ok(all[i]) {
			return false
		}
		found = all[i]
		return true
	})
	return found
}

func awaitEvent(t *testing.T, c *client.Client, about, reason, text string) {
	t.Helper()
	testcluster.Await(t, c, "", limit, func(all []*corev1.Event) bool {
		return slices.ContainsFunc(all, func(e *corev1.Event) bool {
			return e.InvolvedObject.Name == about && e.Reason == reason && strings.Contains(e.Message, text)
		})
	})
}

// TestServicesShareTheNodes follows addresses as Services and nodes come and go.
func TestServicesShareTheNodes(t *testing.T) {
	c := testcluster.New(t).Admin()
	ready(t, c, "n1", "192.0.2.11")
	create(t, c, balancer("web", 80))
	web := awaitService(t, c, "web", func(s *corev1.Service) bool { return addresses(s) == "192.0.2.11" })
	if !slices.Contains(web.Finalizers, "service.kubernetes.io/load-balancer-cleanup") {
		t.Errorf("finalizers = %v", web.Finalizers)
	}
	for _, reason := range []string{"EnsuringLoadBalancer", "EnsuredLoadBalancer"} {
		awaitEvent(t, c, "web", reason, "load balancer")
	}

	// The port is taken on the only node, until there is another.
	create(t, c, balancer("other", 80))
	awaitEvent(t, c, "other", "SyncLoadBalancerFailed", "port 80/TCP is taken by service default/web")
	ready(t, c, "n2", "192.0.2.12")
	awaitService(t, c, "other", func(s *corev1.Service) bool { return addresses(s) == "192.0.2.12" })
	create(t, c, balancer("third", 80))
	awaitEvent(t, c, "third", "SyncLoadBalancerFailed", "port 80/TCP is taken")

	// What one gives back, another gets.
	if err := client.Of[*corev1.Service](c).Delete(t.Context(), "default", "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitService(t, c, "third", func(s *corev1.Service) bool { return addresses(s) == "192.0.2.11" })
	awaitEvent(t, c, "web", "DeletedLoadBalancer", "Deleted load balancer")

	// A Service leaves a node that fails.
	if err := client.Of[*corev1.Service](c).Delete(t.Context(), "default", "other", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	testcluster.Await(t, c, "default", limit, func(all []*corev1.Service) bool { return len(all) == 2 }) // kubernetes is the second
	setReady(t, c, "n1", corev1.ConditionFalse, "192.0.2.11")
	awaitService(t, c, "third", func(s *corev1.Service) bool { return addresses(s) == "192.0.2.12" })
}

func TestServiceThatNoLongerWantsOne(t *testing.T) {
	c := testcluster.New(t).Admin()
	ready(t, c, "n1", "192.0.2.11")
	create(t, c, balancer("web", 80))
	class := "example.com/other"
	foreign := balancer("foreign", 81)
	foreign.Spec.LoadBalancerClass = &class
	create(t, c, foreign)
	awaitService(t, c, "web", func(s *corev1.Service) bool { return addresses(s) != "" })
	patch := []byte(`{"spec":{"type":"ClusterIP"}}`)
	if _, err := client.Of[*corev1.Service](c).Patch(t.Context(), "default", "web", types.MergePatchType, patch); err != nil {
		t.Fatal(err)
	}
	awaitService(t, c, "web", func(s *corev1.Service) bool { return addresses(s) == "" && len(s.Finalizers) == 0 })
	if s, err := client.Of[*corev1.Service](c).Get(t.Context(), "default", "foreign"); err != nil || addresses(s) != "" || len(s.Finalizers) > 0 {
		t.Errorf("service of another class was touched: %v %v, %v", addresses(s), s.Finalizers, err)
	}
}

func TestNodeIsInitialized(t *testing.T) {
	c := testcluster.New(t).Admin()
	ready(t, c, "n1", "192.0.2.11")
	testcluster.Await(t, c, "", limit, func(all []*corev1.Node) bool {
		return len(all) == 1 && all[0].Spec.ProviderID == "kogge://n1" &&
			!slices.ContainsFunc(all[0].Spec.Taints, func(t corev1.Taint) bool { return strings.HasSuffix(t.Key, "/uninitialized") })
	})
	awaitEvent(t, c, "n1", "Synced", "Node synced successfully")
}

// TestEnsure looks at single decisions. The provider sees an empty cluster: its informers are not run.
func TestEnsure(t *testing.T) {
	node := func(name, address string) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}},
		}}
	}
	nodes := []*corev1.Node{node("a", "192.0.2.1"), node("b", "192.0.2.2"), node("c", "2001:db8::3")}
	cluster := testcluster.New(t)
	for name, c := range map[string]struct {
		change  func(*corev1.Service)
		pool    string
		want    string
		refusal string
	}{
		"the first": {want: "192.0.2.1"},
		"keeps what it has": {change: func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.2"}}
		}, want: "192.0.2.2"},
		"leaves what is gone": {change: func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.9"}}
		}, want: "192.0.2.1"},
		"what it asks for":      {change: func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.2" }, want: "192.0.2.2"},
		"not what is not there": {change: func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.9" }, refusal: "requested address 192.0.2.9"},
		"both families": {change: func(s *corev1.Service) {
			s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
		}, want: "192.0.2.1 2001:db8::3"},
		"from the pool":                 {pool: "198.51.100.0/30", want: "198.51.100.0"},
		"ssh stays the node's":          {change: func(s *corev1.Service) { s.Spec.Ports[0].Port = 22 }, refusal: "port 22 is used by the nodes themselves"},
		"the API server's port too":     {change: func(s *corev1.Service) { s.Spec.Ports[0].Port = 6443 }, refusal: "port 6443 is used"},
		"but not on the pool":           {change: func(s *corev1.Service) { s.Spec.Ports[0].Port = 22 }, pool: "198.51.100.0/30", want: "198.51.100.0"},
		"node ports stay the cluster's": {change: func(s *corev1.Service) { s.Spec.Ports[0].Port = 30080 }, refusal: "port 30080 is in the range of node ports"},
	} {
		t.Run(name, func(t *testing.T) {
			config := local.Config{Informers: client.NewInformers(cluster.Admin(), slog.New(slog.DiscardHandler)), Reserved: []int32{6443}}
			if c.pool != "" {
				config.Pool = []netip.Prefix{netip.MustParsePrefix(c.pool)}
			}
			p, err := local.New(config)
			if err != nil {
				t.Fatal(err)
			}
			s := balancer("web", 80)
			s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
			s.Spec.Ports[0].Protocol = corev1.ProtocolTCP
			if c.change != nil {
				c.change(s)
			}
			s.Status.LoadBalancer, err = p.LoadBalancers.Ensure(t.Context(), s, nodes)
			if c.refusal != "" {
				if err == nil || !strings.Contains(err.Error(), c.refusal) {
					t.Errorf("Ensure: %v, want %q", err, c.refusal)
				}
				return
			}
			if got := addresses(s); got != c.want || err != nil {
				t.Errorf("Ensure = %q, %v, want %q", got, err, c.want)
			}
		})
	}
}
