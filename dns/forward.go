// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Limits of forwarding.
const (
	upstreamTimeout = 2 * time.Second
	// maxForwards bounds how many questions wait for upstreams at once; more fail at once, so that a dead upstream can't use up memory.
	maxForwards = 1000
	// lookEvery is how often the resolver file is looked at, while questions come.
	lookEvery = 5 * time.Second
	// restAfter is how long an upstream that did not answer is asked last.
	restAfter = 5 * time.Second
)

// forwarder asks other servers.
type forwarder struct {
	log     *slog.Logger
	metrics *metrics
	cache   *cache
	own     []netip.AddrPort
	file    string // empty if the upstreams are fixed
	slots   chan struct{}
	nonce   string // label that only our own loop probes carry
	looping atomic.Bool
	flights flights

	mu      sync.Mutex
	servers []*upstream
	looked  time.Time
	read    os.FileInfo
	changed chan struct{} // capacity 1: the list of upstreams changed
}

// upstream is one server.
type upstream struct {
	addr   string
	failed atomic.Int64 // Unix nanoseconds of the last failure, 0 if the last exchange succeeded
}

func newForwarder(config Config, own []netip.AddrPort, m *metrics) (*forwarder, error) {
	random := make([]byte, 8)
	if _, err := rand.Read(random); err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	f := &forwarder{
		log: config.Log, metrics: m, cache: newCache(), own: own, file: config.ResolvConf, slots: make(chan struct{}, maxForwards),
		nonce: "loop-" + hex.EncodeToString(random), changed: make(chan struct{}, 1), flights: flights{calls: map[question]*flight{}},
	}
	if len(config.Upstreams) > 0 {
		f.file = ""
		f.servers = f.usable(config.Upstreams)
		f.changed <- struct{}{}
	}
	return f, nil
}

// usable drops this server's own addresses from a list of upstreams.
func (f *forwarder) usable(list []string) []*upstream {
	var out []*upstream
	for _, text := range list {
		at, err := netip.ParseAddrPort(text)
		if err != nil {
			f.log.Warn("upstream name server skipped", "address", text, "err", err)
			continue
		}
		if f.isOwn(at) {
			f.log.Warn("upstream name server skipped: it is this server", "address", text)
			continue
		}
		out = append(out, &upstream{addr: at.String()})
	}
	return out
}

func (f *forwarder) isOwn(at netip.AddrPort) bool {
	for _, o := range f.own {
		if o.Port() == at.Port() && (o.Addr() == at.Addr() || o.Addr().IsUnspecified() && at.Addr().IsLoopback()) {
			return true
		}
	}
	return false
}

// list returns the upstreams in the order to ask, having looked at the file if that is due.
func (f *forwarder) list() []*upstream {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file != "" && (f.looked.IsZero() || time.Since(f.looked) >= lookEvery) {
		f.looked = time.Now()
		f.reloadLocked()
	}
	var fit, resting []*upstream
	for _, u := range f.servers {
		if at := u.failed.Load(); at != 0 && time.Since(time.Unix(0, at)) < restAfter {
			resting = append(resting, u)
			continue
		}
		fit = append(fit, u)
	}
	return append(fit, resting...)
}

