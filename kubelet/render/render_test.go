// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestExpand(t *testing.T) {
	values := map[string]string{"A": "1", "B": "$(A)"}
	lookup := func(name string) (string, bool) { v, ok := values[name]; return v, ok }
	for in, want := range map[string]string{
		"$(A)": "1", "x$(A)y$(A)": "x1y1", "$(C)": "$(C)", "$$(A)": "$(A)", "$$$(A)": "$1", "$(B)": "$(A)", "$": "$", "$(": "$(", "$(A": "$(A", "$A": "$A", "$()": "$()", "a$$b": "a$b",
	} {
		if got := Expand(in, lookup); got != want {
			t.Errorf("Expand(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzExpandKeepsTextWithoutDollar(f *testing.F) {
	f.Add("a$(b)c$$")
	f.Fuzz(func(t *testing.T, s string) {
		got := Expand(s, func(string) (string, bool) { return "", false })
		if !strings.Contains(s, "$$") && got != s {
			t.Errorf("Expand(%q) = %q without any value", s, got)
		}
	})
}

func environment(p *corev1.Pod, c *corev1.Container) Environment {
	return Environment{Pod: p, Spec: c, Facts: Facts{NodeName: "n", PodIPs: []string{"10.0.0.1"}}, Sources: Sources{
		ConfigMap: func(_ context.Context, _, name string) (*corev1.ConfigMap, error) {
			if name != "cm" {
				return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmap"}, name)
			}
			return &corev1.ConfigMap{Data: map[string]string{"k": "v", "bad=key": "x"}}, nil
		},
		Services: func(namespace string) []*corev1.Service {
			s := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Name: "https", Port: 443}}}}
			s.Name, s.Namespace = "kubernetes", "default"
			if namespace != "default" {
				return nil
			}
			return []*corev1.Service{s}
		},
	}}
}

func TestEnvironment(t *testing.T) {
	p := &corev1.Pod{}
	p.Name, p.Namespace = "p", "ns"
	c := &corev1.Container{
		Name:    "c",
		EnvFrom: []corev1.EnvFromSource{{Prefix: "CM_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}}},
		Env: []corev1.EnvVar{
			{Name: "A", Value: "$(CM_k)-$(KUBERNETES_SERVICE_HOST)"},
			{Name: "IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
		},
	}
	env, skipped, err := environment(p, c).Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range env {
		got[e.Key] = string(e.Value)
	}
	want := map[string]string{
		"A": "v-10.96.0.1", "CM_k": "v", "IP": "10.0.0.1", "KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443",
		"KUBERNETES_SERVICE_PORT_HTTPS": "443", "KUBERNETES_PORT": "tcp://10.96.0.1:443", "KUBERNETES_PORT_443_TCP": "tcp://10.96.0.1:443",
		"KUBERNETES_PORT_443_TCP_PROTO": "tcp", "KUBERNETES_PORT_443_TCP_PORT": "443", "KUBERNETES_PORT_443_TCP_ADDR": "10.96.0.1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if len(skipped) != 1 || !strings.Contains(skipped[0], "CM_bad=key") {
		t.Errorf("skipped = %q, want the key that is no name", skipped)
	}
}

func TestEnvironmentOfMissingSources(t *testing.T) {
	yes := true
	ref := func(name, key string, optional *bool) *corev1.Container {
		return &corev1.Container{Env: []corev1.EnvVar{{Name: "X", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key, Optional: optional,
		}}}}}
	}
	p := &corev1.Pod{}
	p.Namespace = "ns"
	for _, test := range []struct {
		name, want string
		c          *corev1.Container
	}{
		{"missing object", `configmap "no" not found`, ref("no", "k", nil)},
		{"missing key", "couldn't find key no in ConfigMap ns/cm", ref("cm", "no", nil)},
		{"missing optional object", "", ref("no", "k", &yes)},
		{"missing optional key", "", ref("cm", "no", &yes)},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := environment(p, test.c).Build(t.Context())
			if got := text(err); got != test.want {
				t.Errorf("error = %q, want %q", got, test.want)
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestResolverOfEachPolicy(t *testing.T) {
	r := Resolver{ClusterDNS: []string{"10.96.0.10"}, ClusterDomain: "cluster.local", Host: ParseResolvConf("nameserver 192.0.2.53\nsearch a.example b.example.\noptions ndots:2 edns0\n")}
	five := "5"
	for _, test := range []struct {
		name string
		spec corev1.PodSpec
		want *runtimeapi.DNSConfig
	}{
		{"cluster first", corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst}, &runtimeapi.DNSConfig{
			Servers: []string{"10.96.0.10"}, Searches: []string{"ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "a.example", "b.example"}, Options: []string{"ndots:5"},
		}},
		{"cluster first on the host's network", corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, HostNetwork: true}, &runtimeapi.DNSConfig{
			Servers: []string{"192.0.2.53"}, Searches: []string{"a.example", "b.example"}, Options: []string{"ndots:2", "edns0"},
		}},
		{"none", corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: &corev1.PodDNSConfig{
			Nameservers: []string{"1.1.1.1"}, Searches: []string{"x"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: &five}, {Name: "edns0"}},
		}}, &runtimeapi.DNSConfig{Servers: []string{"1.1.1.1"}, Searches: []string{"x"}, Options: []string{"ndots:5", "edns0"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &corev1.Pod{Spec: test.spec}
			p.Namespace = "ns"
			got, notes, err := r.Pod(p)
			if err != nil || len(notes) > 0 {
				t.Fatalf("Pod: %v, %q", err, notes)
			}
			if got.String() != test.want.String() {
				t.Errorf("config = %v, want %v", got, test.want)
			}
		})
	}
}

func TestResourcesBecomeCgroupValues(t *testing.T) {
	l := Limits{Quota: true, Period: 100000, MemoryCapacity: 1 << 30}
	c := &corev1.Container{Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("250m"), corev1.ResourceMemory: resource.MustParse("256Mi")},
		Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("512Mi")},
	}}
	got := l.Container(&corev1.Pod{}, c, corev1.PodQOSBurstable)
	want := &runtimeapi.LinuxContainerResources{CpuShares: 256, CpuPeriod: 100000, CpuQuota: 50000, MemoryLimitInBytes: 512 << 20, OomScoreAdj: 750}
	if got.String() != want.String() {
		t.Errorf("resources = %v, want %v", got, want)
	}
	for class, score := range map[corev1.PodQOSClass]int64{corev1.PodQOSGuaranteed: -997, corev1.PodQOSBestEffort: 1000} {
		if got := l.OOMScore(&corev1.Pod{}, c, class); got != score {
			t.Errorf("OOMScore(%s) = %d, want %d", class, got, score)
		}
	}
}

