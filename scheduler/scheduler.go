// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package scheduler finds a node for every pod that has none, and binds it there. It drives scheduler/core: one goroutine
// owns the state and the queue, takes in what informers deliver, and decides about one pod after the other; writes to the
// API are made beside it, and their outcome comes back as a message.
package scheduler

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/scheduler/core"
)

// Config of a scheduler.
type Config struct {
	// Client acts as the scheduler; required.
	Client *client.Client
	// Informers are run by the caller; required.
	Informers *client.Informers
	// Events writes Events as the scheduler, and is run by the caller; required.
	Events *reconcile.Recorder
	// Log is required.
	Log *slog.Logger
	// Settings, nil for the defaults.
	Settings *Settings
}

// parallelWrites bounds the requests for bindings and evictions that are under way at a time.
const parallelWrites = 64

// Scheduler assigns pods to nodes.
type Scheduler struct {
	config   Config
	pods     client.Resource[*corev1.Pod]
	claims   client.Resource[*corev1.PersistentVolumeClaim]
	volumes  client.Resource[*corev1.PersistentVolume]
	podView  *client.Informer[*corev1.Pod]
	claimSet *client.Informer[*corev1.PersistentVolumeClaim]
	synced   []<-chan struct{}
	inbox    *inbox
	reports  *reports
	writes   sync.WaitGroup
	permits  chan struct{} // one for each write under way
	waits    signal        // fires when a claim changed or a pod went

	// What follows belongs to the goroutine of Run.

	state    *core.State
	queue    *core.Queue
	profiles map[string]*core.Profile
	memory   core.Memory
	evicting map[types.UID][]*core.Pod // victims of each preempting pod whose eviction is not yet seen
}

// New makes a scheduler. It begins to follow the cluster once its informers run.
func New(config Config) (*Scheduler, error) {
	if config.Client == nil || config.Informers == nil || config.Events == nil || config.Log == nil {
		return nil, errors.New("scheduler: client, informers, events and log are required")
	}
	if config.Settings == nil {
		config.Settings = &Settings{}
	}
	profiles, err := config.Settings.profiles()
	if err != nil {
		return nil, err
	}
	s := &Scheduler{
		config: config, pods: client.Of[*corev1.Pod](config.Client), claims: client.Of[*corev1.PersistentVolumeClaim](config.Client),
		volumes: client.Of[*corev1.PersistentVolume](config.Client), inbox: newInbox(), permits: make(chan struct{}, parallelWrites),
		state: core.NewState(), queue: core.NewQueue(config.Settings.queue()), profiles: profiles, evicting: map[types.UID][]*core.Pod{},
	}
	s.follow()
	s.reports = newReports(config, s.podView)
	return s, nil
}

