// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"kogge.dev/kogge/test/peers/bench/cell"
	"kogge.dev/kogge/test/peers/bench/load"
	"kogge.dev/kogge/test/peers/bench/table"
	"kogge.dev/kogge/test/peers/upstream"
)

const (
	serviceChanges  = 20   // changes of one Service's endpoints, each timed
	serviceConnects = 2000 // connections to any Services, each timed
	backendPort     = 18080
)

// backends are addresses of the cell that answer: two for every Service, and one to change to.
var backends = []string{"192.0.2.11", "192.0.2.12", "192.0.2.13"}

// benchServices measures the Service proxy alone: kogge's and upstream's in turn, in nftables, as clients of the same API server of upstream's.
// With 1,000 and 10,000 Services of two endpoints: from exec to the first, middle and last Service answering; from the write of a change to
// a connection that reaches the new endpoint; connection times. The gate: connections reach both endpoints of a Service and no others.
func benchServices(ctx context.Context, r *round) error {
	s, kubeconfig, err := r.scenery(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	user := s.admin
	answers, err := listen(ctx)
	if err != nil {
		return err
	}
	defer answers.close()
	if err := s.create(ctx, "/api/v1/namespaces", object{"metadata": object{"name": namespace}}); err != nil {
		return err
	}
	if err := s.create(ctx, "/api/v1/nodes", proxyNode()); err != nil {
		return err
	}
	made := 0
	for _, count := range []int{1000, 10_000} {
		if err := makeServices(ctx, user, made, count); err != nil {
			return fmt.Errorf("make %d Services: %w", count, err)
		}
		made = count
		if err := r.proxied(ctx, user, kubeconfig, count); err != nil {
			return fmt.Errorf("%d Services: %w", count, err)
		}
	}
	return nil
}

// listening accepts connections at every backend and answers each with the backend's address.
type listening []net.Listener

func listen(ctx context.Context) (listening, error) {
	var all listening
	for _, address := range backends {
		if err := outside(ctx, "ip", "addr", "add", address+"/32", "dev", cell.Link); err != nil {
			return all, err
		}
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(backendPort)))
		if err != nil {
			return all, err
		}
		all = append(all, l)
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return // closed
				}
				_, _ = conn.Write([]byte(address)) // who hangs up learns nothing
				conn.Close()
			}
		}()
	}
	return all, nil
}

func (l listening) close() {
	for _, one := range l {
		one.Close()
	}
}

// proxyNode is the node that the proxy runs on.
func proxyNode() object {
	return object{
		"metadata": object{"name": cell.Node}, "spec": object{"podCIDR": "10.128.0.0/24", "podCIDRs": []string{"10.128.0.0/24"}},
		"status": object{"addresses": []object{{"type": "InternalIP", "address": cell.Address}}},
	}
}

const (
	servicesPath = "/api/v1/namespaces/" + namespace + "/services"
	slicesPath   = "/apis/discovery.k8s.io/v1/namespaces/" + namespace + "/endpointslices"
)

// clusterIP of the i-th Service.
func clusterIP(i int) string { return fmt.Sprintf("10.96.%d.%d", 1+i/250, 1+i%250) }

func serviceName(i int) string { return fmt.Sprintf("service-%05d", i) }

// makeServices creates Services without selectors, and an EndpointSlice for each.
func makeServices(ctx context.Context, user *load.Client, from, to int) error {
	_, err := user.Run(ctx, 16, 2*(to-from), func(i int) load.Request {
		post := load.Request{Method: "POST", Path: servicesPath, ContentType: load.JSON, Accept: load.Protobuf}
		if n := from + i/2; i%2 == 0 {
			post.Body = encode(object{
				"metadata": object{"name": serviceName(n)},
				"spec":     object{"clusterIP": clusterIP(n), "ports": []object{{"name": "http", "port": 80, "targetPort": backendPort}}},
			})
		} else {
			post.Path, post.Body = slicesPath, encode(slice(n, backends[:2]))
		}
		return post
	}, nil)
	return err
}

// slice lists a Service's endpoints.
func slice(service int, addresses []string) object {
	var endpoints []object
	for _, a := range addresses {
		endpoints = append(endpoints, object{"addresses": []string{a}, "conditions": object{"ready": true}})
	}
	return object{
		"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": endpoints,
		"metadata": object{"name": serviceName(service), "labels": object{"kubernetes.io/service-name": serviceName(service)}},
		"ports":    []object{{"name": "http", "port": backendPort, "protocol": "TCP"}},
	}
}

// How long a connection may take: one of those that find out when a Service answers, and one of a Service that does, which may be held up while
// the proxy changes its tables.
const (
	soon   = 50 * time.Millisecond
	surely = 5 * time.Second
)

// reach connects to a Service and returns which backend answered.
func reach(ctx context.Context, service int, within time.Duration) (string, error) {
	dialer := net.Dialer{Timeout: within}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(clusterIP(service), "80"))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return "", err
	}
	answer := make([]byte, 64)
	n, err := conn.Read(answer)
	return string(answer[:n]), err
}