func (f *forwarder) reloadLocked() {
	info, err := os.Stat(f.file)
	if err != nil {
		f.servers, f.read = nil, nil
		return
	}
	if f.read != nil && info.ModTime().Equal(f.read.ModTime()) && info.Size() == f.read.Size() && os.SameFile(info, f.read) {
		return
	}
	config, err := dns.ClientConfigFromFile(f.file)
	if err != nil {
		f.log.Warn("resolver file not read", "file", f.file, "err", err)
		return
	}
	f.read = info
	var list []string
	for _, server := range config.Servers {
		list = append(list, net.JoinHostPort(server, config.Port))
	}
	f.servers = f.usable(list)
	f.looping.Store(false)
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// respond answers a question from the cache or from upstream.
func (f *forwarder) respond(ctx context.Context, req *dns.Msg) *dns.Msg {
	resp := new(dns.Msg)
	resp.SetReply(req)
	if f.sawProbe(req.Question[0].Name) {
		resp.Rcode = dns.RcodeRefused
		return resp
	}
	found := f.resolve(ctx, req)
	if found == nil {
		resp.Rcode = dns.RcodeServerFailure
		if len(f.list()) == 0 {
			resp.Rcode = dns.RcodeRefused
		}
		return resp
	}
	resp.Rcode = found.Rcode
	resp.RecursionAvailable, resp.AuthenticatedData, resp.CheckingDisabled = true, found.AuthenticatedData, req.CheckingDisabled
	resp.Answer, resp.Ns, resp.Extra = found.Answer, found.Ns, found.Extra
	return resp
}

// chase resolves a name on behalf of an alias; it returns nothing if that fails.
func (f *forwarder) chase(ctx context.Context, name string, qtype uint16) []dns.RR {
	req := new(dns.Msg)
	req.SetQuestion(name, qtype)
	if found := f.resolve(ctx, req); found != nil {
		return found.Answer
	}
	return nil
}

// resolve returns what upstream says, without the EDNS record, or nil. The message is the caller's own.
func (f *forwarder) resolve(ctx context.Context, req *dns.Msg) *dns.Msg {
	q := questionOf(req)
	now := time.Now()
	if m := f.cache.get(q, now); m != nil {
		f.metrics.cacheHits.Inc()
		return m
	}
	f.metrics.cacheMisses.Inc()
	m := f.flights.do(q, func() *dns.Msg {
		m := f.ask(ctx, req)
		if m != nil {
			f.cache.put(q, m, time.Now())
		}
		return m
	})
	if m == nil {
		return nil
	}
	return m.Copy()
}

// ask tries the upstreams in turn.
func (f *forwarder) ask(ctx context.Context, req *dns.Msg) *dns.Msg {
	servers := f.list()
	if len(servers) == 0 || f.looping.Load() {
		return nil
	}
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		return nil
	}
	out := new(dns.Msg)
	out.SetQuestion(req.Question[0].Name, req.Question[0].Qtype)
	out.Id = dns.Id()
	out.CheckingDisabled = req.CheckingDisabled
	do := false
	if opt := req.IsEdns0(); opt != nil {
		do = opt.Do()
	}
	out.SetEdns0(maxUDP, do)
	var last *dns.Msg
	for _, u := range servers {
		m, err := exchange(ctx, u.addr, out)
		if err != nil {
			u.failed.Store(time.Now().UnixNano())
			f.metrics.upstreamFailures.Inc()
			f.log.Debug("upstream name server did not answer", "address", u.addr, "err", err)
			continue
		}
		u.failed.Store(0)
		last = m
		if m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError {
			break
		}
	}
	if last != nil {
		last.Extra = withoutOPT(last.Extra)
	}
	return last
}

func withoutOPT(list []dns.RR) []dns.RR {
	out := list[:0]
	for _, rr := range list {
		if rr.Header().Rrtype != dns.TypeOPT {
			out = append(out, rr)
		}
	}
	return out
}

// exchange asks over UDP, and over TCP when the answer did not fit.
func exchange(ctx context.Context, addr string, m *dns.Msg) (*dns.Msg, error) {
	client := dns.Client{Timeout: upstreamTimeout, UDPSize: maxUDP}
	resp, _, err := client.ExchangeContext(ctx, m, addr)
	if err == nil && !resp.Truncated {
		return resp, check(m, resp)
	}
	if err != nil && resp == nil {
		return nil, err
	}
	client.Net = "tcp"
	resp, _, err = client.ExchangeContext(ctx, m, addr)
	if err != nil {
		return nil, err
	}
	return resp, check(m, resp)
}

// check refuses answers to other questions.
func check(m, resp *dns.Msg) error {
	if len(resp.Question) != 1 || !strings.EqualFold(resp.Question[0].Name, m.Question[0].Name) || resp.Question[0].Qtype != m.Question[0].Qtype {
		return fmt.Errorf("answer is to another question")
	}
	return nil
}

// watchLoops sends a question that only this server would recognise to each new list of upstreams. If it comes back as a question,
// they lead here, and forwarding stops until the list changes.
func (f *forwarder) watchLoops(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.changed:
		}
		probe := new(dns.Msg)
		probe.SetQuestion(f.nonce+".invalid.", dns.TypeHINFO)
		f.mu.Lock()
		servers := f.servers
		f.mu.Unlock()
		for _, u := range servers {
			// The answer does not matter, nor whether there is one.
			_, _ = exchange(ctx, u.addr, probe)
		}
	}
}

// sawProbe notices our own probe coming back.
func (f *forwarder) sawProbe(name string) bool {
	if !strings.HasPrefix(strings.ToLower(name), f.nonce) {
		return false
	}
	if !f.looping.Swap(true) {
		f.log.Error("upstream name servers lead back to this server; questions outside the cluster are refused until they change")
	}
	return true
}
