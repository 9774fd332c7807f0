// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package netpol enforces NetworkPolicies on a node: it follows policies, pods and namespaces, has netpol/rules compile them and writes
// the difference to the kernel. Without a policy that selects a pod of this node there is no table.
package netpol

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/netpol/rules"
	"kogge.dev/kogge/nft"
)

// ruleWriter applies transactions; *nft/kernel.Writer does.
type ruleWriter interface {
	Apply(tx *nft.Transaction) error
	Exists(family nft.Family, table string) (bool, error)
}

// Config of an Enforcer.
type Config struct {
	// Node is this node's name; required.
	Node string
	// Kernel is required.
	Kernel ruleWriter
	// Period is the least time between two compilations; 0 means 50 ms.
	Period time.Duration
	// Log is required.
	Log *slog.Logger
}

func (c *Config) validate() error {
	switch {
	case c.Node == "":
		return errors.New("netpol: no node name")
	case c.Kernel == nil:
		return errors.New("netpol: no kernel")
	case c.Log == nil:
		return errors.New("netpol: no log")
	}
	if c.Period == 0 {
		c.Period = 50 * time.Millisecond
	}
	return nil
}

// lookEvery is how often the enforcer looks whether somebody removed its table ("nft flush ruleset").
const lookEvery = 30 * time.Second

// Enforcer keeps one node's policies in the kernel.
type Enforcer struct {
	config  Config
	metrics *metrics
	wake    chan struct{} // capacity 1: a signal that is already there is enough

	mu     sync.Mutex
	queue  map[queueKey]queued
	synced bool

	// Owned by Run's goroutine.
	core    *rules.Core
	written *nft.Table // what the kernel holds; valid unless broken
	broken  bool
	delay   time.Duration
}

type queueKey struct {
	kind, namespace, name string
}

type queued struct {
	object  kinds.Object
	deleted bool
}

// New makes an enforcer.
func New(config Config) (*Enforcer, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	return &Enforcer{
		config: config, metrics: newMetrics(), wake: make(chan struct{}, 1), queue: map[queueKey]queued{},
		core: rules.New(config.Node), broken: true,
	}, nil
}

// Registry returns the enforcer's metrics.
func (e *Enforcer) Registry() *prometheus.Registry { return e.metrics.registry }

// Upsert queues a NetworkPolicy, Pod or Namespace. It never blocks. The object must not change afterwards.
func (e *Enforcer) Upsert(obj kinds.Object) { e.enqueue(obj, false) }

// Delete queues the removal of an object.
func (e *Enforcer) Delete(obj kinds.Object) { e.enqueue(obj, true) }

// Synced says that every object that exists was queued: policies over half of the pods would break connections.
func (e *Enforcer) Synced() { e.setSynced(true) }

func (e *Enforcer) setSynced(synced bool) {
	e.mu.Lock()
	e.synced = synced
	e.mu.Unlock()
	e.signal()
}

func (e *Enforcer) enqueue(obj kinds.Object, deleted bool) {
	key := queueKey{namespace: obj.GetNamespace(), name: obj.GetName()}
	switch obj.(type) {
	case *networkingv1.NetworkPolicy:
		key.kind = "policy"
	case *corev1.Pod:
		key.kind = "pod"
	case *corev1.Namespace:
		key.kind = "namespace"
	default:
		return
	}
	e.mu.Lock()
	e.queue[key] = queued{obj, deleted}
	e.mu.Unlock()
	e.signal()
}

func (e *Enforcer) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Run enforces until ctx ends. What is in the kernel stays in force.
func (e *Enforcer) Run(ctx context.Context) error {
	var last time.Time
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.wake:
		case <-timer.C:
			e.look()
		}
		if pause := e.config.Period - time.Since(last); !last.IsZero() && pause > 0 {
			timer.Reset(pause)
			select {
			case <-ctx.Done():
				return nil
			case <-timer.C:
			}
		}
		did, retry := e.sync()
		if did {
			last = time.Now()
		}
		if retry == 0 {
			retry = lookEvery
		}
		timer.Reset(retry)
	}
}

// look makes the next sync replace the table if there should be one and it is gone.
func (e *Enforcer) look() {
	if e.broken || e.written == nil {
		return
	}
	if there, err := e.config.Kernel.Exists(nft.INet, rules.TableName); err == nil && !there {
		e.config.Log.Warn("somebody removed the network policies")
		e.broken = true
	}
}

// sync compiles if something changed that matters, and writes the difference. It returns after how long to try again, 0 if all went
// well.
func (e *Enforcer) sync() (did bool, retry time.Duration) {
	e.mu.Lock()
	changes, synced := e.queue, e.synced
	e.queue = map[queueKey]queued{}
	e.mu.Unlock()
	if matters := e.feed(changes); !synced || !matters && !e.broken {
		e.broken = e.broken || matters
		return false, 0
	}
	began := time.Now()
	table := e.core.Table()
	if err := e.config.Kernel.Apply(e.transaction(table)); err != nil {
		e.broken = true
		e.metrics.failures.Inc()
		e.delay = min(max(2*e.delay, 100*time.Millisecond), 30*time.Second)
		e.config.Log.Error("network policies not written", "err", err, "retry_in", e.delay)
		return true, e.delay
	}
	e.written, e.broken, e.delay = table, false, 0
	e.metrics.sync.Observe(time.Since(began).Seconds())
	e.config.Log.Debug("network policies written", "took", time.Since(began))
	return true, 0
}

// transaction leads from what the kernel holds to the table. What an earlier process left is replaced or removed, whatever it was.
func (e *Enforcer) transaction(table *nft.Table) *nft.Transaction {
	switch {
	case !e.broken:
		return nft.Diff(e.written, table)
	case table == nil:
		return nft.Remove(nft.INet, rules.TableName)
	}
	return nft.Replace(table)
}

// feed hands changes to the compiler and reports whether any can matter.
func (e *Enforcer) feed(changes map[queueKey]queued) (matters bool) {
	for key, q := range changes {
		name := types.NamespacedName{Namespace: key.namespace, Name: key.name}
		switch obj := q.object.(type) {
		case *networkingv1.NetworkPolicy:
			matters = true
			if q.deleted {
				e.core.DeletePolicy(name)
			} else {
				e.core.SetPolicy(obj)
			}
		case *corev1.Pod:
			if q.deleted {
				matters = e.core.DeletePod(name) || matters
			} else {
				matters = e.core.SetPod(obj) || matters
			}
		case *corev1.Namespace:
			if q.deleted {
				matters = true
				e.core.DeleteNamespace(obj.Name)
			} else {
				matters = e.core.SetNamespace(obj) || matters
			}
		}
	}
	return matters
}
