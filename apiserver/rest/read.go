// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/cache"
)

// freshWait bounds the wait for a resourceVersion that the cache has not seen.
const freshWait = 3 * time.Second

func (e *Engine) get(ctx context.Context, c *Call) (*Result, error) {
	version := ""
	if c.Get != nil {
		version = c.Get.ResourceVersion
	}
	entry, err := e.read(ctx, c.Target.bound, c.Target.key(c.Namespace, c.Name), version)
	if errors.Is(err, store.ErrNotFound) {
		return nil, apierrors.NewNotFound(c.Target.GVR.GroupResource(), c.Name)
	}
	if err != nil {
		return nil, err
	}
	return &Result{Entry: entry}, nil
}

// read returns one entry: the newest for an empty version, any for "0", else one not older than it.
func (e *Engine) read(ctx context.Context, b *bound, key, version string) (*cache.Entry, error) {
	revision, set, err := parseVersion(version)
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid resource version: %v", err))
	}
	if !set {
		record, _, err := e.store.Get(ctx, key)
		if err != nil {
			return nil, err
		}
		return b.cache.Entry(record), nil
	}
	if err := e.waitFor(ctx, b, revision); err != nil {
		return nil, err
	}
	entry, _, err := b.cache.Get(key)
	return entry, err
}

// waitFor waits until the cache has seen a revision, but not for long.
func (e *Engine) waitFor(ctx context.Context, b *bound, revision int64) error {
	if revision == 0 {
		return nil
	}
	short, cancel := context.WithTimeout(ctx, freshWait)
	defer cancel()
	err := b.cache.WaitFor(short, revision)
	if err != nil && ctx.Err() == nil && short.Err() != nil {
		return tooLarge(revision, b.cache.Revision())
	}
	return err
}

func tooLarge(wanted, have int64) error {
	const text = "Too large resource version"
	err := apierrors.NewTimeoutError(fmt.Sprintf("%s: %d, current: %d", text, wanted, have), 1)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge, Message: text}}
	return err
}

func (e *Engine) list(ctx context.Context, c *Call) (*Result, error) {
	opts, sel, err := c.listed(false)
	if err != nil {
		return nil, err
	}
	page, err := e.page(ctx, c, sel, opts)
	if err != nil {
		return nil, err
	}
	return &Result{Code: http.StatusOK, List: page}, nil
}

// page reads what the options ask for, at the revision that they ask for.
func (e *Engine) page(ctx context.Context, c *Call, sel *selection, opts *metav1.ListOptions) (*List, error) {
	b := c.Target.bound
	read := cache.ListOptions{Prefix: sel.prefix, Limit: int(opts.Limit), Filter: sel.filter()}
	if field := indexField(b.prefix); field != "" {
		read.Index = exact(sel.fields, field)
	}
	switch revision, set, err := parseVersion(opts.ResourceVersion); {
	case opts.Continue != "":
		if err := e.resume(ctx, b, opts, &read); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid resource version: %v", err))
	case !set:
		if _, err := b.cache.Fresh(ctx); err != nil {
			return nil, err
		}
	case opts.ResourceVersionMatch == metav1.ResourceVersionMatchExact,
		opts.ResourceVersionMatch == "" && opts.Limit > 0 && revision > 0: // pages were of exactly this version before there was a word for it
		if err := e.waitFor(ctx, b, revision); err != nil {
			return nil, err
		}
		read.Revision = revision
	default:
		if err := e.waitFor(ctx, b, revision); err != nil {
			return nil, err
		}
		if revision == 0 {
			read.Limit = 0 // As upstream: any version means from memory, whole.
		}
	}
	if sel.key != "" && read.Revision == 0 {
		return one(b, sel, read)
	}
	got, err := b.cache.List(ctx, read)
	if errors.Is(err, store.ErrCompacted) {
		return nil, e.expired(opts, read, sel)
	}
	if err != nil {
		return nil, err
	}
	out := &List{Entries: got.Entries, Revision: got.Revision}
	if got.Next != "" {
		out.Continue = token{APIVersion: tokenVersion, Revision: got.Revision, Start: got.Next[len(sel.prefix):]}.encode()
		if got.Remaining >= 0 && sel.everything {
			out.Remaining = &got.Remaining
		}
	}
	return out, nil
}

// one lists the only object that can match.
func one(b *bound, sel *selection, read cache.ListOptions) (*List, error) {
	entry, revision, err := b.cache.Get(sel.key)
	out := &List{Revision: revision}
	if errors.Is(err, store.ErrNotFound) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	if read.Filter(entry) && sel.key >= read.From {
		out.Entries = []*cache.Entry{entry}
	}
	return out, nil
}

// resume sets read to go on where a token says. The token is looked at before the version beside it, and that before anything is waited for.
func (e *Engine) resume(ctx context.Context, b *bound, opts *metav1.ListOptions, read *cache.ListOptions) error {
	t, err := decodeToken(opts.Continue)
	switch {
	case err != nil:
		return apierrors.NewBadRequest(fmt.Sprintf("invalid continue token: %v", err))
	case opts.ResourceVersion != "" && opts.ResourceVersion != "0":
		return apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
	case opts.ResourceVersion == "0" && t.Revision < 0:
		read.Limit = 0 // As upstream: any version means from memory, whole.
	}
	read.From = read.Prefix + t.Start
	if t.Revision < 0 {
		_, err := b.cache.Fresh(ctx)
		return err
	}
	if err := e.waitFor(ctx, b, t.Revision); err != nil {
		return err
	}
	read.Revision = t.Revision
	return nil
}

// expired is the answer when the revision of a list is gone. A continued list may go on inconsistently.
func (e *Engine) expired(opts *metav1.ListOptions, read cache.ListOptions, sel *selection) error {
	if opts.Continue == "" {
		return apierrors.NewResourceExpired("The resourceVersion for the provided list is too old.")
	}
	err := apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result. " +
		"You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. " +
		"Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted " +
		"between the time the first chunk was returned and now may show up in the list.")
	err.ErrStatus.Continue = token{APIVersion: tokenVersion, Revision: inconsistent, Start: read.From[len(sel.prefix):]}.encode()
	return err
}