// Run schedules until ctx ends.
func (s *Scheduler) Run(ctx context.Context) error {
	for _, synced := range s.synced {
		select {
		case <-ctx.Done():
			return nil
		case <-synced:
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.reports.loop.Run(ctx) }()
	s.loop(ctx)
	cancel()
	s.writes.Wait()
	return <-ended
}

// loop takes in messages before each decision, so that decisions rest on the newest view.
func (s *Scheduler) loop(ctx context.Context) {
	for ctx.Err() == nil {
		for _, message := range s.inbox.take() {
			message()
		}
		if pod := s.queue.Pop(time.Now()); pod != nil {
			s.schedule(ctx, pod)
			continue
		}
		var timer <-chan time.Time
		if next := s.queue.Next(); !next.IsZero() {
			timer = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
		case <-s.inbox.wake:
		case <-timer:
		}
	}
}

// schedule decides about one pod and sets in motion what follows.
func (s *Scheduler) schedule(ctx context.Context, pod *core.Queued) {
	profile := pod.Profile
	if s.stillEvicting(pod.UID) {
		without := *profile
		without.Preempter = nil
		profile = &without
	}
	decision := profile.Schedule(s.state.Snapshot(), pod.Pod, &s.memory)
	switch {
	case decision.Err != "":
		s.config.Log.Warn("pod could not be judged", "object", pod.Key(), "err", decision.Err)
		s.queue.Retry(pod.UID, time.Now())
		s.reports.refused(pod.Pod, corev1.PodReasonSchedulerError, decision.Err, "", false)
	case decision.Fit != nil:
		s.refuse(ctx, pod.Pod, decision)
	default:
		s.config.Log.Debug("pod gets a node", "object", pod.Key(), "node", decision.Node, "attempt", pod.Attempts)
		s.state.Assume(pod.Pod, decision.Node, decision.Plan)
		s.write(ctx, func(ctx context.Context) { s.place(ctx, pod.Pod, decision) })
	}
}

func (s *Scheduler) refuse(ctx context.Context, pod *core.Pod, decision core.Decision) {
	message := decision.Fit.Error()
	s.config.Log.Debug("pod fits nowhere", "object", pod.Key(), "reason", message)
	s.queue.Failed(pod.UID, decision.Fit.Plugins, time.Now())
	nominated := ""
	switch {
	case decision.Preemption != nil:
		nominated = decision.Preemption.Node
		s.state.Nominate(pod, pod.UID, nominated)
		s.evict(ctx, pod, decision.Preemption)
	case decision.Clear:
		s.state.Nominate(nil, pod.UID, "")
	}
	s.reports.refused(pod, corev1.PodReasonUnschedulable, message, nominated, decision.Clear)
}

// write runs fn beside the loop, when fewer than parallelWrites are under way.
func (s *Scheduler) write(ctx context.Context, fn func(ctx context.Context)) {
	s.writes.Go(func() {
		select {
		case s.permits <- struct{}{}:
		case <-ctx.Done():
			return
		}
		defer func() { <-s.permits }()
		fn(ctx)
	})
}

// moved tells the queue of changes.
func (s *Scheduler) moved(events []core.Event) {
	now := time.Now()
	for _, e := range events {
		s.queue.Moved(e, now)
	}
}

// follow subscribes to everything that decisions depend on.
func (s *Scheduler) follow() {
	set := s.config.Informers
	s.podView = client.InformerFor[*corev1.Pod](set, client.Selection{FieldSelector: "status.phase!=Succeeded,status.phase!=Failed"})
	s.podView.Handle(client.Handler[*corev1.Pod]{
		Add:    func(pod *corev1.Pod) { s.inbox.post(func() { s.putPod(pod) }) },
		Update: func(_, pod *corev1.Pod) { s.inbox.post(func() { s.putPod(pod) }) },
		Delete: func(pod *corev1.Pod) {
			s.inbox.post(func() { s.dropPod(pod.UID) })
			s.waits.fire()
		},
	})
	nodes := client.InformerFor[*corev1.Node](set)
	nodes.Handle(client.Handler[*corev1.Node]{
		Add:    func(node *corev1.Node) { s.inbox.post(func() { s.moved(s.state.PutNode(node)) }) },
		Update: func(_, node *corev1.Node) { s.inbox.post(func() { s.moved(s.state.PutNode(node)) }) },
		Delete: func(node *corev1.Node) { s.inbox.post(func() { s.moved(s.state.DropNode(node.Name)) }) },
	})
	s.synced = append(s.synced, s.podView.Synced(), nodes.Synced())
	s.followObjects(set)
}

func followObject[T kinds.Object](s *Scheduler, set *client.Informers) *client.Informer[T] {
	f := client.InformerFor[T](set)
	put := func(obj T) { s.inbox.post(func() { s.moved(s.state.Objects().Put(obj)) }) }
	f.Handle(client.Handler[T]{
		Add: put, Update: func(_, obj T) { put(obj) },
		Delete: func(obj T) { s.inbox.post(func() { s.moved(s.state.Objects().Drop(obj)) }) },
	})
	s.synced = append(s.synced, f.Synced())
	return f
}

// putPod takes in a pod from the API.
func (s *Scheduler) putPod(pod *corev1.Pod) {
	if pod.Spec.NodeName != "" {
		s.queue.Drop(pod.UID)
		delete(s.evicting, pod.UID)
		s.moved(s.state.PutPod(pod))
		return
	}
	profile := s.profiles[pod.Spec.SchedulerName]
	if profile == nil || s.state.Assigned(pod.UID) != nil {
		return // another scheduler's, or one whose binding the watch has not shown yet
	}
	if pod.DeletionTimestamp != nil {
		s.dropPod(pod.UID)
		return
	}
	waiting := core.NewPod(pod)
	if name := pod.Status.NominatedNodeName; name != "" {
		s.state.Nominate(waiting, pod.UID, name)
	}
	s.queue.Put(waiting, profile, time.Now())
}

// dropPod forgets a pod that is gone, finished, or deleted before it had a node.
func (s *Scheduler) dropPod(uid types.UID) {
	s.queue.Drop(uid)
	delete(s.evicting, uid)
	s.moved(s.state.DropPod(uid))
}
