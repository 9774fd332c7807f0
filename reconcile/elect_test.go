// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds/catalog"
)

// oneLease is an API server with room for one lease.
type oneLease struct {
	client.Backend // no other call is made

	mu      sync.Mutex
	lease   *coordinationv1.Lease
	version int
	calls   []string // verb and second since the start of those that changed or asked for something
	began   time.Time
	down    bool
}

func (b *oneLease) Do(_ context.Context, req *client.Request) (*client.Result, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, string(req.Verb)+" "+strconv.Itoa(int(time.Since(b.began).Seconds())))
	gr := req.Resource.GroupResource()
	switch {
	case b.down:
		return nil, errors.New("no answer")
	case req.Verb != client.Create && b.lease == nil:
		return nil, apierrors.NewNotFound(gr, "l")
	case req.Verb == client.Get:
		return &client.Result{Object: b.lease}, nil
	}
	sent := req.Object.(*coordinationv1.Lease)
	if req.Verb == client.Update && sent.ResourceVersion != b.lease.ResourceVersion {
		return nil, apierrors.NewConflict(gr, "l", errors.New("changed"))
	}
	b.writeLocked(sent)
	return &client.Result{Object: b.lease}, nil
}

// touch writes the lease as it is, in the name of somebody else.
func (b *oneLease) touch() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writeLocked(b.lease)
}

// fall ends all answers.
func (b *oneLease) fall() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = true
}

// writeLocked stores a lease as a new revision.
func (b *oneLease) writeLocked(lease *coordinationv1.Lease) {
	b.version++
	b.lease = lease.DeepCopy()
	b.lease.ResourceVersion = strconv.Itoa(b.version)
}

// stand runs an election for d and returns its outcome.
func stand(t *testing.T, b *oneLease, d time.Duration, during func()) error {
	t.Helper()
	b.began = time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	go during()
	return Elect(ctx, ElectConfig{Client: client.New(b, catalog.New()), Log: quiet(), Namespace: "n", Name: "l", Identity: "me"}, func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	})
}

func TestLeaderRenewsWithoutReadingAtCommonMoments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(3 * time.Second) // since a multiple of the period
		b := &oneLease{}
		if err := stand(t, b, 13*time.Second, func() {}); err != nil {
			t.Fatal(err)
		}
		want := []string{"get 0", "create 0", "update 2", "update 7", "update 12", "get 13", "update 13"}
		if !slices.Equal(b.calls, want) {
			t.Errorf("calls = %q, want %q", b.calls, want)
		}
		if holder := *b.lease.Spec.HolderIdentity; holder != "" {
			t.Errorf("holder after the end = %q, want none", holder)
		}
	})
}

func TestLeaderReadsAgainAfterAConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &oneLease{}
		err := stand(t, b, 9*time.Second, func() {
			time.Sleep(time.Second)
			b.touch()
		})
		want := []string{"get 0", "create 0", "update 5", "get 7", "update 7", "get 9", "update 9"}
		if err != nil || !slices.Equal(b.calls, want) {
			t.Errorf("calls = %q, %v, want %q", b.calls, err, want)
		}
	})
}

func TestLeaderStepsDownBeforeItsLeaseMayBeTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &oneLease{}
		err := stand(t, b, time.Minute, func() {
			time.Sleep(time.Second)
			b.fall()
		})
		if after := time.Since(b.began); !errors.Is(err, ErrLostLease) || after < renewDeadline || after >= leaseDuration {
			t.Errorf("Elect = %v after %v, want ErrLostLease between %v and %v", err, after, renewDeadline, leaseDuration)
		}
	})
}
