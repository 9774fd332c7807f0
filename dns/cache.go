// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Limits of the cache of forwarded answers.
const (
	cacheEntries = 10000
	cacheMax     = 30 * time.Second
)

// question is what makes two questions the same.
type question struct {
	name   string // lower case
	qtype  uint16
	do, cd bool
}

func questionOf(m *dns.Msg) question {
	q := question{name: strings.ToLower(m.Question[0].Name), qtype: m.Question[0].Qtype, cd: m.CheckingDisabled}
	if opt := m.IsEdns0(); opt != nil {
		q.do = opt.Do()
	}
	return q
}

// cache keeps answers as long as their records allow, at most cacheMax.
type cache struct {
	mu      sync.Mutex
	entries map[question]entry
}

type entry struct {
	msg    *dns.Msg // immutable
	stored time.Time
	until  time.Time
}

func newCache() *cache { return &cache{entries: map[question]entry{}} }

// get returns a copy of an answer with what is left of its records' lives, or nil.
func (c *cache) get(q question, now time.Time) *dns.Msg {
	c.mu.Lock()
	e, ok := c.entries[q]
	if ok && !now.Before(e.until) {
		delete(c.entries, q)
		ok = false
	}
	c.mu.Unlock()
	if !ok {
		return nil
	}
	m := e.msg.Copy()
	age := uint32(now.Sub(e.stored) / time.Second)
	for _, list := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range list {
			h := rr.Header()
			h.Ttl -= min(h.Ttl, age)
		}
	}
	return m
}

// put keeps an answer, if it may be kept.
func (c *cache) put(q question, m *dns.Msg, now time.Time) {
	life := lifeOf(m)
	if life <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for old := range c.entries {
		if len(c.entries) < cacheEntries {
			break
		}
		delete(c.entries, old) // any: the map's order is random
	}
	c.entries[q] = entry{msg: m, stored: now, until: now.Add(life)}
}

// lifeOf returns how long an answer may be kept. Failures are not kept.
func lifeOf(m *dns.Msg) time.Duration {
	if m.Truncated || m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return 0
	}
	life := cacheMax
	shorten := func(ttl uint32) { life = min(life, time.Duration(ttl)*time.Second) }
	negative := len(m.Answer) == 0
	authority := false
	for _, rr := range m.Ns {
		shorten(rr.Header().Ttl)
		if soa, ok := rr.(*dns.SOA); ok {
			authority = true
			shorten(soa.Minttl)
		}
	}
	if negative && !authority {
		return 0 // nothing says how long the name will be missing
	}
	for _, rr := range m.Answer {
		shorten(rr.Header().Ttl)
	}
	return life
}

// flights lets concurrent askers of one question share one exchange.
type flights struct {
	mu    sync.Mutex
	calls map[question]*flight
}

type flight struct {
	done chan struct{}
	msg  *dns.Msg // valid once done is closed
}

func (f *flights) do(q question, ask func() *dns.Msg) *dns.Msg {
	f.mu.Lock()
	if call := f.calls[q]; call != nil {
		f.mu.Unlock()
		<-call.done
		return call.msg
	}
	call := &flight{done: make(chan struct{})}
	f.calls[q] = call
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.calls, q)
		f.mu.Unlock()
		close(call.done)
	}()
	call.msg = ask()
	return call.msg
}
