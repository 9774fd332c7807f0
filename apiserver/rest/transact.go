// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/cache"
)

// outcome is what a transaction step wants to happen to the key.
type outcome struct {
	// obj is the new state, owned by the transaction; nil together with remove and keep false is a programming error.
	obj kinds.Object
	// remove deletes the key instead of writing obj.
	remove bool
	// keep leaves the key as it is and answers with the old state.
	keep bool
	// done is called after success, undo after failure; either may be nil. They settle what the step reserved elsewhere.
	done, undo func()
}

// settle ends a step.
func (o *outcome) settle(ok bool) {
	if o == nil {
		return
	}
	if ok && o.done != nil {
		o.done()
	}
	if !ok && o.undo != nil {
		o.undo()
	}
}

// step computes an outcome, at the hub, from the old state, which is shared and must not be changed; old is nil when the key is absent.
// It may be called several times. An outcome next to an error is only settled.
type step func(ctx context.Context, old kinds.Object) (*outcome, error)

// written is the end of a transaction.
type written struct {
	// entry is the state written, or the old one where nothing was; nil on a dry run.
	entry *cache.Entry
	// obj is the state at the hub, decoded from what was stored; nil where nobody may want it and it is dear: see object.
	obj     kinds.Object
	created bool
	removed bool
	// revision of the removal; 0 where nothing was removed, or not by this write.
	revision int64
}

// current is the state that a step starts from.
type current struct {
	entry *cache.Entry // nil when absent
	// fresh is set when the state was read from the store for this transaction, so that a refusal based on it is final.
	fresh bool
}

// object is the state at a target's hub.
func (c current) object(t *Target) (kinds.Object, error) {
	if c.entry == nil {
		return nil, nil // Absence is a state.
	}
	return t.loaded(c.entry)
}

// transact changes one key: it reads the state, lets the step compute the next one, and writes it if the key has not changed meanwhile;
// else again. The first try starts from the cache, which may lag; whatever the step refuses on a stale state is tried on a fresh one.
func (e *Engine) transact(ctx context.Context, c *Call, key string, next step) (*written, error) {
	b := c.Target.bound
	state := current{}
	if entry, _, err := b.cache.Get(key); err == nil {
		state.entry = entry
	} else if state, err = e.fresh(ctx, b, key); err != nil {
		return nil, err
	}
	for ctx.Err() == nil {
		old, err := state.object(c.Target)
		if err != nil {
			return nil, err
		}
		out, err := next(ctx, old)
		if err != nil {
			out.settle(false)
			if state.fresh {
				return nil, err
			}
			again, ferr := e.fresh(ctx, b, key)
			if ferr != nil {
				return nil, ferr
			}
			if again.entry != nil && state.entry != nil && again.entry.Revision == state.entry.Revision {
				return nil, err
			}
			state = again
			continue
		}
		result, conflict, err := e.commit(ctx, c, key, state, out)
		out.settle(err == nil && conflict == nil)
		if err != nil {
			return nil, err
		}
		if conflict == nil {
			return result, nil
		}
		state = *conflict
	}
	return nil, ctx.Err()
}

func (e *Engine) fresh(ctx context.Context, b *bound, key string) (current, error) {
	record, _, err := e.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return current{fresh: true}, nil
	}
	if err != nil {
		return current{}, err
	}
	return current{entry: b.cache.Entry(record), fresh: true}, nil
}

// commit carries out an outcome. It returns the state to try again from when the key was changed meanwhile.
func (e *Engine) commit(ctx context.Context, c *Call, key string, state current, out *outcome) (*written, *current, error) {
	b := c.Target.bound
	switch {
	case out.keep:
		obj, err := state.object(c.Target)
		return &written{entry: state.entry, obj: obj}, nil, err
	case out.remove:
		return e.commitRemoval(ctx, c, key, state, out)
	}
	if b.Kind.Storage.Packed && b.Kind.Default != nil {
		b.Kind.Default(out.obj) // What took parts of the old state in place of its own may lack defaults: see trust.
	}
	stored, err := c.Target.save(out.obj)
	if err != nil {
		return nil, nil, err
	}
	data, err := b.encode(stored)
	if err != nil {
		return nil, nil, apierrors.NewInternalError(err)
	}
	opts := store.WriteOptions{TTL: timeToLive(b, out.obj)}
	if state.entry == nil {
		return e.commitCreation(ctx, c, key, data, opts)
	}
	if unchanged, err := e.unchanged(ctx, key, data, &state); err != nil {
		return nil, nil, err
	} else if unchanged {
		if state.fresh || c.dryRun() {
			obj, err := state.object(c.Target)
			return &written{entry: state.entry, obj: obj}, nil, err
		}
		again, err := e.fresh(ctx, b, key)
		if err != nil || again.entry == nil || again.entry.Revision != state.entry.Revision {
			return nil, &again, err
		}
		obj, err := state.object(c.Target)
		return &written{entry: state.entry, obj: obj}, nil, err // Nothing to write: the state is what we thought it is.
	}
	if c.dryRun() {
		obj, err := c.Target.reread(key, data, state.entry.Revision)
		return &written{obj: obj}, nil, err
	}
	revision, err := e.store.Update(ctx, key, data, state.entry.Revision, opts)
	var conflict *store.ConflictError
	switch {
	case errors.As(err, &conflict):
		return nil, &current{entry: b.cache.Entry(conflict.Current), fresh: true}, nil
	case errors.Is(err, store.ErrNotFound):
		return nil, &current{fresh: true}, nil
	case err != nil:
		return nil, nil, writeError(err)
	}
	record := store.Record{Key: key, Value: data, CreateRevision: state.entry.CreateRevision, ModRevision: revision}
	result, err := c.Target.written(record)
	return result, nil, err
}

