// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package netpol enforces NetworkPolicies on a node: it follows policies, pods and namespaces, has netpol/rules compile them and writes
// the difference to the kernel. Without a policy that selects a pod of this node there is no table.
package netpol

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/netpol/rules"
	"kogge.dev/kogge/nft"
	"kogge.dev/kogge/reconcile/changes"
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

// Enforcer keeps one node's policies in the kernel.
type Enforcer struct {
	config  Config
	metrics *metrics
	changes *changes.Queue // of policies, pods and namespaces: policies over half of the pods would break connections

	// Owned by Run's goroutine.
	core    *rules.Core
	written *nft.Table // what the kernel holds, unless a batch is whole
}

// New makes an enforcer.
func New(config Config) (*Enforcer, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	e := &Enforcer{config: config, metrics: newMetrics(), core: rules.New(config.Node)}
	e.changes = changes.New(changes.Config{Apply: e.apply, Period: config.Period, Look: e.look, Log: config.Log})
	return e, nil
}

// Registry returns the enforcer's metrics.
func (e *Enforcer) Registry() *prometheus.Registry { return e.metrics.registry }

// Run enforces until ctx ends. What is in the kernel stays in force.
func (e *Enforcer) Run(ctx context.Context) error {
	e.changes.Run(ctx)
	return nil
}

// look reports whether there should be a table and somebody removed it ("nft flush ruleset").
func (e *Enforcer) look() (gone bool) {
	if e.written == nil {
		return false
	}
	there, err := e.config.Kernel.Exists(nft.INet, rules.TableName)
	if gone = err == nil && !there; gone {
		e.config.Log.Warn("somebody removed the network policies")
	}
	return gone
}

// apply compiles if something changed that matters, and writes the difference.
func (e *Enforcer) apply(batch changes.Batch) (worked bool, err error) {
	if matters := e.feed(batch.Changes); !matters && !batch.Whole {
		return false, nil
	}
	began := time.Now()
	table := e.core.Table()
	if err := e.config.Kernel.Apply(e.transaction(table, batch)); err != nil {
		e.metrics.failures.Inc()
		return true, fmt.Errorf("write network policies: %w", err)
	}
	e.written = table
	e.metrics.sync.Observe(time.Since(began).Seconds())
	e.config.Log.Debug("network policies written", "took", time.Since(began))
	return true, nil
}

// transaction leads from what the kernel holds to the table. What an earlier process left is replaced or removed, whatever it was.
func (e *Enforcer) transaction(table *nft.Table, batch changes.Batch) *nft.Transaction {
	switch {
	case !batch.Whole:
		return nft.Diff(e.written, table)
	case table == nil:
		return nft.Remove(nft.INet, rules.TableName)
	}
	return nft.Replace(table)
}

// feed hands changes to the compiler and reports whether any can matter.
func (e *Enforcer) feed(changed []changes.Change) (matters bool) {
	for _, c := range changed {
		name := types.NamespacedName{Namespace: c.Object.GetNamespace(), Name: c.Object.GetName()}
		switch obj := c.Object.(type) {
		case *networkingv1.NetworkPolicy:
			matters = true
			if c.Deleted {
				e.core.DeletePolicy(name)
			} else {
				e.core.SetPolicy(obj)
			}
		case *corev1.Pod:
			if c.Deleted {
				matters = e.core.DeletePod(name) || matters
			} else {
				matters = e.core.SetPod(obj) || matters
			}
		case *corev1.Namespace:
			if c.Deleted {
				matters = true
				e.core.DeleteNamespace(obj.Name)
			} else {
				matters = e.core.SetNamespace(obj) || matters
			}
		}
	}
	return matters
}
