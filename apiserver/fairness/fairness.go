// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package fairness keeps the API server from taking on more than it can carry, and one client from taking what others need: API priority
// and fairness (KEP-1040). A request is classified by the FlowSchemas; the priority level that its schema names gives it seats, lets it
// wait in a queue of its flow, or refuses it with 429.
//
//	request ── classify: FlowSchema ── level ──┬─ exempt: at once
//	                                           ├─ seats left: at once
//	                                           ├─ queues: waits for its turn, at most a quarter of its time
//	                                           └─ 429, Retry-After
//
// Requests of this process's own components don't pass here: they would only wait for themselves.
package fairness

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	flowcontrol "k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap"

	"kogge.dev/kogge/apiserver/fairness/queues"
	"kogge.dev/kogge/apiserver/request"
)

// Config of a Limiter. The zero value is the default.
type Config struct {
	// Seats is how many requests may execute at once, over all levels. Default 600, as upstream's 400 reads and 200 writes.
	Seats int
	// Size is how many objects a resource has, and how many bytes they are, which says what a list costs; nil: every list costs one seat.
	Size func(gvr schema.GroupVersionResource) (objects int, bytes int64)
	// Watchers is how many watchers hear of a change of an object, which says what a write costs; nil: every write costs one seat. The name may be empty.
	Watchers func(gvr schema.GroupVersionResource, namespace, name string) int
}

const (
	defaultSeats = 600
	// longestWait bounds the wait in a queue; a request with a deadline waits at most a quarter of its time.
	longestWait = 15 * time.Second
	// adjustEvery is the period after which levels lend and borrow anew, when requests come.
	adjustEvery = 10 * time.Second
	// retryAfter is how many seconds a refused client is told to wait.
	retryAfter = 1
)

// Limiter is the stop of the request path. New makes it, Run keeps its configuration, Filter is what requests pass.
type Limiter struct {
	cfg     Config
	metrics *metrics

	mu      sync.Mutex
	schemas []*flowcontrolv1.FlowSchema
	levels  map[string]*level
	// inside are the requests that wait or execute.
	inside   map[*queues.Ticket]*place
	adjusted time.Time
}

// level is one priority level in use. A level that the configuration has no more lives until its last request has left.
type level struct {
	plan levelPlan
	name string
	core *queues.Level
	// smooth is the demand over some time, in seats.
	smooth float64
	// tally counts what has become of requests, for the dumps.
	tally tally
}

// New makes a limiter with upstream's default configuration; Run replaces it with the stored one.
func New(cfg Config) *Limiter {
	if cfg.Seats == 0 {
		cfg.Seats = defaultSeats
	}
	l := &Limiter{cfg: cfg, levels: map[string]*level{}, inside: map[*queues.Ticket]*place{}, adjusted: time.Now()}
	l.metrics = newMetrics(l.gauges)
	l.configure(flowcontrol.SuggestedPriorityLevelConfigurations, flowcontrol.SuggestedFlowSchemas)
	return l
}

// configure follows the stored configuration.
func (l *Limiter) configure(levels []*flowcontrolv1.PriorityLevelConfiguration, schemas []*flowcontrolv1.FlowSchema) {
	p := makePlan(levels, schemas, l.cfg.Seats)
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.schemas = p.schemas
	for name := range l.levels {
		if _, ok := p.levels[name]; !ok {
			delete(l.levels, name)
		}
	}
	for name, lp := range p.levels {
		old := l.levels[name]
		switch {
		case old == nil:
			l.levels[name] = &level{plan: lp, name: name, core: queues.NewLevel(lp.shape, lp.nominal, now)}
		case old.plan != lp:
			old.plan = lp
			l.wakeLocked(old.core.Configure(now, lp.shape, lp.nominal))
		}
	}
}

// place is a request that has been classified.
type place struct {
	level  *level
	ticket *queues.Ticket
	labels flowLabels
	work   work
	// ready is closed when a request that waits may execute; nil for those that did not wait.
	ready chan struct{}
	// waits says that it is not let in yet.
	waits bool
	// The rest is for the dumps: the request, its flow within the schema, when it came, and when it was let in.
	state            *request.State
	flow, user       string
	arrived, started time.Time
}

// Filter wraps what requests reach when they have their seats.
func (l *Limiter) Filter(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		state := request.From(r.Context())
		if state == nil || state.Info.LongRunning() && state.Info.Verb != "watch" {
			next.ServeHTTP(w, r)
			return
		}
		p, outcome := l.arrive(w.Header(), r, state)
		switch {
		case p == nil:
			next.ServeHTTP(w, r)
		case outcome == queues.Execute, outcome == queues.Wait && l.wait(r.Context(), p):
			l.execute(next, w, r, p)
		default:
			l.refuse(w, p, outcome)
		}
	})
}

