// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"

	"kogge.dev/kogge/test/peers/bench/cell"
	"kogge.dev/kogge/test/peers/bench/load"
	"kogge.dev/kogge/test/peers/bench/table"
	"kogge.dev/kogge/test/peers/upstream"
)

const (
	nameServices = 1000
	// nameWorkers ask at a time, each its next question when the last is answered.
	nameWorkers = 8
	nameTime    = 4 * time.Second
	nameServer  = "10.96.0.10"
)

// question is one that is encoded before the clock starts, and what its answer must say.
type question struct {
	packed []byte
	rcode  int
	// address that the answer must hold; none is not looked for.
	address netip.Addr
}

// benchNames measures DNS alone: kogge's and CoreDNS in turn, as clients of the same API server of upstream's, asked over UDP for names of
// 1,000 Services. The gate: each answer has its question's number and the right code, and one in 64 is decoded and must hold the address.
func benchNames(ctx context.Context, r *round) error {
	s, kubeconfig, err := r.scenery(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	if err := outside(ctx, "ip", "addr", "add", nameServer+"/32", "dev", "lo"); err != nil {
		return err
	}
	if err := s.create(ctx, "/api/v1/namespaces", object{"metadata": object{"name": namespace}}); err != nil {
		return err
	}
	if err := makeServices(ctx, s.admin, 0, nameServices); err != nil {
		return err
	}
	command, err := r.namesCommand(kubeconfig)
	if err != nil {
		return err
	}
	program, err := cell.Prepare(cell.Measured, filepath.Join(cell.Dir, "dns.log"), command...)
	if err != nil {
		return err
	}
	server := &subject{programs: []*cell.Process{program}}
	defer server.stop()
	started, err := program.Go()
	if err != nil {
		return err
	}
	first := []question{ask(serviceName(nameServices-1)+"."+namespace+".svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, clusterIP(nameServices-1))}
	if err := server.until(ctx, func() error { _, err := questions(ctx, time.Millisecond, 1, first); return err }); err != nil {
		return err
	}
	r.less("1,000 Services", "exec to the first answer, ms", milliseconds(time.Since(started)))
	for _, kind := range namesAsked() {
		if err := r.askFor(ctx, kind.name, kind.questions); err != nil {
			return fmt.Errorf("%s: %w", kind.name, err)
		}
	}
	return r.memory("1,000 Services", "resident MiB after")
}

// namesAsked are the kinds of questions: what a pod asks for a Service, what it asks in vain on the way through its search path, and ports.
func namesAsked() []struct {
	name      string
	questions []question
} {
	var plain, missing, ports []question
	for i := range nameServices {
		name := serviceName(i) + "." + namespace + ".svc.cluster.local."
		plain = append(plain, ask(name, dns.TypeA, dns.RcodeSuccess, clusterIP(i)))
		missing = append(missing, ask(serviceName(i)+".example.com."+namespace+".svc.cluster.local.", dns.TypeA, dns.RcodeNameError, ""))
		ports = append(ports, ask("_http._tcp."+name, dns.TypeSRV, dns.RcodeSuccess, ""))
	}
	return []struct {
		name      string
		questions []question
	}{{"address of a Service", plain}, {"name that is not there", missing}, {"port of a Service", ports}}
}

func ask(name string, kind uint16, rcode int, address string) question {
	m := new(dns.Msg)
	m.SetQuestion(name, kind)
	packed, err := m.Pack()
	if err != nil {
		panic(fmt.Sprintf("pack question for %s: %v", name, err))
	}
	q := question{packed: packed, rcode: rcode}
	if address != "" {
		q.address = netip.MustParseAddr(address)
	}
	return q
}

func (r *round) askFor(ctx context.Context, c string, list []question) error {
	used, err := cell.CPU()
	if err != nil {
		return err
	}
	begin := time.Now()
	times, err := questions(ctx, nameTime, nameWorkers, list)
	if err != nil {
		return err
	}
	took := time.Since(begin)
	after, err := cell.CPU()
	if err != nil {
		return err
	}
	r.more(c, "questions per second", float64(len(times))/took.Seconds())
	r.less(c, "median µs", microseconds(load.Percentile(times, 50)))
	r.less(c, "99 % within µs", microseconds(load.Percentile(times, 99)))
	r.less(c, "CPU µs each", microseconds(after-used)/float64(len(times)))
	return nil
}

// questions asks from so many workers for a while, at least once each, and returns the sorted times.
func questions(ctx context.Context, d time.Duration, workers int, list []question) ([]time.Duration, error) {
	times, errs := make([][]time.Duration, workers), make([]error, workers)
	var group sync.WaitGroup
	end := time.Now().Add(d)
	for w := range workers {
		group.Go(func() { times[w], errs[w] = askUntil(ctx, end, w, workers, list) })
	}
	group.Wait()
	all := slices.Concat(times...)
	slices.Sort(all)
	return all, errors.Join(errs...)
}

func askUntil(ctx context.Context, end time.Time, worker, step int, list []question) ([]time.Duration, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "udp", net.JoinHostPort(nameServer, "53"))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var times []time.Duration
	out, in := make([]byte, 512), make([]byte, 1500)
	for i := worker; ; i += step {
		q := list[i%len(list)]
		id := uint16(i)
		binary.BigEndian.PutUint16(out, id)
		begin := time.Now()
		if err := conn.SetDeadline(begin.Add(2 * time.Second)); err != nil {
			return nil, err
		}
		if _, err := conn.Write(append(out[:2], q.packed[2:]...)); err != nil {
			return nil, err
		}
		n, err := conn.Read(in)
		if err != nil {
			return nil, err
		}
		now := time.Now()
		times = append(times, now.Sub(begin))
		if err := q.check(in[:n], id, len(times)%64 == 1); err != nil {
			return nil, err
		}
		if now.After(end) {
			return times, nil
		}
	}
}

// check looks at an answer's header, and when asked, at the rest.
func (q *question) check(answer []byte, id uint16, whole bool) error {
	if len(answer) < 12 || binary.BigEndian.Uint16(answer) != id || int(answer[3]&0xf) != q.rcode {
		return fmt.Errorf("an answer that begins with %x is not for the question that begins with %x", answer[:min(12, len(answer))], q.packed[:12])
	}
	if !whole {
		return nil
	}
	m := new(dns.Msg)
	if err := m.Unpack(answer); err != nil {
		return err
	}
	if q.rcode != dns.RcodeSuccess {
		return nil
	}
	if len(m.Answer) == 0 {
		return fmt.Errorf("no answer in %v", m)
	}
	if a, ok := m.Answer[0].(*dns.A); q.address.IsValid() && (!ok || a.A.String() != q.address.String()) {
		return fmt.Errorf("wrong answer %v, want %v", m.Answer, q.address)
	}
	return nil
}

// namesCommand is the measured program.
func (r *round) namesCommand(kubeconfig string) ([]string, error) {
	if r.system == table.Kogge {
		return []string{
			r.kogge, "run", "dns", "--kubeconfig", kubeconfig, "--data-dir", koggeDir, "--node-name", cell.Node, "--node-ip", cell.Address, "--log-level", "warn",
		}, nil
	}
	path := filepath.Join(cell.Dir, "Corefile")
	return []string{upstream.Binaries(r.peers).Path(upstream.CoreDNS), "-conf", path}, writeFile(path, fmt.Sprintf(corefile, kubeconfig))
}

// corefile is kubeadm's, without what a benchmark has no use for: forwarding, reloading, health checks.
const corefile = `.:53 {
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig %s
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    cache 30
    loadbalance
}
`
