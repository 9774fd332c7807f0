// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/kinds"
)

// Informers is a set of informers that share one client and so one identity. All users of the same type and selection
// get the same informer. Informers asked for after Run began are started at once.
type Informers struct {
	client *Client
	log    *slog.Logger
	wg     sync.WaitGroup

	mu    sync.Mutex
	set   map[informerKey]runner
	first []runner // those that Run began with
	// runs has what runs each of the set since Run began; nil while its resource has no objects, and the backend will tell of the first one.
	runs map[runner]*run
	ctx  context.Context //nolint:containedctx // lent by Run while it runs, so that late informers join it
	done bool
}

// run is the goroutine that an informer runs on.
type run struct{ cancel context.CancelFunc }

type informerKey struct {
	kind      reflect.Type
	resource  schema.GroupVersionResource
	selection Selection
}

// NewInformers makes an empty set. The log gets connection troubles at debug and repeated ones at warn.
func NewInformers(c *Client, log *slog.Logger) *Informers {
	return &Informers{client: c, log: log, set: map[informerKey]runner{}, runs: map[runner]*run{}}
}

// Client returns the client that the set reads through.
func (s *Informers) Client() *Client { return s.client }

// InformerFor returns the set's informer of a built-in kind, made on first use. At most one selection may be given.
func InformerFor[T kinds.Object](s *Informers, selection ...Selection) *Informer[T] {
	return InformerOf(s, Of[T](s.client), selection...)
}

// InformerOf returns the set's informer of any resource.
func InformerOf[T kinds.Object](s *Informers, resource Resource[T], selection ...Selection) *Informer[T] {
	var sel Selection
	if len(selection) > 0 {
		sel = selection[0]
	}
	return informerOf(s, resource, sel, nil)
}

// TrimmedInformer returns the set's informer of a resource whose objects have large parts that no user of the set reads. trim returns a copy
// without them that has the object's names and UID still, of an object that may be without what makes its kind's objects large (Request.Slim); all users of the
// resource and type must ask for it by the same trim.
func TrimmedInformer[T kinds.Object](s *Informers, resource Resource[T], trim func(T) T) *Informer[T] {
	resource.slim = true
	return informerOf(s, resource, Selection{}, trim)
}

func informerOf[T kinds.Object](s *Informers, resource Resource[T], sel Selection, trim func(T) T) *Informer[T] {
	key := informerKey{kind: reflect.TypeFor[T](), resource: resource.gvr, selection: sel}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.set[key]; ok {
		f := known.(*Informer[T])
		if (f.trim == nil) != (trim == nil) {
			panic(fmt.Sprintf("client: informer of %s is asked for both whole and trimmed", resource.gvr.Resource))
		}
		return f
	}
	f := &Informer[T]{resource: resource, options: sel, trim: trim}
	s.set[key] = f
	if s.ctx != nil && !s.done {
		s.startLocked(f)
	}
	return f
}

// startLocked has a goroutine run an informer until it is dropped or s.ctx ends; while it has no objects to follow there may be none, and no context either.
func (s *Informers) startLocked(f runner) {
	ctx, cancel := context.WithCancel(s.ctx)
	own := &run{cancel: cancel}
	s.runs[f] = own
	s.wg.Go(func() {
		defer cancel()
		f.run(ctx, func() { s.startAgain(f) }, func(err error, attempt int) {
			level := slog.LevelDebug // the first comes whenever the server stops before its client
			if attempt > 1 {
				level = slog.LevelWarn
			}
			s.log.Log(ctx, level, "informer lost its watch", "attempt", attempt, "err", err)
		})
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.runs[f] == own { // It was neither dropped nor started again.
			s.runs[f] = nil
		}
	})
}

// startAgain starts an informer of whose resource there are objects now, if it is wanted still.
func (s *Informers) startAgain(f runner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, wanted := s.runs[f]; wanted && !s.done { // So Run does not wait for its goroutines yet.
		s.startLocked(f)
	}
}

// Drop ends an informer and takes it out of the set: its resource is not served any more. Its users keep what it last knew;
// who asks for the resource again gets a new informer.
func Drop[T kinds.Object](s *Informers, f *Informer[T]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, known := range s.set {
		if known == runner(f) {
			delete(s.set, key)
		}
	}
	if own := s.runs[f]; own != nil {
		own.cancel()
	}
	delete(s.runs, f)
}

// Run follows all informers of the set until ctx ends and waits for them.
func (s *Informers) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.ctx != nil {
		s.mu.Unlock()
		return errors.New("informers run already")
	}
	s.ctx = ctx
	for _, f := range s.set {
		s.first = append(s.first, f)
		s.startLocked(f)
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.done = true
	s.mu.Unlock()
	s.wg.Wait()
	return nil
}

// Synced reports whether every informer that Run began with has delivered its first list. Those that were asked for later don't count:
// one of custom resources may never list any, when their conversion fails, say.
func (s *Informers) Synced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx == nil {
		return false
	}
	for _, f := range s.first {
		select {
		case <-f.Synced():
		default:
			return false
		}
	}
	return true
}

// WaitSynced waits until every informer of the set, as it is now, has delivered its first list.
func (s *Informers) WaitSynced(ctx context.Context) error {
	s.mu.Lock()
	all := make([]runner, 0, len(s.set))
	for _, f := range s.set {
		all = append(all, f)
	}
	s.mu.Unlock()
	for _, f := range all {
		select {
		case <-f.Synced():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
