// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/reconcile"
)

const (
	// uninitialized is the taint that a kubelet registers with which waits for a cloud.
	uninitialized = "node.cloudprovider.kubernetes.io/uninitialized"
	// shutdown is the taint of nodes whose machine does not run.
	shutdown = "node.cloudprovider.kubernetes.io/shutdown"
	// instancePeriod is how often the machine of a node that isn't ready is asked for: no cloud tells.
	instancePeriod = 30 * time.Second
)

type nodes struct {
	reconcile.Scope
	nodes     *client.Informer[*corev1.Node]
	api       client.Resource[*corev1.Node]
	instances Instances
}

// newNodes makes the loop that brings in what the provider knows of new nodes, and removes nodes whose machine is gone.
func newNodes(scope reconcile.Scope, instances Instances) *reconcile.Loop {
	c := &nodes{
		Scope: scope, nodes: client.InformerFor[*corev1.Node](scope.Informers), api: client.Of[*corev1.Node](scope.Client), instances: instances,
	}
	loop := reconcile.New(reconcile.Config{Name: "cloud-node-controller", Log: scope.Log, Workers: 2, Informers: scope.Informers, Reconcile: c.reconcile})
	reconcile.Self(loop, c.nodes)
	return loop
}

func (c *nodes) reconcile(ctx context.Context, key reconcile.Key) error {
	node, ok := c.nodes.Get("", key.Name)
	if !ok || node.DeletionTimestamp != nil {
		return nil
	}
	if hasTaint(node, uninitialized) {
		return c.initialize(ctx, node)
	}
	if isReady(node) {
		return c.setTaint(ctx, node, false)
	}
	instance, err := c.instances.Instance(ctx, node)
	switch {
	case errors.Is(err, ErrNoInstance):
		return c.remove(ctx, node)
	case err != nil:
		return fmt.Errorf("instance of node %s: %w", node.Name, err)
	}
	if err := c.setTaint(ctx, node, instance.Shutdown); err != nil {
		return err
	}
	return reconcile.After(instancePeriod)
}

// initialize writes down what the provider knows and takes off the taint that keeps pods away until then.
func (c *nodes) initialize(ctx context.Context, node *corev1.Node) error {
	instance, err := c.instances.Instance(ctx, node)
	if err != nil {
		return fmt.Errorf("instance of node %s: %w", node.Name, err)
	}
	next := node.DeepCopy()
	if next.Spec.ProviderID == "" {
		next.Spec.ProviderID = instance.ProviderID
	}
	next.Spec.Taints = slices.DeleteFunc(next.Spec.Taints, func(t corev1.Taint) bool { return t.Key == uninitialized })
	label(next, instance)
	stored, err := c.api.Update(ctx, next)
	if err != nil {
		return client.IgnoreNotFound(fmt.Errorf("initialize node %s: %w", node.Name, err))
	}
	if len(instance.Addresses) > 0 && !equal.Semantic(stored.Status.Addresses, instance.Addresses) {
		stored = stored.DeepCopy()
		stored.Status.Addresses = instance.Addresses
		if _, err := c.api.UpdateStatus(ctx, stored); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("addresses of node %s: %w", node.Name, err)
		}
	}
	c.Events.Event(node, corev1.EventTypeNormal, "Synced", "Node synced successfully")
	return nil
}

// label adds what the provider says, but none of the cluster's own labels.
func label(node *corev1.Node, instance Instance) {
	set := func(value string, keys ...string) {
		for _, key := range keys {
			if value != "" {
				metav1.SetMetaDataLabel(&node.ObjectMeta, key, value)
			}
		}
	}
	set(instance.Type, corev1.LabelInstanceType, corev1.LabelInstanceTypeStable)
	set(instance.Zone, corev1.LabelFailureDomainBetaZone, corev1.LabelTopologyZone)
	set(instance.Region, corev1.LabelFailureDomainBetaRegion, corev1.LabelTopologyRegion)
	for key, value := range instance.Labels {
		domain, _, _ := strings.Cut(key, "/")
		_, taken := node.Labels[key]
		dotted := "." + domain
		if !taken && !strings.HasSuffix(dotted, ".kubernetes.io") && !strings.HasSuffix(dotted, ".k8s.io") {
			set(value, key)
		}
	}
}

func (c *nodes) remove(ctx context.Context, node *corev1.Node) error {
	c.Events.Event(node, corev1.EventTypeNormal, "DeletingNode", "Deleting node %s because it does not exist in the cloud provider", node.Name)
	err := c.api.Delete(ctx, "", node.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &node.UID}})
	if client.IgnoreNotFound(err) != nil {
		c.Events.Event(node, corev1.EventTypeWarning, "DeletingNodeFailed", "Failed deleting node %s: %v", node.Name, err)
		return fmt.Errorf("delete node %s: %w", node.Name, err)
	}
	return nil
}

// setTaint puts the taint of machines that don't run on a node, or takes it off.
func (c *nodes) setTaint(ctx context.Context, node *corev1.Node, down bool) error {
	if hasTaint(node, shutdown) == down {
		return nil
	}
	next := node.DeepCopy()
	if down {
		next.Spec.Taints = append(next.Spec.Taints, corev1.Taint{Key: shutdown, Effect: corev1.TaintEffectNoSchedule})
	} else {
		next.Spec.Taints = slices.DeleteFunc(next.Spec.Taints, func(t corev1.Taint) bool { return t.Key == shutdown })
	}
	if _, err := c.api.Update(ctx, next); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("taint node %s: %w", node.Name, err)
	}
	return nil
}

func hasTaint(node *corev1.Node, key string) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == key })
}

func isReady(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}