// proxyCommand is the measured program.
func (r *round) proxyCommand(kubeconfig string) ([]string, error) {
	if r.system == table.Kogge {
		return []string{
			r.kogge, "run", "proxy", "--kubeconfig", kubeconfig, "--data-dir", koggeDir, "--node-name", cell.Node, "--node-ip", cell.Address,
			"--pod-cidr", podRange, "--log-level", "warn",
		}, nil
	}
	path := filepath.Join(cell.Dir, "proxy.yaml")
	return []string{upstream.Binaries(r.peers).Path(upstream.KubeProxy), "--config=" + path},
		writeFile(path, fmt.Sprintf(proxyConfig, kubeconfig, cell.Node))
}

// proxied runs the proxy once and measures it.
func (r *round) proxied(ctx context.Context, user *load.Client, kubeconfig string, count int) (err error) {
	c := fmt.Sprintf("%d Services", count)
	command, err := r.proxyCommand(kubeconfig)
	if err != nil {
		return err
	}
	before, err := cell.CPU()
	if err != nil {
		return err
	}
	program, err := cell.Prepare(cell.Measured, filepath.Join(cell.Dir, fmt.Sprintf("proxy-%d.log", count)), command...)
	if err != nil {
		return err
	}
	proxy := &subject{programs: []*cell.Process{program}}
	// A proxy that ends leaves its rules; without them the next start is cold.
	defer func() {
		proxy.stop()
		err = errors.Join(err, outside(context.WithoutCancel(ctx), "nft", "flush", "ruleset"))
	}()
	started, err := program.Go()
	if err != nil {
		return err
	}
	for _, i := range []int{count - 1, count / 2, 0} {
		if err := proxy.until(ctx, func() error { _, err := reach(ctx, i, soon); return err }); err != nil {
			return err
		}
	}
	took := time.Since(started)
	after, err := cell.CPU()
	if err != nil {
		return err
	}
	r.less(c, "exec to all answering, ms", milliseconds(took))
	r.less(c, "CPU ms for that", milliseconds(after-before))
	if err := pause(ctx, 3*time.Second); err != nil { // what follows a start is over
		return err
	}
	if err := r.changes(ctx, proxy, user, c, count); err != nil {
		return err
	}
	if err := r.connects(ctx, c, count); err != nil {
		return err
	}
	return r.memory(c, "resident MiB")
}

// changes replaces a Service's endpoints by another, back and forth, and measures until a connection tells.
func (r *round) changes(ctx context.Context, proxy *subject, user *load.Client, c string, count int) error {
	var took []time.Duration
	used, err := cell.CPU()
	if err != nil {
		return err
	}
	for i := range serviceChanges {
		service := (i * 37) % count
		for _, to := range [][]string{backends[2:], backends[:2]} {
			put := load.Request{Method: "PUT", Path: slicesPath + "/" + serviceName(service), ContentType: load.JSON, Accept: load.Protobuf, Body: encode(slice(service, to))}
			begin := time.Now()
			if _, err := user.Do(ctx, 0, put); err != nil {
				return err
			}
			err := proxy.until(ctx, func() error {
				answer, err := reach(ctx, service, soon)
				if err == nil && !slices.Contains(to, answer) {
					err = fmt.Errorf("%s answered, want one of %v", answer, to)
				}
				return err
			})
			if err != nil {
				return err
			}
			took = append(took, time.Since(begin))
		}
	}
	after, err := cell.CPU()
	if err != nil {
		return err
	}
	slices.Sort(took)
	r.less(c, "change to packet, median ms", milliseconds(load.Percentile(took, 50)))
	r.less(c, "change to packet, longest ms", milliseconds(took[len(took)-1]))
	r.less(c, "CPU ms per change", milliseconds(after-used)/float64(len(took)))
	return nil
}

// connects times connections, and is the gate.
func (r *round) connects(ctx context.Context, c string, count int) error {
	var took []time.Duration
	seen := map[string]int{}
	for i := range serviceConnects {
		begin := time.Now()
		answer, err := reach(ctx, (i*7919)%count, surely)
		if err != nil {
			return err
		}
		took = append(took, time.Since(begin))
		seen[answer]++
	}
	for _, address := range backends[:2] {
		if seen[address] < serviceConnects/3 {
			return fmt.Errorf("%d of %d connections reached %s", seen[address], serviceConnects, address)
		}
	}
	if seen[backends[0]]+seen[backends[1]] != serviceConnects {
		return errors.New("connections reached an endpoint that the Services don't have")
	}
	slices.Sort(took)
	r.less(c, "connection, median µs", microseconds(load.Percentile(took, 50)))
	r.less(c, "connection, 99 % within µs", microseconds(load.Percentile(took, 99)))
	return nil
}
