// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package nodelifecycle

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// How fast pods may be driven off nodes that are not ready, per zone; upstream's defaults.
const (
	evictionPause = 10 * time.Second  // between two nodes of a zone
	slowPause     = 100 * time.Second // the same while most of a large zone is not ready
	largeZone     = 50                // nodes; a smaller zone that is mostly not ready keeps all its pods
	unhealthy     = 0.55              // share of a zone's nodes from which it is mostly not ready
	fewUnready    = 2                 // so many may always be not ready
)

// never is a pause without end.
const never = time.Duration(-1)

// zones counts ready nodes by zone. When most of a zone is not ready, that is more likely a fault of the network or of the
// control plane than of the nodes, and taking their pods away would make it worse.
type zones struct {
	members map[string]member
	counts  map[string]*zone
}

// member is what a node counts as.
type member struct {
	zone  string
	ready bool
}

// zone is one failure domain.
type zone struct {
	ready, unready int
	free           time.Time // when the next node may be tainted
}

func newZones() *zones { return &zones{members: map[string]member{}, counts: map[string]*zone{}} }

// zoneOf names the failure domain of a node.
func zoneOf(node *corev1.Node) string {
	return node.Labels[corev1.LabelTopologyRegion] + "/" + node.Labels[corev1.LabelTopologyZone]
}

// put counts a node. It reports whether the pace of any zone changed.
func (z *zones) put(name string, m member) bool {
	if old, ok := z.members[name]; ok && old == m {
		return false
	}
	return z.change(func() {
		z.remove(name)
		z.members[name] = m
		if z.counts[m.zone] == nil {
			z.counts[m.zone] = &zone{}
		}
		z.counts[m.zone].add(m.ready, 1)
	})
}

// drop forgets a node, and reports like put.
func (z *zones) drop(name string) bool { return z.change(func() { z.remove(name) }) }

func (z *zones) remove(name string) {
	m, ok := z.members[name]
	if !ok {
		return
	}
	delete(z.members, name)
	c := z.counts[m.zone]
	if c.add(m.ready, -1); c.ready+c.unready == 0 {
		delete(z.counts, m.zone)
	}
}

func (c *zone) add(ready bool, n int) {
	if ready {
		c.ready += n
	} else {
		c.unready += n
	}
}

func (z *zones) change(f func()) bool {
	halted, before := z.halted(), map[string]time.Duration{}
	for name, c := range z.counts {
		before[name] = c.pause()
	}
	f()
	if z.halted() != halted {
		return true
	}
	for name, c := range z.counts {
		if old, ok := before[name]; ok && old != c.pause() {
			return true
		}
	}
	return false
}

// halted reports whether no zone has a ready node: then nobody's pods are driven off.
func (z *zones) halted() bool {
	for _, c := range z.counts {
		if c.ready > 0 {
			return false
		}
	}
	return len(z.counts) > 0
}

// pause is how long to wait between two nodes. A zone without any ready node is not spared while others have some.
func (c *zone) pause() time.Duration {
	total := c.ready + c.unready
	if c.ready == 0 || c.unready <= fewUnready || float64(c.unready) < unhealthy*float64(total) {
		return evictionPause
	}
	if total > largeZone {
		return slowPause
	}
	return never
}

// take asks to taint a node of a zone now. If not, it returns how long to wait; never means until the pace changes.
func (z *zones) take(name string, now time.Time) (bool, time.Duration) {
	c := z.counts[name]
	if c == nil {
		return false, never
	}
	pause := c.pause()
	if pause == never {
		return false, never
	}
	if wait := c.free.Sub(now); wait > 0 {
		return false, wait
	}
	c.free = now.Add(pause)
	return true, 0
}
