// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package quota_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/admission/admissiontest"
	"kogge.dev/kogge/apiserver/admission/quota"
)

func list(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func limit(name string, hard, used corev1.ResourceList) *corev1.ResourceQuota {
	return &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, ResourceVersion: "1"},
		Spec:       corev1.ResourceQuotaSpec{Hard: hard}, Status: corev1.ResourceQuotaStatus{Hard: hard, Used: used},
	}
}

// ledger stores quotas with optimistic concurrency, and lets its cache lag behind by one write.
type ledger struct {
	mu     sync.Mutex
	reader *admissiontest.Reader
	stored map[string]*corev1.ResourceQuota
	writes atomic.Int32
}

func newLedger(quotas ...*corev1.ResourceQuota) *ledger {
	l := &ledger{reader: admissiontest.NewReader(), stored: map[string]*corev1.ResourceQuota{}}
	for _, q := range quotas {
		l.reader.Put(q)
		l.stored[q.Name] = q
	}
	return l
}

func (l *ledger) update(_ context.Context, q *corev1.ResourceQuota) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	have := l.stored[q.Name]
	if have.ResourceVersion != q.ResourceVersion {
		return apierrors.NewConflict(schema.GroupResource{Resource: "resourcequotas"}, q.Name, errors.New("changed"))
	}
	n, err := strconv.Atoi(have.ResourceVersion)
	if err != nil {
		return err
	}
	next := q.DeepCopy()
	next.ResourceVersion = strconv.Itoa(n + 1)
	l.reader.Put(have)
	l.reader.PutFresh(next)
	l.stored[q.Name] = next
	l.writes.Add(1)
	return nil
}

func create(plural string, obj runtime.Object) *admission.Attributes {
	return &admission.Attributes{Operation: admission.Create, Resource: schema.GroupVersionResource{Version: "v1", Resource: plural}, Namespace: "ns", Name: "x", Object: obj}
}

func TestNeverOvercommitted(t *testing.T) {
	l := newLedger(limit("a", list("configmaps", "5"), list("configmaps", "0")), limit("b", list("configmaps", "100"), list("configmaps", "0")))
	// Two API servers: their plugins share no lock.
	plugins := []*quota.Plugin{quota.New(l.reader, l.update), quota.New(l.reader, l.update)}
	var admitted atomic.Int32
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for {
				err := plugins[i%2].Validate(t.Context(), create("configmaps", &corev1.ConfigMap{}))
				if apierrors.IsConflict(err) {
					continue // a client tries again
				}
				if err == nil {
					admitted.Add(1)
				} else if !strings.Contains(err.Error(), "exceeded quota: a, requested: configmaps=1, used: configmaps=5, limited: configmaps=5") {
					t.Error(err)
				}
				return
			}
		})
	}
	wg.Wait()
	used := l.stored["a"].Status.Used["configmaps"]
	if admitted.Load() != 5 || used.Value() != 5 {
		t.Errorf("%d admitted, %s charged; want 5", admitted.Load(), used.String())
	}
}

func TestRefusals(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	for _, c := range []struct {
		name string
		q    *corev1.ResourceQuota
		a    *admission.Attributes
		want string
	}{
		{"constraint", limit("q", list("limits.cpu", "1"), list("limits.cpu", "0")), create("pods", pod), "failed quota: q: must specify limits.cpu for: c"},
		{"status unknown", limit("q", list("pods", "1"), nil), create("pods", pod), "status unknown for quota: q, resources: pods"},
		{"exceeded", limit("q", list("pods", "2", "services", "0"), list("pods", "2", "services", "0")), create("pods", pod), "exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"},
		{"another resource", limit("q", list("services", "0"), list("services", "0")), create("pods", pod), ""},
		{"events never count", limit("q", list("count/events", "0"), list("count/events", "0")), create("events", &corev1.Event{}), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLedger(c.q)
			err := quota.New(l.reader, l.update).Validate(t.Context(), c.a)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasSuffix(err.Error(), "is forbidden: "+c.want)) {
				t.Errorf("error = %v, want %q", err, c.want)
			}
			if l.writes.Load() != 0 {
				t.Error("a refusal was charged")
			}
		})
	}
}

func TestUpdatesChargeTheDifference(t *testing.T) {
	l := newLedger(limit("q", list("services.nodeports", "3"), list("services.nodeports", "1")))
	p := quota.New(l.reader, l.update)
	svc := func(ports int) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "1"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: make([]corev1.ServicePort, ports)}}
	}
	update := func(from, to int) error {
		a := create("services", svc(to))
		a.Operation, a.Old = admission.Update, svc(from)
		return p.Validate(t.Context(), a)
	}
	for _, step := range []struct {
		from, to int
		used     string
		refused  bool
	}{{1, 3, "3", false}, {3, 4, "3", true}, {3, 1, "3", false}} {
		err := update(step.from, step.to)
		used := l.stored["q"].Status.Used["services.nodeports"]
		if (err != nil) != step.refused || used.String() != step.used {
			t.Errorf("from %d to %d ports: %v, used %s, want %s", step.from, step.to, err, used.String(), step.used)
		}
	}
}

func TestDryRunChargesNothing(t *testing.T) {
	l := newLedger(limit("q", list("pods", "1"), list("pods", "0")))
	a := create("pods", &corev1.Pod{})
	a.DryRun = true
	if err := quota.New(l.reader, l.update).Validate(t.Context(), a); err != nil || l.writes.Load() != 0 {
		t.Errorf("dry run: %v, %d writes", err, l.writes.Load())
	}
}
