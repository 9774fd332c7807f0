// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"kogge.dev/kogge/cri/containerd/embedded"
	"kogge.dev/kogge/hostnet"
	"kogge.dev/kogge/internal/need"
	"kogge.dev/kogge/ledger"
)

// machine is a node in namespaces of its own, with a neighbour outside of it:
//
//	outside 192.0.2.2 -- 192.0.2.1 node (kogge0 10.244.1.1) -- pods
type machine struct {
	*Server

	t       *testing.T
	dir     string
	node    string // path of the node's namespace
	outside *hostnet.Namespace
	ledger  *ledger.Ledger
	conf    *libcni.NetworkConfigList
	plugin  *libcni.CNIConfig
	stop    func()
}

const (
	nodeIP    = "192.0.2.1"
	outsideIP = "192.0.2.2"
)

func newMachine(t *testing.T, podCIDRs ...string) *machine {
	t.Helper()
	need.Root(t, "network namespaces are made")
	need.No(t, "helper programs", embedded.Check())
	dir, err := os.MkdirTemp("/tmp", "kogge-rt-cni-") //nolint:usetesting // Unix sockets lie in it: its path must be short.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	m := &machine{t: t, dir: dir}
	m.node = m.namespace("node")
	outside := m.namespace("outside")
	m.outside = m.open(outside)
	m.wire(outside)
	m.ledger, err = ledger.Open(ledger.Config{Path: filepath.Join(dir, "ledger"), NetNS: m.node})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(m.ledger.Undo(context.Background()), m.ledger.Close()); err != nil {
			t.Errorf("undo: %v", err)
		}
	})
	m.start(podCIDRs...)
	return m
}

// namespace makes a namespace that goes with the test.
func (m *machine) namespace(name string) string {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	if err := hostnet.CreateNamespace(path); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		if err := hostnet.RemoveNamespace(path); err != nil {
			m.t.Error(err)
		}
	})
	return path
}

func (m *machine) open(path string) *hostnet.Namespace {
	m.t.Helper()
	ns, err := hostnet.Open(path)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = ns.Close() })
	return ns
}

// wire connects the node with the outside, which is its default route but knows no pods.
func (m *machine) wire(outside string) {
	m.t.Helper()
	for _, side := range []struct{ ns, link, address, gateway string }{
		{m.node, "up0", nodeIP + "/24", outsideIP}, {outside, "down0", outsideIP + "/24", ""},
	} {
		host, err := hostnet.New(side.ns)
		if err != nil {
			m.t.Fatal(err)
		}
		if side.ns == m.node {
			if err := host.CreateVeth(hostnet.Veth{Name: side.link, PeerName: "down0", Peer: m.outside}); err != nil {
				m.t.Fatal(err)
			}
		}
		for _, err := range []error{
			host.SetUp(side.link), host.SetUp("lo"), host.EnsureAddress(side.link, netip.MustParsePrefix(side.address)),
		} {
			if err != nil {
				m.t.Fatal(err)
			}
		}
		if side.gateway != "" {
			route := hostnet.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr(side.gateway), Dev: side.link}
			if err := host.EnsureRoute(route); err != nil {
				m.t.Fatal(err)
			}
		}
		if err := host.Close(); err != nil {
			m.t.Fatal(err)
		}
	}
}

// serverConfig is what each server of the machine is made from.
func (m *machine) serverConfig() Config {
	return Config{
		DataDir: filepath.Join(m.dir, "data"), Socket: filepath.Join(m.dir, "cni.sock"), ConfDir: filepath.Join(m.dir, "net.d"),
		BinDir: filepath.Join(m.dir, "bin"), NetNS: m.node, Ledger: m.ledger,
		ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, Logger: slog.New(slog.NewTextHandler(m.t.Output(), nil)),
	}
}

