// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/kubelet/pod"
	"kogge.dev/kogge/rules/qos"
)

// worker drives one pod. Its goroutine alone touches the machine: everybody else posts functions to it.
type worker struct {
	k   *Kubelet
	uid types.UID
	log *slog.Logger
	qos corev1.PodQOSClass
	// static is set for pods of the manifest folder.
	static bool

	// machine belongs to the goroutine, as do the fields below it.
	machine *pod.Machine
	dirty   bool // the runtime must be asked before the next decision
	retry   time.Time
	refresh time.Time // when something in a volume expires
	probes  map[probeKey]*runningProbe
	stage   pod.Stage
	// wanted is a specification whose resources the node does not have yet.
	wanted *corev1.Pod

	// starts is done once the pod ends: pulls and volume set-up give up then.
	starts       context.Context //nolint:containedctx // a life-time, not a call
	cancelStarts context.CancelFunc
	ops          sync.WaitGroup
	done         chan struct{}

	view     atomic.Pointer[view]
	reporter reporter
	// wake has one slot: a token in it means that the queue may hold something; further tokens are dropped.
	wake chan struct{}

	mu    sync.Mutex
	queue []func()
}

// view is what others may know of a pod without asking its goroutine. Both objects are immutable.
type view struct {
	pod     *corev1.Pod
	status  *corev1.PodStatus
	runtime pod.Runtime
	stage   pod.Stage
}

func (k *Kubelet) newWorker(ctx context.Context, p *corev1.Pod, static bool) *worker {
	class := qos.Of(p)
	w := &worker{
		k: k, uid: p.UID, log: k.log.With("object", p.Namespace+"/"+p.Name), qos: class, static: static, dirty: true,
		probes: map[probeKey]*runningProbe{}, wake: make(chan struct{}, 1), done: make(chan struct{}),
		machine: pod.New(pod.Config{
			RuntimeName: k.runtime.name, HostIPs: k.hostIPs, QOS: class, Static: static, MaxBackoff: k.config.Settings.CrashLoopBackOff.MaxContainerRestartPeriod.Duration,
			RecursiveReadOnly: k.recursiveReadOnly(p),
		}, p),
	}
	w.starts, w.cancelStarts = context.WithCancel(ctx)
	w.view.Store(&view{pod: p, status: &p.Status})
	w.reporter = reporter{w: w}
	return w
}

// post hands the goroutine something to do. It never blocks.
func (w *worker) post(f func()) {
	w.mu.Lock()
	w.queue = append(w.queue, f)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// markDirty makes the worker look at the runtime again.
func (w *worker) markDirty() { w.post(func() { w.dirty = true }) }

func (w *worker) run(ctx context.Context) {
	defer close(w.done)
	defer w.ops.Wait()
	defer w.stopProbes()
	defer w.cancelStarts()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-timer.C:
		}
		wake, over := w.step(ctx)
		if over {
			return
		}
		timer.Stop()
		if !wake.IsZero() {
			timer.Reset(max(time.Until(wake), 0))
		}
	}
}

// step takes in what happened and does what follows from it. It returns when to step again at the latest.
func (w *worker) step(ctx context.Context) (wake time.Time, over bool) {
	w.mu.Lock()
	events := w.queue
	w.queue = nil
	w.mu.Unlock()
	for _, f := range events {
		f()
	}
	now := time.Now()
	if w.dirty && !now.Before(w.retry) {
		observed, err := w.k.runtime.observe(ctx, w.uid)
		if err != nil {
			if ctx.Err() == nil {
				w.log.Warn("runtime can't be asked about pod", "err", err)
			}
			w.retry = now.Add(time.Second)
			return w.retry, false
		}
		w.dirty = false
		w.machine.Observe(observed)
	}
	d := w.machine.Decide(time.Now())
	w.enterStage(d.Stage)
	p := w.machine.Pod()
	d.Status = w.k.withDevices(p, d.Status)
	w.view.Store(&view{pod: p, status: d.Status, runtime: w.machine.Runtime(), stage: d.Stage})
	for _, e := range d.Events {
		w.event(p, e.Container, e.Type, e.Reason, e.Message)
	}
	w.setProbes(ctx, d.Probes)
	w.reporter.set(ctx, p, d.Status, d.Clean)
	for _, a := range d.Actions {
		if a.Verb == pod.Forget {
			w.k.forget(w, p)
			return time.Time{}, true
		}
		w.execute(ctx, p, a)
	}
	w.refreshVolumes(ctx, p, now)
	return earliest(d.Wake, w.refresh, w.retryIfDirty()), false
}

func (w *worker) retryIfDirty() time.Time {
	if w.dirty {
		return w.retry
	}
	return time.Time{}
}

// earliest ignores zero times.
func earliest(times ...time.Time) time.Time {
	var out time.Time
	for _, t := range times {
		if !t.IsZero() && (out.IsZero() || t.Before(out)) {
			out = t
		}
	}
	return out
}

// enterStage gives up what only a starting pod needs.
func (w *worker) enterStage(stage pod.Stage) {
	if stage == w.stage {
		return
	}
	w.stage = stage
	w.cancelStarts()
	if stage == pod.Terminated {
		w.refresh = time.Time{}
		w.k.releaseObjects(w.uid)
		w.k.podsChanged() // its resources are free
	}
}

// execute runs an action beside the goroutine and posts its outcome.
func (w *worker) execute(ctx context.Context, p *corev1.Pod, a pod.Action) {
	w.ops.Go(func() {
		outcome := w.k.do(ctx, w, p, a)
		if outcome.Err != nil && ctx.Err() == nil {
			w.log.Debug("pod action failed", "action", a.Key, "err", outcome.Err)
		}
		w.post(func() {
			w.dirty, w.retry = true, time.Time{}
			w.machine.Done(a, outcome, time.Now())
		})
	})
}

// refreshVolumes renews what expires in the pod's volumes.
func (w *worker) refreshVolumes(ctx context.Context, p *corev1.Pod, now time.Time) {
	if w.refresh.IsZero() || now.Before(w.refresh) || w.stage == pod.Terminated {
		return
	}
	w.refresh = time.Time{}
	w.ops.Go(func() {
		next, err := w.k.volumes.Refresh(ctx, p)
		if err != nil {
			w.log.Warn("volumes can't be refreshed", "err", err)
			next = earliest(next, time.Now().Add(time.Minute))
		}
		w.post(func() { w.refresh = earliest(w.refresh, next) })
	})
}

// event reports something about the pod or one of its containers.
func (w *worker) event(p *corev1.Pod, container, kind, reason, message string) {
	ref := podReference(p, container)
	w.k.config.Recorder.Event(&ref, kind, reason, message)
}

func podReference(p *corev1.Pod, container string) corev1.ObjectReference {
	ref := corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion,
	}
	if hash := p.Annotations[annotationMirror]; hash != "" {
		ref.UID = types.UID(hash)
	}
	if container == "" {
		return ref
	}
	switch _, kind := pod.Find(p, container); kind {
	case pod.Init:
		ref.FieldPath = "spec.initContainers{" + container + "}"
	case pod.Ephemeral:
		ref.FieldPath = "spec.ephemeralContainers{" + container + "}"
	case pod.Regular:
		ref.FieldPath = "spec.containers{" + container + "}"
	}
	return ref
}
