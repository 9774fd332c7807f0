// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// A lease is shared by the keys written within a twentieth of its time to live, but a minute at most, and by leaseKeys keys at
// most: etcd revokes a lease with all of its keys in one go. It is granted for so much longer, so that the last key
// lives long enough. (Events, the only keys of this kind in number, live for an hour.)
const (
	leaseShare = 20
	leaseMax   = time.Minute
	leaseKeys  = 1000
)

// lease is one that can still be given out.
type lease struct {
	id    clientv3.LeaseID
	until time.Time
	keys  int
}

// leases hands out shared leases.
type leases struct {
	client *clientv3.Client

	mu sync.Mutex
	// current by time to live in seconds.
	current map[int64]lease
}

// get returns a lease of at least ttl. Two callers may grant one each at the same time; then the later is shared on.
func (l *leases) get(ctx context.Context, ttl time.Duration) (clientv3.LeaseID, error) {
	key := seconds(ttl)
	now := time.Now()
	l.mu.Lock()
	if c, ok := l.current[key]; ok && c.keys < leaseKeys && now.Before(c.until) {
		c.keys++
		l.current[key] = c
		l.mu.Unlock()
		return c.id, nil
	}
	l.mu.Unlock()
	// Whole seconds: a lease too short to be shared for one is not shared.
	window := min(time.Duration(key)*time.Second/leaseShare, leaseMax).Truncate(time.Second)
	resp, err := l.client.Grant(ctx, key+seconds(window))
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current[key] = lease{id: resp.ID, until: now.Add(window), keys: 1}
	return resp.ID, nil
}

// forget drops a lease that etcd knows no more.
func (l *leases) forget(id clientv3.LeaseID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, c := range l.current {
		if c.id == id {
			delete(l.current, key)
		}
	}
}