// start runs the server and configures it.
func (m *machine) start(podCIDRs ...string) {
	m.t.Helper()
	server, err := New(m.serverConfig())
	if err != nil {
		m.t.Fatal(err)
	}
	m.Server = server
	ctx, cancel := context.WithCancel(m.t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	stopped := false
	m.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-done; err != nil {
				m.t.Errorf("Run: %v", err)
			}
		}
	}
	m.t.Cleanup(m.stop)
	var prefixes []netip.Prefix
	for _, c := range podCIDRs {
		prefixes = append(prefixes, netip.MustParsePrefix(c))
	}
	if err := server.Configure(ctx, prefixes); err != nil {
		m.t.Fatal(err)
	}
	m.conf, err = libcni.ConfListFromFile(filepath.Join(m.dir, "net.d", confFile))
	if err != nil {
		m.t.Fatal(err)
	}
	m.plugin = libcni.NewCNIConfigWithCacheDir([]string{filepath.Join(m.dir, "bin")}, filepath.Join(m.dir, "cache"), nil)
}

// runtimeConf describes a pod to the plugin.
func (m *machine) runtimeConf(name string, ports ...portMapping) *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{
		ContainerID: name, NetNS: filepath.Join(m.dir, "pod-"+name), IfName: "eth0",
		Args: [][2]string{{"K8S_POD_NAMESPACE", "test"}, {"K8S_POD_NAME", name}},
	}
	if len(ports) > 0 {
		rt.CapabilityArgs = map[string]any{"portMappings": ports}
	}
	return rt
}

// pod is a namespace attached to the network.
type pod struct {
	ns *hostnet.Namespace
	ip []netip.Addr
	rt *libcni.RuntimeConf
}

func (m *machine) pod(name string, ports ...portMapping) pod {
	m.t.Helper()
	rt := m.runtimeConf(name, ports...)
	p := pod{rt: rt, ns: m.open(m.namespace("pod-" + name))}
	p.ip = m.add(rt)
	return p
}

// add runs ADD and returns the addresses of its result.
func (m *machine) add(rt *libcni.RuntimeConf) []netip.Addr {
	m.t.Helper()
	r, err := m.plugin.AddNetworkList(m.t.Context(), m.conf, rt)
	if err != nil {
		m.t.Fatalf("ADD %s: %v", rt.ContainerID, err)
	}
	result, err := types100.NewResultFromResult(r)
	if err != nil {
		m.t.Fatal(err)
	}
	var out []netip.Addr
	for _, ip := range result.IPs {
		addr, _ := netip.AddrFromSlice(ip.Address.IP)
		out = append(out, addr.Unmap())
	}
	return out
}

// listen serves in a namespace; each client is told its own address as the server sees it.
func (m *machine) listen(ns *hostnet.Namespace, address string) {
	m.t.Helper()
	var l net.Listener
	err := ns.Do(func() (err error) {
		l, err = (&net.ListenConfig{}).Listen(m.t.Context(), "tcp", address)
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
			_, _ = fmt.Fprintln(conn, host)
			_ = conn.Close()
		}
	}()
}

// ask connects from a namespace and returns how the server saw the client.
func (m *machine) ask(ns *hostnet.Namespace, address string) (string, error) {
	var answer string
	err := ns.Do(func() error {
		conn, err := (&net.Dialer{Timeout: 3 * time.Second}).DialContext(m.t.Context(), "tcp", address)
		if err != nil {
			return err
		}
		defer conn.Close()
		answer, err = bufio.NewReader(conn).ReadString('\n')
		return err
	})
	return strings.TrimSpace(answer), err
}

func (m *machine) mustSee(what string, ns *hostnet.Namespace, address, want string) {
	m.t.Helper()
	if got, err := m.ask(ns, address); err != nil || got != want {
		m.t.Errorf("%s: %s was seen as %q, %v, want %s", what, address, got, err, want)
	}
}

