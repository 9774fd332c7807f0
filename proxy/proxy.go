// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package proxy makes Services reachable on a node: it follows Services and EndpointSlices, has proxy/rules compile them and writes the
// result to the kernel.
//
// One goroutine owns the compiler; package changes feeds it, so that a burst costs one transaction. The first transaction replaces whatever table an earlier process left, which keeps working until then.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/nft"
	"kogge.dev/kogge/proxy/rules"
	"kogge.dev/kogge/reconcile/changes"
)

// ruleWriter applies transactions and reads sets back; *nft/kernel.Writer does.
type ruleWriter interface {
	Apply(tx *nft.Transaction) error
	Elements(family nft.Family, table string, shape *nft.Set) ([]nft.Element, error)
	Exists(family nft.Family, table string) (bool, error)
}

// recorder writes events; *reconcile.Recorder does.
type recorder interface {
	Event(obj kinds.Object, kind, reason, format string, args ...any)
}

// Config of a Proxy.
type Config struct {
	// Rules is what the compiler needs to know; Rules.Node is required.
	Rules rules.Config
	// Kernel is required.
	Kernel ruleWriter
	// Flows forgets connection tracking entries that lead UDP to endpoints that are gone, and returns how many. Nil keeps them.
	Flows func(fronts []rules.UDPFront) (int, error)
	// Period is the least time between two syncs; 0 means 20 ms.
	Period time.Duration
	// HealthAddress is where /healthz and /livez listen, ":10256" mostly; empty means nowhere.
	HealthAddress string
	// MetricsAddress is where /metrics listens, "127.0.0.1:10249" mostly; empty means nowhere.
	MetricsAddress string
	// Events is told of health check ports that can't be opened; nil tells nobody.
	Events recorder
	// Log is required.
	Log *slog.Logger
}

func (c *Config) validate() error {
	switch {
	case c.Rules.Node == "":
		return errors.New("proxy: no node name")
	case c.Kernel == nil:
		return errors.New("proxy: no kernel")
	case c.Log == nil:
		return errors.New("proxy: no log")
	}
	if c.Period == 0 {
		c.Period = 20 * time.Millisecond
	}
	return nil
}

// Proxy is one node's Service proxy.
type Proxy struct {
	config  Config
	metrics *metrics
	health  *health
	changes *changes.Queue // of Services, EndpointSlices and the own Node

	// Owned by Run's goroutine.
	core     *rules.Core
	services map[types.NamespacedName]*corev1.Service
}

// New makes a proxy.
func New(config Config) (*Proxy, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	p := &Proxy{
		config: config, metrics: newMetrics(),
		core: rules.New(config.Rules), services: map[types.NamespacedName]*corev1.Service{},
	}
	p.changes = changes.New(changes.Config{Apply: p.sync, Period: config.Period, Look: p.look, Log: config.Log})
	p.health = newHealth(p)
	return p, nil
}

// Registry returns the proxy's metrics, for who serves them elsewhere.
func (p *Proxy) Registry() *prometheus.Registry { return p.metrics.registry }

// Upsert queues a Service, an EndpointSlice or the proxy's own Node. It never blocks. The object must not change afterwards.
func (p *Proxy) Upsert(obj kinds.Object) {
	p.metrics.changed(obj)
	p.changes.Upsert(obj)
}

// Delete queues the removal of an object.
func (p *Proxy) Delete(obj kinds.Object) {
	p.metrics.changed(obj)
	p.changes.Delete(obj)
}

// Synced says that every object that exists was queued: only then is the table touched, so that a restart breaks no connection.
func (p *Proxy) Synced() { p.changes.Complete(true) }

// Run serves until ctx ends. The table stays: connections and new ones keep working without the proxy.
func (p *Proxy) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	servers, err := p.serve(ctx)
	if err != nil {
		return err
	}
	p.changes.Run(ctx)
	cancel()
	p.health.closeAll()
	return servers.Wait()
}

// look reports whether somebody removed the table ("nft flush ruleset"). Watching for it instead would make the kernel report each of
// the proxy's own elements.
func (p *Proxy) look() (gone bool) {
	there, err := p.config.Kernel.Exists(nft.INet, rules.TableName)
	if gone = err == nil && !there; gone {
		p.config.Log.Warn("somebody removed the service rules")
	}
	return gone
}

// sync writes a batch to the kernel.
func (p *Proxy) sync(batch changes.Batch) (worked bool, err error) {
	began := time.Now()
	triggers := p.feed(batch.Changes)
	change := p.core.Flush()
	if batch.Whole {
		err = p.replace()
	} else {
		err = p.config.Kernel.Apply(change.Tx)
	}
	p.health.update(change.Health)
	if err != nil {
		p.metrics.failures.Inc()
		return true, fmt.Errorf("write service rules: %w", err)
	}
	p.health.done(time.Now())
	p.metrics.synced(began, triggers)
	p.config.Log.Debug("service rules written", "changed", change.Services, "took", time.Since(began))
	p.dropFlows(change.UDP)
	return true, nil
}

// feed hands changes to the compiler and returns when the endpoints that they carry changed.
func (p *Proxy) feed(changed []changes.Change) []time.Time {
	var triggers []time.Time
	for _, c := range changed {
		switch obj := c.Object.(type) {
		case *corev1.Service:
			name := types.NamespacedName{Namespace: obj.Namespace, Name: obj.Name}
			if c.Deleted {
				delete(p.services, name)
				p.core.DeleteService(name)
				continue
			}
			p.services[name] = obj
			p.core.SetService(obj)
		case *discoveryv1.EndpointSlice:
			if c.Deleted {
				p.core.DeleteSlice(obj)
				continue
			}
			p.core.SetSlice(obj)
			if at, err := time.Parse(time.RFC3339Nano, obj.Annotations[corev1.EndpointsLastChangeTriggerTime]); err == nil {
				triggers = append(triggers, at)
			}
		case *corev1.Node:
			p.health.node(obj, c.Deleted)
			if !c.Deleted {
				p.core.SetZone(obj.Labels[corev1.LabelTopologyZone])
			}
		}
	}
	return triggers
}

// replace writes the whole table. Clients that the kernel remembers for session affinity are carried over.
func (p *Proxy) replace() error {
	table := p.core.Table()
	for _, shape := range rules.AffinitySets() {
		list, err := p.config.Kernel.Elements(nft.INet, rules.TableName, shape)
		if err != nil && !errors.Is(err, nft.ErrNotFound) {
			return fmt.Errorf("read remembered clients: %w", err)
		}
		for _, e := range list {
			if e.Expires > 0 {
				e.Timeout = e.Expires
			}
			table.Sets[shape.Name].Put(e)
		}
	}
	return p.config.Kernel.Apply(nft.Replace(table))
}

// dropFlows forgets stale UDP flows. Failing is not worth a retry: the entries expire by themselves.
func (p *Proxy) dropFlows(fronts []rules.UDPFront) {
	if p.config.Flows == nil || len(fronts) == 0 {
		return
	}
	n, err := p.config.Flows(fronts)
	if err != nil {
		p.config.Log.Warn("stale UDP flows not forgotten", "err", err)
		return
	}
	p.metrics.flows.Add(float64(n))
}

// zeroOf returns the unspecified address of a's family.
func zeroOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
