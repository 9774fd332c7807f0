// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package fairness

import (
	"context"
	"fmt"
	"log/slog"

	"golang.org/x/sync/errgroup"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
)

// Run follows the stored FlowSchemas and PriorityLevelConfigurations until ctx ends, and keeps the condition of schemas that says whether
// their level is there. The client acts as a member of system:masters.
func (l *Limiter) Run(ctx context.Context, c *client.Client, log *slog.Logger) error {
	informers := client.NewInformers(c, log)
	schemas := client.InformerFor[*flowcontrolv1.FlowSchema](informers)
	levels := client.InformerFor[*flowcontrolv1.PriorityLevelConfiguration](informers)
	loop := reconcile.New(reconcile.Config{
		Name: "priority-and-fairness", Log: log, Informers: informers,
		Reconcile: func(ctx context.Context, key reconcile.Key) error {
			l.configure(levels.List(""), schemas.List(""))
			schema, ok := schemas.Get("", key.Name)
			if !ok {
				return nil
			}
			_, found := levels.Get("", schema.Spec.PriorityLevelConfiguration.Name)
			return mark(ctx, client.Of[*flowcontrolv1.FlowSchema](c), schema, found)
		},
	})
	reconcile.Self(loop, schemas)
	reconcile.On(loop, levels, func(level *flowcontrolv1.PriorityLevelConfiguration) []reconcile.Key {
		// The level itself is a key, too: nobody may refer to it, and others' shares change with it all the same.
		keys := []reconcile.Key{{Name: level.Name}}
		for _, schema := range schemas.List("") {
			if schema.Spec.PriorityLevelConfiguration.Name == level.Name {
				keys = append(keys, reconcile.KeyOf(schema))
			}
		}
		return keys
	})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return informers.Run(ctx) })
	g.Go(func() error { return loop.Run(ctx) })
	return g.Wait()
}

// mark keeps the condition Dangling of a schema.
func mark(ctx context.Context, c client.Resource[*flowcontrolv1.FlowSchema], schema *flowcontrolv1.FlowSchema, found bool) error {
	level := schema.Spec.PriorityLevelConfiguration.Name
	want := flowcontrolv1.FlowSchemaCondition{
		Type: flowcontrolv1.FlowSchemaConditionDangling, Status: flowcontrolv1.ConditionFalse, Reason: "Found",
		Message: fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q and it exists", level),
	}
	if !found {
		want.Status, want.Reason = flowcontrolv1.ConditionTrue, "NotFound"
		want.Message = fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q but there is no such object", level)
	}
	next := schema.DeepCopy()
	at := -1
	for i, c := range next.Status.Conditions {
		if c.Type == want.Type {
			at = i
		}
	}
	switch {
	case at < 0:
		want.LastTransitionTime = metav1.Now()
		next.Status.Conditions = append(next.Status.Conditions, want)
	case next.Status.Conditions[at].Status == want.Status && next.Status.Conditions[at].Message == want.Message:
		return nil
	default:
		want.LastTransitionTime = next.Status.Conditions[at].LastTransitionTime
		if next.Status.Conditions[at].Status != want.Status {
			want.LastTransitionTime = metav1.Now()
		}
		next.Status.Conditions[at] = want
	}
	_, err := c.UpdateStatus(ctx, next)
	if apierrors.IsConflict(err) {
		return nil // a newer revision is on its way and wakes us
	}
	return client.IgnoreNotFound(err)
}