func TestPodsReachEachOtherTheHostAndTheOutside(t *testing.T) {
	m := newMachine(t, "10.244.1.0/24", "fd00:1::/64")
	a, b := m.pod("a"), m.pod("b")
	if a.ip[0].String() != "10.244.1.2" || b.ip[1].String() != "fd00:1::3" {
		t.Fatalf("addresses are %v and %v", a.ip, b.ip)
	}
	node := m.open(m.node)
	m.listen(b.ns, ":80")
	m.listen(node, ":81")
	m.listen(m.outside, ":82")
	m.mustSee("pod to pod", a.ns, "10.244.1.3:80", "10.244.1.2")
	m.mustSee("pod to pod, IPv6", a.ns, "[fd00:1::3]:80", "fd00:1::2")
	m.mustSee("pod to itself", b.ns, "10.244.1.3:80", "10.244.1.3")
	m.mustSee("host to pod", node, "10.244.1.3:80", "10.244.1.1")
	m.mustSee("pod to host", a.ns, nodeIP+":81", "10.244.1.2")
	m.mustSee("pod to the outside", a.ns, outsideIP+":82", nodeIP)
	if err := m.plugin.CheckNetworkList(t.Context(), m.conf, a.rt); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	if err := m.plugin.GetStatusNetworkList(t.Context(), m.conf); err != nil {
		t.Errorf("STATUS: %v", err)
	}
}