// arrive classifies a request and lets it in. nil: no schema is about it.
func (l *Limiter) arrive(header http.Header, r *http.Request, state *request.State) (*place, queues.Outcome) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := classify(l.schemas, state)
	if s == nil {
		return nil, queues.Execute
	}
	lv := l.levels[s.Spec.PriorityLevelConfiguration.Name]
	header.Set(flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID, string(s.UID))
	header.Set(flowcontrolv1.ResponseHeaderMatchedPriorityLevelConfigurationUID, lv.plan.uid)
	labels := flowLabels{lv.name, s.Name}
	p := &place{level: lv, labels: labels, ticket: &queues.Ticket{}, state: state, flow: distinguisher(s, state), user: state.User.Name, arrived: now, started: now}
	if lv.plan.exempt {
		p.work = work{initial: 1}
		l.letInLocked(p)
		return p, queues.Execute
	}
	l.adjustLocked(now)
	p.work = l.workOf(r, &state.Info, lv.plan.widest)
	p.ticket.Flow, p.ticket.Seats = flowOf(s.Name, p.flow), p.work.seats()
	outcome := lv.core.Arrive(now, p.ticket)
	switch outcome {
	case queues.Execute:
		l.letInLocked(p)
	case queues.Wait:
		p.ready, p.waits = make(chan struct{}), true
		l.inside[p.ticket] = p
	case queues.NoSeat, queues.QueueFull: // refuse counts them
		lv.tally.rejected++
	}
	return p, outcome
}

// letInLocked notes that a request executes at once.
func (l *Limiter) letInLocked(p *place) {
	l.inside[p.ticket] = p
	p.level.tally.dispatched++
	l.metrics.dispatched(p.labels, 0)
}

// timeOut is the reason of a refusal after waiting too long.
const timeOut = "time-out"

// wait waits for a request's seats. false: its time is over.
func (l *Limiter) wait(ctx context.Context, p *place) bool {
	began := time.Now()
	limit := longestWait
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline)/4)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	reason := ""
	select {
	case <-p.ready:
	case <-timer.C:
		reason = timeOut
	case <-ctx.Done():
		reason = "cancelled"
	}
	if reason != "" && l.cancel(p, reason) {
		l.metrics.rejected(p.labels, reason, time.Since(began))
		return false
	}
	l.metrics.dispatched(p.labels, time.Since(began))
	return true
}

// cancel gives up waiting. false: the request got its seats in the meantime.
func (l *Limiter) cancel(p *place, reason string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	started, waited := p.level.core.Cancel(time.Now(), p.ticket)
	if waited {
		delete(l.inside, p.ticket)
		p.level.tally.gaveUp(reason)
		l.wakeLocked(started)
	}
	return waited
}

// execute lets a request work and gives its seats back. A watch gives them back when it streams: what it costs is its beginning. A write that many
// watchers hear of keeps them for a while.
func (l *Limiter) execute(next http.Handler, w http.ResponseWriter, r *http.Request, p *place) {
	began := time.Now()
	leave := sync.OnceFunc(func() {
		l.metrics.executed(p.labels, time.Since(began))
		if p.work.after > 0 {
			time.AfterFunc(p.work.after, func() { l.leave(p) })
			return
		}
		l.leave(p)
	})
	defer leave()
	request.From(r.Context()).Streams = leave
	next.ServeHTTP(w, r)
}

func (l *Limiter) leave(p *place) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.inside, p.ticket)
	if p.exempt() {
		return
	}
	l.wakeLocked(p.level.core.Leave(time.Now(), p.ticket))
}

// exempt tells a request that takes no seats.
func (p *place) exempt() bool { return p.ticket.Seats == 0 }

// wakeLocked tells requests that they have their seats.
func (l *Limiter) wakeLocked(started []*queues.Ticket) {
	for _, t := range started {
		if p := l.inside[t]; p != nil && p.waits {
			close(p.ready)
			p.waits, p.started = false, time.Now()
			p.level.tally.dispatched++
		}
	}
}

func (l *Limiter) refuse(w http.ResponseWriter, p *place, outcome queues.Outcome) {
	switch outcome {
	case queues.NoSeat:
		l.metrics.rejected(p.labels, "concurrency-limit", 0)
	case queues.QueueFull:
		l.metrics.rejected(p.labels, "queue-full", 0)
	case queues.Execute, queues.Wait: // wait has counted it
	}
	err := apierrors.NewTooManyRequests("too many requests, please try again later", retryAfter)
	st := err.Status()
	st.APIVersion, st.Kind = "v1", "Status"
	w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusTooManyRequests)
	_ = json.NewEncoder(w).Encode(st) // a client that went away is its own affair
}

// flowOf hashes what the requests of one flow have in common.
func flowOf(parts ...string) uint64 {
	sum := sha256.Sum256([]byte(strings.Join(parts, ",")))
	return binary.LittleEndian.Uint64(sum[:])
}
