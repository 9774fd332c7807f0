// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/reconcile/serving"
)

// Vitals are what a component of the control plane tells of itself at a port of its own. A nil pointer is told and tells nothing: what
// runs in the API server's process has no such port.
type Vitals struct {
	// Registry holds the metrics of the process, of its leadership and of its loops.
	Registry *prometheus.Registry
	loops    *reconcile.Metrics
	leading  prometheus.Gauge

	mu        sync.Mutex
	informers *client.Informers // while it leads
	ending    bool
}

// NewVitals makes the vitals of one process that stands for a lease.
func NewVitals(lease string) *Vitals {
	status := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "leader_election_master_status", Help: "1 while this process leads, 0 while it stands by.",
	}, []string{"name"})
	v := &Vitals{Registry: prometheus.NewRegistry(), loops: reconcile.NewMetrics(), leading: status.WithLabelValues(lease)}
	v.Registry.MustRegister(status, v.loops, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return v
}

// lead notes that the component leads, with informers, until the returned func is called.
func (v *Vitals) lead(informers *client.Informers) (end func()) {
	if v == nil {
		return func() {}
	}
	v.leading.Set(1)
	v.mu.Lock()
	v.informers = informers
	v.mu.Unlock()
	return func() {
		v.leading.Set(0)
		v.mu.Lock()
		v.informers, v.ending = nil, true // who leads no more ends
		v.mu.Unlock()
	}
}

// observe counts what loops do.
func (v *Vitals) observe(loops []*reconcile.Loop) {
	if v == nil {
		return
	}
	for _, l := range loops {
		l.Observe(v.loops)
	}
}

// Checks are the conditions of readiness. A process that stands by is ready to lead.
func (v *Vitals) Checks() []serving.Check {
	return []serving.Check{
		{Name: "informer-sync", Ready: true, Probe: func(context.Context) error {
			v.mu.Lock()
			defer v.mu.Unlock()
			if v.informers != nil && !v.informers.Synced() {
				return errors.New("informers have not listed all objects yet")
			}
			return nil
		}},
		{Name: "shutdown", Ready: true, Probe: func(context.Context) error {
			v.mu.Lock()
			defer v.mu.Unlock()
			if v.ending {
				return errors.New("process is shutting down")
			}
			return nil
		}},
	}
}