func TestHostPortsAnswerFromEverywhere(t *testing.T) {
	m := newMachine(t, "10.244.1.0/24")
	server := m.pod("server", portMapping{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"},
		portMapping{HostPort: 8081, ContainerPort: 80, Protocol: "TCP", HostIP: nodeIP})
	client := m.pod("client")
	node := m.open(m.node)
	m.listen(server.ns, ":80")
	m.mustSee("outside", m.outside, nodeIP+":8080", outsideIP)
	m.mustSee("outside, one address", m.outside, nodeIP+":8081", outsideIP)
	m.mustSee("host", node, nodeIP+":8080", nodeIP)
	m.mustSee("host by loopback", node, "127.0.0.1:8080", "10.244.1.1")
	m.mustSee("other pod", client.ns, nodeIP+":8080", "10.244.1.1")
	m.mustSee("pod itself", server.ns, nodeIP+":8080", "10.244.1.1")
	if got, err := m.ask(node, "127.0.0.1:8081"); err == nil {
		t.Errorf("port of another address answered %q", got)
	}
	if _, err := m.plugin.AddNetworkList(t.Context(), m.conf, m.runtimeConf("thief", portMapping{HostPort: 8080, ContainerPort: 1, Protocol: "tcp"})); err == nil || !strings.Contains(err.Error(), "taken by pod test/server") {
		t.Errorf("ADD with a taken port: %v, want who has it", err)
	}
	for range 2 {
		if err := m.plugin.DelNetworkList(t.Context(), m.conf, server.rt); err != nil {
			t.Fatalf("DEL: %v", err)
		}
	}
	if got, err := m.ask(m.outside, nodeIP+":8080"); err == nil {
		t.Errorf("after DEL the port answered %q", got)
	}
}

// TestRestartKeepsAddressesAndPorts stops the server under its pods: they stay connected, and the next server knows them.
func TestRestartKeepsAddressesAndPorts(t *testing.T) {
	m := newMachine(t, "10.244.1.0/24")
	a := m.pod("a", portMapping{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"})
	gone := m.pod("gone")
	m.listen(a.ns, ":80")
	m.stop()
	// A pod whose namespace ended with the machine, and a torn file.
	if err := hostnet.RemoveNamespace(gone.rt.NetNS); err != nil {
		t.Fatal(err)
	}
	torn := filepath.Join(m.dir, "data", "attachments", "torn.eth0.json")
	if err := os.WriteFile(torn, []byte(`{"contai`), 0o600); err != nil {
		t.Fatal(err)
	}
	m.mustSee("without a server", m.outside, nodeIP+":8080", outsideIP)
	m.start("10.244.1.0/24")
	m.mustSee("after a restart", m.outside, nodeIP+":8080", outsideIP)
	if got := m.addresses.Owners(); len(got) != 1 || got[0].ContainerID != "a" {
		t.Errorf("owners after a restart = %v, want only a", got)
	}
	if b := m.pod("b"); b.ip[0] == a.ip[0] {
		t.Errorf("new pod got the address of one that runs, %s", b.ip[0])
	}
	if again := m.add(a.rt); len(again) != 1 {
		t.Errorf("repeated ADD = %v", again)
	}
}

func TestResetLeavesNothing(t *testing.T) {
	m := newMachine(t, "10.244.1.0/24")
	host, err := hostnet.New(m.node)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	m.pod("left-behind", portMapping{HostPort: 8080, ContainerPort: 80})
	entries := m.ledger.Entries()
	if err := m.ledger.Undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := m.ledger.Verify(t.Context(), entries); err != nil || len(left) > 0 {
		t.Errorf("Verify = %v, %v, want nothing", left, err)
	}
	links, err := host.Links()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range links {
		names = append(names, l.Name)
	}
	slices.Sort(names)
	if got := strings.Join(names, " "); got != "lo up0" {
		t.Errorf("links are %s, want lo up0", got)
	}
	for _, dir := range []string{"net.d", "bin"} {
		if _, err := os.Stat(filepath.Join(m.dir, dir)); !os.IsNotExist(err) {
			t.Errorf("folder %s: %v, want it gone", dir, err)
		}
	}
}

// TestNetworkIsNotReadyBeforeItAnswers configures a server that does not run: the runtime must not be told that there is a network.
func TestNetworkIsNotReadyBeforeItAnswers(t *testing.T) {
	m := newMachine(t, "10.244.1.0/30")
	m.stop()
	conf := filepath.Join(m.dir, "net.d", confFile)
	if err := os.Remove(conf); err != nil {
		t.Fatal(err)
	}
	server, err := New(m.serverConfig())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := server.Configure(ctx, []netip.Prefix{netip.MustParsePrefix("10.244.1.0/30")}); !errors.Is(err, context.Canceled) {
		t.Errorf("Configure of a server that does not run = %v, want the end of its context", err)
	}
	if _, err := os.Stat(conf); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("configuration of the network: %v, want none", err)
	}
	if err := server.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// TestBadRequests sends what no runtime would send; the server answers each and lives on.
func TestBadRequests(t *testing.T) {
	m := newMachine(t, "10.244.1.0/30")
	long := strings.Repeat("x", 200)
	for name, c := range map[string]struct {
		request string
		code    uint
	}{
		"no JSON":         {"hello", 6},
		"no config":       {`{"command":"ADD"}`, 6},
		"unknown verb":    {`{"command":"BUY","config":{}}`, 4},
		"path as id":      {`{"command":"DEL","containerID":"../../etc/x","ifName":"eth0","config":{}}`, 4},
		"long id":         {`{"command":"DEL","containerID":"` + long + `","ifName":"eth0","config":{}}`, 4},
		"long interface":  {`{"command":"DEL","containerID":"a","ifName":"abcdefghijklmnop","config":{}}`, 4},
		"no namespace":    {`{"command":"ADD","containerID":"a","ifName":"eth0","config":{}}`, 4},
		"not a namespace": {`{"command":"ADD","containerID":"a","ifName":"eth0","netns":"/etc/passwd","config":{"cniVersion":"1.0.0"}}`, 999},
		"bad port":        {`{"command":"ADD","containerID":"a","ifName":"eth0","netns":"/x","config":{"runtimeConfig":{"portMappings":[{"hostPort":70000,"containerPort":1}]}}}`, 7},
	} {
		t.Run(name, func(t *testing.T) {
			got := m.raw(c.request)
			if got.Error == nil || got.Error.Code != c.code {
				t.Errorf("answer = %+v, want error code %d", got.Error, c.code)
			}
		})
	}
	if left := len(m.attachments); left != 0 {
		t.Errorf("%d attachments are left of failed requests", left)
	}
	m.pod("only")
	_, err := m.plugin.AddNetworkList(t.Context(), m.conf, m.runtimeConf("more"))
	if err == nil || !strings.Contains(err.Error(), "no free address") {
		t.Errorf("ADD to a full range: %v", err)
	}
}

// raw sends bytes to the socket and reads the answer.
func (m *machine) raw(text string) response {
	m.t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: m.config.Socket, Net: "unix"})
	if err != nil {
		m.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(text)); err != nil {
		m.t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		m.t.Fatal(err)
	}
	var out response
	if err := json.NewDecoder(conn).Decode(&out); err != nil {
		m.t.Fatal(err)
	}
	return out
}
