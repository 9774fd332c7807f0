// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
)

// Bounds of the recorder.
const (
	recorderBuffer = 1000             // events that wait to be written; more are dropped and counted
	recorderMemory = 4096             // recent events remembered, to count repetitions
	sameEventSpan  = 10 * time.Minute // repetitions within this span raise a count instead of making an object
	similarLimit   = 10               // so many events that differ only in their message, within the span, are combined
	eventBurst     = 25               // events about one object from one source before they are limited
	eventRefill    = 5 * time.Minute  // one more per this long after the burst
)

// Recorder writes Events about objects, in the background and in order. Repetitions raise the count of the Event that is
// there; floods are combined and then limited per object, as upstream's recorder does.
type Recorder struct {
	client *client.Client
	events client.Resource[*corev1.Event]
	source corev1.EventSource
	log    *slog.Logger
	queue  chan *record // of pointers: a control plane has thirty recorders, whose buffers are empty nearly always

	// What follows belongs to Run's goroutine.

	recent map[eventKey]*remembered
	order  []eventKey
	spam   map[types.UID]*bucket
}

// record is one wish.
type record struct {
	about                 corev1.ObjectReference
	kind, reason, message string
	at                    metav1.Time
}

// eventKey identifies what counts as the same event; message is empty for the combined form.
type eventKey struct {
	about                 corev1.ObjectReference
	kind, reason, message string
}

// remembered is an Event written before.
type remembered struct {
	namespace, name string
	count           int32
	last            time.Time
	similar         map[string]struct{} // messages seen, for the combined form's key
}

// bucket limits the events about one object.
type bucket struct {
	tokens float64
	at     time.Time
}

// NewRecorder makes a recorder for a component ("deployment-controller") on a host (empty off the nodes).
func NewRecorder(c *client.Client, component, host string, log *slog.Logger) *Recorder {
	return &Recorder{
		client: c, events: client.Of[*corev1.Event](c), source: corev1.EventSource{Component: component, Host: host}, log: log,
		queue: make(chan *record, recorderBuffer), recent: map[eventKey]*remembered{}, spam: map[types.UID]*bucket{},
	}
}

// Event records that something happened to obj. Kind is corev1.EventTypeNormal or EventTypeWarning; reason is a CamelCase word.
// It never blocks.
func (r *Recorder) Event(obj kinds.Object, kind, reason, format string, args ...any) {
	r.EventAbout(r.Reference(obj), kind, reason, format, args...)
}

// EventAbout is Event for a reference, which may name a part of an object by its field path.
func (r *Recorder) EventAbout(about corev1.ObjectReference, kind, reason, format string, args ...any) {
	message := format
	if len(args) > 0 {
		message = fmt.Sprintf(format, args...)
	}
	select {
	case r.queue <- &record{about: about, kind: kind, reason: reason, message: message, at: metav1.Now()}:
	default:
		r.log.Warn("event dropped, too many wait", "object", about.Namespace+"/"+about.Name, "reason", reason)
	}
}

// Reference returns the reference that Events name obj by.
func (r *Recorder) Reference(obj kinds.Object) corev1.ObjectReference {
	gvk := obj.GetObjectKind().GroupVersionKind()
	if gvk.Empty() {
		if _, served := r.client.Catalog().ByType(obj); served != nil {
			gvk = served.GroupVersionKind
		}
	}
	version, kind := gvk.ToAPIVersionAndKind()
	return corev1.ObjectReference{
		APIVersion: version, Kind: kind, Namespace: obj.GetNamespace(), Name: obj.GetName(), UID: obj.GetUID(),
		ResourceVersion: obj.GetResourceVersion(),
	}
}

// Run writes until ctx ends.
func (r *Recorder) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case rec := <-r.queue:
			if err := r.write(ctx, *rec); err != nil && ctx.Err() == nil {
				// Events are best effort: the namespace may be terminating, or a quota full.
				r.log.Debug("event not written", "object", rec.about.Namespace+"/"+rec.about.Name, "reason", rec.reason, "err", err)
			}
		}
	}
}

func (r *Recorder) write(ctx context.Context, rec record) error {
	if !r.admit(rec) {
		return nil
	}
	key := r.keyOf(rec)
	if key.message == "" {
		rec.message = "(combined from similar events): " + rec.message
	}
	if known := r.recent[key]; known != nil && time.Since(known.last) < sameEventSpan && known.name != "" {
		err := r.raise(ctx, known, rec)
		if !apierrors.IsNotFound(err) {
			return err
		}
	}
	return r.create(ctx, key, rec)
}

// admit spends a token of the object's bucket.
func (r *Recorder) admit(rec record) bool {
	b := r.spam[rec.about.UID]
	now := time.Now()
	if b == nil {
		if len(r.spam) > recorderMemory {
			clear(r.spam)
		}
		b = &bucket{tokens: eventBurst, at: now}
		r.spam[rec.about.UID] = b
	}
	b.tokens = min(eventBurst, b.tokens+float64(now.Sub(b.at))/float64(eventRefill))
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// keyOf decides whether rec counts on its own or, after too many similar ones, in their combined form.
func (r *Recorder) keyOf(rec record) eventKey {
	about := rec.about
	about.ResourceVersion = ""
	key := eventKey{about: about, kind: rec.kind, reason: rec.reason, message: rec.message}
	combined := key
	combined.message = ""
	group := r.remember(combined)
	if time.Since(group.last) > sameEventSpan {
		group.similar = nil
	}
	if group.similar == nil {
		group.similar = map[string]struct{}{}
	}
	group.last = time.Now()
	group.similar[rec.message] = struct{}{}
	if len(group.similar) > similarLimit {
		return combined
	}
	return key
}

func (r *Recorder) remember(key eventKey) *remembered {
	known := r.recent[key]
	if known == nil {
		known = &remembered{last: time.Now()}
		r.recent[key] = known
		r.order = append(r.order, key)
		if len(r.order) > recorderMemory {
			delete(r.recent, r.order[0])
			r.order = r.order[1:]
		}
	}
	return known
}

func (r *Recorder) create(ctx context.Context, key eventKey, rec record) error {
	namespace := rec.about.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	event := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s.%x", rec.about.Name, time.Now().UnixNano())},
		InvolvedObject: rec.about, Reason: rec.reason, Message: rec.message, Source: r.source, Type: rec.kind,
		FirstTimestamp: rec.at, LastTimestamp: rec.at, Count: 1,
		ReportingController: r.source.Component, ReportingInstance: r.source.Host,
	}
	if _, err := r.events.Create(ctx, event); err != nil {
		return err
	}
	known := r.remember(key)
	known.namespace, known.name, known.count, known.last = namespace, event.Name, 1, time.Now()
	return nil
}

// raise counts a repetition on the Event that is there.
func (r *Recorder) raise(ctx context.Context, known *remembered, rec record) error {
	patch, err := json.Marshal(map[string]any{"count": known.count + 1, "lastTimestamp": rec.at, "message": rec.message})
	if err != nil {
		return err
	}
	if _, err := r.events.Patch(ctx, known.namespace, known.name, types.MergePatchType, patch); err != nil {
		return err
	}
	known.count++
	known.last = time.Now()
	return nil
}