func TestNonRootIsChecked(t *testing.T) {
	yes, zero, user := true, int64(0), int64(7)
	p := &corev1.Pod{}
	p.Name, p.Namespace, p.UID = "p", "ns", "u"
	for _, test := range []struct {
		name  string
		image ImageUser
		run   *int64
		want  string
	}{
		{"image runs as root", ImageUser{UID: &zero}, nil, "container has runAsNonRoot and image will run as root"},
		{"image names a user", ImageUser{Name: "www"}, nil, "non-numeric user (www)"},
		{"specification says root", ImageUser{UID: &user}, &zero, "breaks non-root policy"},
		{"specification says a user", ImageUser{UID: &zero}, &user, ""},
		{"image runs as a user", ImageUser{UID: &user}, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &Container{Pod: p, ImageUser: test.image, Spec: &corev1.Container{Name: "c", SecurityContext: &corev1.SecurityContext{RunAsNonRoot: &yes, RunAsUser: test.run}}}
			_, err := c.Config()
			if (err == nil) != (test.want == "") || !strings.Contains(text(err), test.want) {
				t.Errorf("Config: %v, want %q", err, test.want)
			}
		})
	}
}

func TestOrphanKeepsWhatStoppingNeeds(t *testing.T) {
	grace := int64(7)
	p := &corev1.Pod{Spec: corev1.PodSpec{TerminationGracePeriodSeconds: &grace}}
	p.Name, p.Namespace, p.UID = "p", "ns", "u"
	spec := &corev1.Container{Name: "c", Image: "i", Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 3}}}}
	config, err := (&Container{Pod: p, Spec: spec}).Config()
	if err != nil {
		t.Fatal(err)
	}
	orphan, c := Orphan(config.Labels, config.Annotations, nil), OrphanContainer(config.Labels, config.Annotations)
	if orphan.UID != "u" || orphan.Name != "p" || *orphan.Spec.TerminationGracePeriodSeconds != 7 {
		t.Errorf("Orphan = %+v", orphan)
	}
	if c.Name != "c" || c.Lifecycle.PreStop.Sleep.Seconds != 3 {
		t.Errorf("OrphanContainer = %+v", c)
	}
}
