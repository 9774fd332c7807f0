// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package proxy makes Services reachable on a node: it follows Services and EndpointSlices, has proxy/rules compile them and writes the
// result to the kernel.
//
// One goroutine owns the compiler. Watch handlers only queue the newest object per key; the owner takes the whole queue at once, so a
// burst costs one transaction. The first transaction replaces whatever table an earlier process left, which keeps working until then.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/nft"
	"kogge.dev/kogge/proxy/rules"
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

// lookEvery is how often the proxy looks whether somebody removed its table ("nft flush ruleset"). Watching for it instead would make the
// kernel report each of the proxy's own elements.
const lookEvery = 30 * time.Second

// Proxy is one node's Service proxy.
type Proxy struct {
	config  Config
	metrics *metrics
	health  *health
	wake    chan struct{} // capacity 1: a signal that is already there is enough

	mu      sync.Mutex
	queue   map[queueKey]queued
	waiting time.Time // since when a change waits for the kernel; zero when none does
	synced  bool      // all initial objects are queued

	// Owned by Run's goroutine.
	core     *rules.Core
	services map[types.NamespacedName]*corev1.Service
	broken   bool // the table may differ from what core believes
	delay    time.Duration
}

type queueKey struct {
	kind, namespace, name string
}

type queued struct {
	object  kinds.Object
	deleted bool
}

// New makes a proxy.
func New(config Config) (*Proxy, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	p := &Proxy{
		config: config, metrics: newMetrics(), wake: make(chan struct{}, 1), queue: map[queueKey]queued{},
		core: rules.New(config.Rules), services: map[types.NamespacedName]*corev1.Service{}, broken: true,
	}
	p.health = newHealth(p)
	return p, nil
}

// Registry returns the proxy's metrics, for who serves them elsewhere.
func (p *Proxy) Registry() *prometheus.Registry { return p.metrics.registry }

// Upsert queues a Service, an EndpointSlice or the proxy's own Node. It never blocks. The object must not change afterwards.
func (p *Proxy) Upsert(obj kinds.Object) { p.enqueue(obj, false) }

// Delete queues the removal of an object.
func (p *Proxy) Delete(obj kinds.Object) { p.enqueue(obj, true) }

// Synced says that every object that exists was queued: only then is the table touched, so that a restart breaks no connection.
func (p *Proxy) Synced() {
	p.mu.Lock()
	p.synced = true
	p.mu.Unlock()
	p.signal()
}

func (p *Proxy) enqueue(obj kinds.Object, deleted bool) {
	key := queueKey{namespace: obj.GetNamespace(), name: obj.GetName()}
	switch obj.(type) {
	case *corev1.Service:
		key.kind = "service"
		p.metrics.serviceChanges.Inc()
	case *discoveryv1.EndpointSlice:
		key.kind = "slice"
		p.metrics.endpointChanges.Inc()
	case *corev1.Node:
		key.kind = "node"
	default:
		return
	}
	p.mu.Lock()
	if p.waiting.IsZero() {
		p.waiting = time.Now()
	}
	p.queue[key] = queued{obj, deleted}
	p.mu.Unlock()
	p.signal()
}

func (p *Proxy) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run serves until ctx ends. The table stays: connections and new ones keep working without the proxy.
func (p *Proxy) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	servers, err := p.serve(ctx)
	if err != nil {
		return err
	}
	p.loop(ctx)
	cancel()
	p.health.closeAll()
	return servers.Wait()
}

// loop syncs whenever something is queued, at most once per period, and retries what failed.
func (p *Proxy) loop(ctx context.Context) {
	var last time.Time
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-timer.C:
			p.look()
		}
		if pause := p.config.Period - time.Since(last); !last.IsZero() && pause > 0 {
			timer.Reset(pause)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
		}
		did, retry := p.sync()
		if did {
			last = time.Now()
		}
		if retry == 0 {
			retry = lookEvery
		}
		timer.Reset(retry)
	}
}

// look makes the next sync replace the table if it is gone.
func (p *Proxy) look() {
	if p.broken {
		return
	}
	if there, err := p.config.Kernel.Exists(nft.INet, rules.TableName); err == nil && !there {
		p.config.Log.Warn("somebody removed the service rules")
		p.broken = true
	}
}

// sync applies everything that is queued, if anything. It returns after how long to try again, 0 if all went well.
func (p *Proxy) sync() (did bool, retry time.Duration) {
	changes, since, ok := p.take()
	if !ok {
		return false, 0
	}
	began := time.Now()
	triggers := p.feed(changes)
	change := p.core.Flush()
	err := p.apply(change.Tx)
	p.health.update(change.Health)
	if err != nil {
		p.broken = true
		p.metrics.failures.Inc()
		p.delay = min(max(2*p.delay, 100*time.Millisecond), 30*time.Second)
		p.config.Log.Error("service rules not written", "err", err, "retry_in", p.delay)
		p.requeue(since)
		return true, p.delay
	}
	p.broken, p.delay = false, 0
	p.health.done(time.Now())
	p.metrics.synced(began, triggers)
	p.config.Log.Debug("service rules written", "changed", change.Services, "took", time.Since(began))
	p.dropFlows(change.UDP)
	return true, 0
}

// take empties the queue. It refuses until the initial objects are complete.
func (p *Proxy) take() (changes map[queueKey]queued, since time.Time, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.synced || len(p.queue) == 0 && !p.broken {
		return nil, time.Time{}, false
	}
	changes, since = p.queue, p.waiting
	p.queue, p.waiting = map[queueKey]queued{}, time.Time{}
	return changes, since, true
}

// requeue remembers how long changes have been waiting that could not be written.
func (p *Proxy) requeue(since time.Time) {
	if since.IsZero() {
		since = time.Now()
	}
	p.mu.Lock()
	p.waiting = since
	p.mu.Unlock()
}

// feed hands changes to the compiler and returns when the endpoints that they carry changed.
func (p *Proxy) feed(changes map[queueKey]queued) []time.Time {
	var triggers []time.Time
	for key, q := range changes {
		switch obj := q.object.(type) {
		case *corev1.Service:
			name := types.NamespacedName{Namespace: key.namespace, Name: key.name}
			if q.deleted {
				delete(p.services, name)
				p.core.DeleteService(name)
				continue
			}
			p.services[name] = obj
			p.core.SetService(obj)
		case *discoveryv1.EndpointSlice:
			if q.deleted {
				p.core.DeleteSlice(obj)
				continue
			}
			p.core.SetSlice(obj)
			if at, err := time.Parse(time.RFC3339Nano, obj.Annotations[corev1.EndpointsLastChangeTriggerTime]); err == nil {
				triggers = append(triggers, at)
			}
		case *corev1.Node:
			p.health.node(obj, q.deleted)
			if !q.deleted {
				p.core.SetZone(obj.Labels[corev1.LabelTopologyZone])
			}
		}
	}
	return triggers
}

// apply writes a transaction, or the whole table where it can't build on what is there. Clients that the kernel remembers for session
// affinity are carried over.
func (p *Proxy) apply(tx *nft.Transaction) error {
	if !p.broken {
		return p.config.Kernel.Apply(tx)
	}
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
