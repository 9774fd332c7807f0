// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// roundLimit bounds one round of an actor.
const roundLimit = 4 * time.Minute

// manifests are what actors create; $N in them is the number of the round.
//
//go:embed manifests
var manifests embed.FS

// actor makes things and removes them, round after round. Each round has a namespace of its own, which is deleted with what the actor left
// in it: so nothing of a round remains, its events neither.
type actor struct {
	name string
	play func(ctx context.Context, r *round) error
}

// round is one round of an actor.
type round struct {
	*churn
	actor     string
	number    int
	namespace string
}

// churn is all actors.
type churn struct {
	m      *machine
	api    *api
	actors []actor

	mu   sync.Mutex
	done map[string]int           // rounds by actor
	took map[string]time.Duration // by actor
}

func newChurn(m *machine, a *api) (*churn, error) {
	c := &churn{m: m, api: a, actors: actors, done: map[string]int{}, took: map[string]time.Duration{}}
	if m.o.only == "" {
		return c, nil
	}
	c.actors = nil
	for name := range strings.SplitSeq(m.o.only, ",") {
		i := slices.IndexFunc(actors, func(a actor) bool { return a.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no actor is named %q", name)
		}
		c.actors = append(c.actors, actors[i])
	}
	return c, nil
}

// run lets all actors play at the same time, each as many rounds as it begins within d.
func (c *churn) run(ctx context.Context, d time.Duration) error {
	end := time.Now().Add(d)
	group, ctx := errgroup.WithContext(ctx)
	for _, a := range c.actors {
		group.Go(func() error {
			for first := true; first || time.Now().Before(end); first = false {
				if err := c.round(ctx, a); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (c *churn) round(ctx context.Context, a actor) error {
	ctx, cancel := context.WithTimeoutCause(ctx, roundLimit, fmt.Errorf("a round takes at most %v", roundLimit))
	defer cancel()
	c.mu.Lock()
	c.done[a.name]++
	r := &round{churn: c, actor: a.name, number: c.done[a.name]}
	c.mu.Unlock()
	r.namespace = fmt.Sprintf("soak-%s-%d", a.name, r.number)
	began := time.Now()
	err := c.api.create(ctx, "", "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+r.namespace+"}")
	if err == nil {
		err = a.play(ctx, r)
	}
	if err == nil {
		err = gone(ctx, c.api.built("namespaces/v1"), "", r.namespace)
	}
	if err != nil {
		// For who looks for the cause; the namespace may be gone, or the cluster.
		state, stateErr := c.m.kubectl(context.WithoutCancel(ctx), "-n", r.namespace, "get", "all,pvc,events", "-o", "wide")
		return fmt.Errorf("actor %s, round %d: %w\n%s", a.name, r.number, errors.Join(err, stateErr), state)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.took[a.name] += time.Since(began)
	return nil
}

// rounds is how many have begun.
func (c *churn) rounds() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := 0
	for _, n := range c.done {
		sum += n
	}
	return sum
}

// report says what was played.
func (c *churn) report() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out strings.Builder
	for _, a := range c.actors {
		if n := c.done[a.name]; n > 0 {
			fmt.Fprintf(&out, "%-12s %5d rounds of %v\n", a.name, n, (c.took[a.name] / time.Duration(n)).Round(100*time.Millisecond))
		}
	}
	return out.String()
}

// create makes the objects of a manifest in the round's namespace.
func (r *round) create(ctx context.Context, manifest string) error {
	text, err := manifests.ReadFile("manifests/" + manifest)
	if err != nil {
		return err
	}
	return r.api.create(ctx, r.namespace, strings.ReplaceAll(string(text), "$N", fmt.Sprint(r.number)))
}