// unchanged reports whether there is nothing to write: the value is what is stored, and stored as it would be now.
func (e *Engine) unchanged(ctx context.Context, key string, data []byte, state *current) (bool, error) {
	if !bytes.Equal(data, state.entry.Value()) {
		return false, nil
	}
	s, ok := e.store.(store.Rewritable)
	if !ok {
		return true, nil
	}
	stale, err := s.Stale(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil // The write finds out.
	}
	return !stale, err
}

func (e *Engine) commitCreation(ctx context.Context, c *Call, key string, data []byte, opts store.WriteOptions) (*written, *current, error) {
	b := c.Target.bound
	if c.dryRun() {
		obj, err := c.Target.reread(key, data, 0)
		if err == nil {
			obj.SetResourceVersion("")
		}
		return &written{obj: obj, created: true}, nil, err
	}
	revision, err := e.store.Create(ctx, key, data, opts)
	if errors.Is(err, store.ErrExists) {
		again, err := e.fresh(ctx, b, key)
		return nil, &again, err
	}
	if err != nil {
		return nil, nil, writeError(err)
	}
	result, err := c.Target.written(store.Record{Key: key, Value: data, CreateRevision: revision, ModRevision: revision})
	if err == nil {
		result.created = true
	}
	return result, nil, err
}

func (e *Engine) commitRemoval(ctx context.Context, c *Call, key string, state current, out *outcome) (*written, *current, error) {
	if state.entry == nil {
		return nil, nil, apierrors.NewNotFound(c.Target.GVR.GroupResource(), c.Name)
	}
	obj := out.obj
	if obj == nil {
		var err error
		if obj, err = state.object(c.Target); err != nil {
			return nil, nil, err
		}
	}
	if c.dryRun() {
		return &written{obj: obj, removed: true}, nil, nil
	}
	revision, err := e.store.Delete(ctx, key, state.entry.Revision)
	var conflict *store.ConflictError
	switch {
	case errors.As(err, &conflict):
		return nil, &current{entry: c.Target.cache.Entry(conflict.Current), fresh: true}, nil
	case errors.Is(err, store.ErrNotFound):
		return nil, &current{fresh: true}, nil
	case err != nil:
		return nil, nil, writeError(err)
	}
	e.afterRemoval(c.Target.bound, obj)
	return &written{obj: obj, removed: true, revision: revision}, nil, nil
}

// reread is what would be read of bytes if they were stored, at the hub.
func (t *Target) reread(key string, data []byte, revision int64) (kinds.Object, error) {
	obj, err := t.decode(key, data, revision)
	if err != nil {
		return nil, err
	}
	return t.load(obj)
}

func (t *Target) written(r store.Record) (*written, error) {
	w := &written{entry: t.cache.Written(r)}
	if t.Kind.Storage.Packed {
		t.trust(w.entry)
		return w, nil // Who wants to see the object makes it: it is large.
	}
	obj, err := w.entry.Object()
	if t.transcriber != nil {
		t.verdict(w.entry) // While the object is at hand.
	}
	if t.hub() == t.Kind.Storage.GroupVersionKind { // Else it would have to be converted.
		w.obj = obj
	}
	return w, err
}

// object is the object as it is after a write, at the target's hub.
func (w *written) object(t *Target) (kinds.Object, error) {
	if w.obj != nil {
		return w.obj, nil
	}
	return t.loaded(w.entry)
}

func timeToLive(b *bound, obj kinds.Object) time.Duration {
	if b.Kind.TTL == nil {
		return 0
	}
	return b.Kind.TTL(obj)
}

// errTooLarge marks writes that the store refused for their size.
var errTooLarge = errors.New("etcdserver: request is too large")

func writeError(err error) error {
	if errors.Is(err, store.ErrTooLarge) {
		return fmt.Errorf("%w", errTooLarge)
	}
	return err
}

// result answers a write at the call's version.
func (c *Call) result(w *written, code int) (*Result, error) {
	if w.entry != nil {
		return &Result{Code: code, Entry: w.entry}, nil
	}
	obj, err := c.Target.show(w.obj)
	return &Result{Code: code, Object: obj}, err
}
