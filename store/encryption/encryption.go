// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package encryption keeps values encrypted in a store, as an EncryptionConfiguration file of apiserver.config.k8s.io says and in
// kube-apiserver's formats. It lies between a store and everybody above: caches hold plain values, which were decrypted once.
//
//	watch cache, API server ── Store ── transformers by resource ── etcd
//	                                      └─ KMS plugins: wrap the secrets of the values
package encryption

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"

	"kogge.dev/kogge/internal/reload"
	"kogge.dev/kogge/store"
)

// Config of a Store. All fields are required.
type Config struct {
	// Path of the file.
	Path string
	// Under is the store with the encrypted values.
	Under store.Store
	// Resource tells whose value a key of the store holds.
	Resource func(key string) schema.GroupResource
	Log      *slog.Logger
}

// Store is a store.Store whose values are encrypted in the store below. Run keeps it working.
//
// A value that can't be decrypted comes out of lists and watches as it is stored: it must not keep the others from being read. When that may
// have changed, because the file or the health of a KMS plugin did, watches end as if they had lost history, so that everybody reads again.
type Store struct {
	store.Store
	config  Config
	file    *reload.File
	opened  *prometheus.CounterVec
	current atomic.Pointer[generation]
	// running counts the goroutines of all generations.
	running sync.WaitGroup

	mu sync.Mutex
	// again is closed when everything is to be read again.
	again chan struct{}
	// unread is set when a value came out encrypted, unreached when that was for a plugin's failure.
	unread, unreached bool
	// epoch counts how often more values may have become readable.
	epoch uint64
	// watches counts those that run. due is set when everything is to be read again and none ran to say so: the next ends at once.
	watches int
	due     bool
}

// generation is what one content of the file says.
type generation struct {
	table   table
	plugins []*plugin
	stop    context.CancelFunc
}

// Open reads the file. KMS plugins are asked for their keys by Run.
func Open(config Config) (*Store, error) {
	s := &Store{Store: config.Under, config: config, again: make(chan struct{}), opened: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "apiserver_storage_transformation_operations_total", Help: "Values encrypted and decrypted, by status.",
	}, []string{"transformation_type", "status"})}
	file, content, err := reload.Open(reload.Config{Path: config.Path, Name: "encryption_config_controller", Apply: s.apply, Log: config.Log})
	if err != nil {
		return nil, err
	}
	first, err := s.generation(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", config.Path, err)
	}
	s.file = file
	s.current.Store(first)
	return s, nil
}

// Collectors are the store's metrics.
func (s *Store) Collectors() []prometheus.Collector { return append(s.file.Collectors(), s.opened) }

// Run asks KMS plugins for their keys and watches the file until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	defer s.running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.launch(ctx, s.current.Load())
	return s.file.Run(ctx)
}

// Check reports whether all KMS plugins work.
func (s *Store) Check(ctx context.Context) error {
	var errs []error
	for _, p := range s.current.Load().plugins {
		errs = append(errs, p.check(ctx))
	}
	return errors.Join(errs...)
}

func (s *Store) generation(content []byte) (*generation, error) {
	c, err := parse(content)
	if err != nil {
		return nil, err
	}
	g := &generation{}
	g.table, err = newTable(c, func(k *apiserverv1.KMSConfiguration) (transformer, error) {
		p, err := newPlugin(k, s.config.Log, func() { s.readAgain(true) })
		if err != nil {
			return nil, err
		}
		g.plugins = append(g.plugins, p)
		return p, nil
	})
	return g, err
}

func (s *Store) launch(ctx context.Context, g *generation) {
	ctx, g.stop = context.WithCancel(ctx)
	for _, p := range g.plugins {
		s.running.Go(func() { p.run(ctx) })
	}
}

// apply puts a changed file in force, once its plugins work.
func (s *Store) apply(ctx context.Context, content []byte) error {
	next, err := s.generation(content)
	if err != nil {
		return err
	}
	s.launch(ctx, next)
	for _, p := range next.plugins {
		if err := p.check(ctx); err != nil {
			next.stop()
			return fmt.Errorf("%w (%w)", err, reload.ErrPasses)
		}
	}
	before := s.current.Swap(next)
	s.readAgain(false)
	s.running.Go(func() { // What has begun with the plugins of before may end with them.
		select {
		case <-ctx.Done():
		case <-time.After(before.grace()):
		}
		before.stop()
	})
	return nil
}

// grace is how long a call of the plugins may take.
func (g *generation) grace() time.Duration {
	var sum time.Duration
	for _, p := range g.plugins {
		sum += 2 * p.timeout
	}
	return sum
}

// readAgain ends all watches if values came out encrypted that may be decrypted now; after a failure of plugins only those that failed for it.
// The caller has put in force what decrypts them.
func (s *Store) readAgain(onlyUnreached bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	if !s.unread || onlyUnreached && !s.unreached {
		return
	}
	s.unread, s.unreached, s.due = false, false, s.watches == 0
	close(s.again)
	s.again = make(chan struct{})
}

// open decrypts a value. ok is false when it could not be; then it is returned as it is stored, with the reason.
func (s *Store) open(ctx context.Context, key string, stored []byte) (plain []byte, stale bool, err error) {
	var t transformer = identity{}
	if c := s.current.Load().table.find(s.config.Resource(key)); c != nil {
		t = c
	}
	plain, stale, err = t.open(ctx, key, stored)
	if err != nil {
		s.opened.WithLabelValues("from_storage", "Unknown").Inc()
		return stored, false, fmt.Errorf("decrypt %s: %w", key, err)
	}
	s.opened.WithLabelValues("from_storage", "OK").Inc()
	return plain, stale, nil
}

// seal encrypts a value.
func (s *Store) seal(ctx context.Context, key string, plain []byte) ([]byte, error) {
	c := s.current.Load().table.find(s.config.Resource(key))
	if c == nil {
		return plain, nil
	}
	stored, err := c.seal(ctx, key, plain)
	if err != nil {
		s.opened.WithLabelValues("to_storage", "Unknown").Inc()
		return nil, fmt.Errorf("encrypt %s: %w", key, err)
	}
	s.opened.WithLabelValues("to_storage", "OK").Inc()
	return stored, nil
}

// show decrypts a record for lists and watches. What becomes readable while it tries is tried again: readAgain has not seen that value.
func (s *Store) show(ctx context.Context, r *store.Record) {
	for {
		s.mu.Lock()
		epoch := s.epoch
		s.mu.Unlock()
		plain, _, err := s.open(ctx, r.Key, r.Value)
		if err == nil || s.note(epoch, err) || ctx.Err() != nil {
			r.Value = plain
			if err != nil {
				s.config.Log.Error("stored value is not decrypted", "key", r.Key, "err", err)
			}
			return
		}
	}
}

// note keeps in mind that a value came out encrypted, unless more may have become readable since the epoch in which it was tried.
func (s *Store) note(epoch uint64, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != epoch {
		return false
	}
	s.unread, s.unreached = true, s.unreached || errors.Is(err, errUnreached)
	return true
}
