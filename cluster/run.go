// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/cluster/node"
	"kogge.dev/kogge/cri/containerd"
	"kogge.dev/kogge/internal/residency"
	"kogge.dev/kogge/internal/sysmon"
	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/ledger"
	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/etcd"
)

// Role is what a process runs: one of these, or a component alone.
type Role string

// Roles of whole machines.
const (
	RoleAll    Role = "up"     // control plane and node
	RoleServer Role = "server" // control plane
	RoleAgent  Role = "agent"  // node
)

// Console is where a run reports.
type Console struct {
	// Progress gets a line per stage of the start.
	Progress io.Writer
	Log      *slog.Logger
	// Ready is called once when the start is complete; may be nil.
	Ready func()
}

// machine is one run on this machine.
type machine struct {
	Settings
	role     Role
	console  Console
	paths    node.Paths
	stages   *stages
	ledger   *ledger.Ledger
	ip       netip.Addr
	pods     []netip.Prefix
	services []netip.Prefix
	// runtime is the container runtime inside, once startRuntime was called; nil with a foreign one.
	runtime *containerd.Supervisor
}

// Run runs a role in the foreground until ctx ends or it can't go on. Pods keep running when it returns.
func Run(ctx context.Context, settings Settings, role Role, console Console) (err error) {
	m := &machine{
		Settings: settings, role: role, console: console, paths: node.PathsOf(settings.DataDir, DefaultDataDir), stages: newStages(console.Progress),
	}
	// Who started a cluster may go away, and with it the pipe or terminal that progress is written to.
	signal.Ignore(syscall.SIGPIPE)
	if err := precheck(ctx, settings, role); err != nil {
		return err
	}
	switch role {
	case RoleAll, RoleAgent, RoleKubelet:
		if err := rejoin(node.Containerd(m.paths, settings.Node.Name, nil), console.Log); err != nil {
			return err
		}
	default:
	}
	home := homeOf(settings.DataDir, role)
	unlock, err := lock(home, role, settings.Node.Name)
	if err != nil {
		return err
	}
	defer unlock()
	// Not before rejoin: what takes this process's place would have the slack of the thread that it began on.
	if err := sysmon.Relax(); err != nil { // It takes more of the processor then, and is as right.
		console.Log.Debug("runtime's monitor not relaxed", "err", err)
	}
	if m.pods, err = prefixes(settings.Network.PodCIDRs); err != nil {
		return err
	}
	if m.services, err = prefixes(settings.Network.ServiceCIDRs); err != nil {
		return err
	}
	if m.ledger, err = ledger.Open(ledger.Config{Path: ledgerPath(home)}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.ledger.Close()) }()
	switch role {
	case RoleScheduler, RoleControllers, RoleCloud, RoleDNS:
		return m.alone(ctx) // these have no address and leave nothing in the run folder
	default:
	}
	if err := os.MkdirAll(m.paths.Run, 0o755); err != nil {
		return fmt.Errorf("make run folder: %w", err)
	}
	if err := m.addressOfNode(); err != nil {
		return err
	}
	switch role {
	case RoleAgent:
		return m.agent(ctx)
	case RoleServer, RoleAll:
		return m.server(ctx)
	case RoleKubelet, RoleProxy:
		return m.alone(ctx)
	default:
		return fmt.Errorf("role %q is unknown", role)
	}
}

func prefixes(texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// server runs a control plane and, for RoleAll, a node beside it.
func (m *machine) server(ctx context.Context) error {
	keys, err := control.OpenKeys(m.pkiDir())
	if err != nil {
		return err
	}
	settings, err := m.schedulerSettings()
	if err != nil {
		return err
	}
	advertise := m.ip
	if m.API.AdvertiseAddress != "" {
		advertise = netip.MustParseAddr(m.API.AdvertiseAddress) // validated with the settings
	}
	if err := m.writeAdmin(keys, advertise); err != nil {
		return err
	}
	stored, closeStore, err := m.openStore(ctx)
	if err != nil {
		return err
	}
	defer closeStore()
	m.stages.done("store")
	listener, err := listenAPI(ctx, m.API)
	if err != nil {
		return err
	}
	names, addresses := sans(m.API.SANs)
	auditor, recordAudit, err := openAudit(m.API.Audit, m.console.Log)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	users, err := openAuthentication(m.API.Authentication, m.console.Log)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	secret, err := openEncryption(m.API.Encryption, stored, m.console.Log)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	admission, err := m.API.Admission.choice()
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	served, err := catalog.Serving(m.API.RuntimeConfig)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	limits, err := m.API.TLS.limits()
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	plane, err := control.New(control.Config{
		TLS: limits, Store: secret.store, Keys: keys, Log: m.console.Log, Listener: listener, Advertise: advertise, Port: m.API.Port,
		Names: append(names, m.Node.Name), Addresses: append(addresses, m.ip), PodCIDRs: m.pods, ServiceCIDRs: m.services,
		Domain: m.Network.Domain, Identity: m.identity(), Audit: auditor, Scheduler: settings,
		Tokens: users.tokens, Anonymous: users.anonymous, Runners: users.runners,
		Authorization: m.API.Authorization.authorization(m.console.Log), Admission: admission, Catalog: served,
		Collectors: append(users.collectors, secret.collectors...), Checks: secret.checks,
		Without: control.Components{
			Controllers: m.without(RoleControllers), Scheduler: m.without(RoleScheduler), Cloud: m.without(RoleCloud),
		},
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	g, ctx := errgroup.WithContext(ctx)
	if m.role == RoleAll {
		if err := m.startRuntime(ctx, g); err != nil {
			return errors.Join(err, listener.Close())
		}
	}
	g.Go(func() error { residency.Pace(ctx); return nil })
	g.Go(func() error { return secret.run(ctx) })
	g.Go(func() error { return plane.Run(ctx) })
	g.Go(func() error { return recordAudit(ctx) })
	g.Go(func() error {
		select {
		case <-plane.Booted():
		case <-ctx.Done():
			return nil
		}
		m.stages.done("API server")
		if m.role == RoleServer {
			m.ready()
			return m.trim(ctx)
		}
		return m.localNode(ctx, plane, keys)
	})
	return g.Wait()
}

// startRuntime runs the container runtime in g, unless a foreign one is used. It goes on while the API server starts.
func (m *machine) startRuntime(ctx context.Context, g *errgroup.Group) error {
	if m.Node.CRISocket != "" {
		return nil
	}
	var err error
	if m.runtime, err = node.Runtime(m.paths, m.Node.Name, m.ledger, m.console.Log); err != nil {
		return err
	}
	g.Go(func() error {
		if err := m.runtime.Run(ctx); err != nil {
			return fmt.Errorf("containerd: %w", err)
		}
		return nil
	})
	return nil
}

// localNode runs the node of a machine that has the control plane in the same process.
func (m *machine) localNode(ctx context.Context, plane *control.Plane, keys control.Keys) error {
	serving, err := keys.CA.Ensure(m.kubeletLeaf())
	if err != nil {
		return err
	}
	config, err := m.nodeConfig()
	if err != nil {
		return err
	}
	config.Kubelet = plane.Client("system:node:"+m.Node.Name, "system:nodes")
	config.Reader = plane.Client(control.NodeNetworkUser)
	config.ClientCA, config.Serving = keys.CA.Pool(), serving.TLS()
	return m.runNode(ctx, config)
}

// nodeConfig is what all nodes have, whoever their API server is.
func (m *machine) nodeConfig() (node.Config, error) {
	taints, err := parseTaints(m.Node.Taints)
	if err != nil {
		return node.Config{}, err
	}
	nodePorts, err := prefixes(m.Proxy.NodePortAddresses)
	if err != nil {
		return node.Config{}, err
	}
	names := control.DNSAddress(m.services[0])
	if m.DNS.Address != "" {
		names = netip.MustParseAddr(m.DNS.Address) // validated with the settings
	}
	config := node.Config{
		Parts: m.nodeParts(), Name: m.Node.Name, Labels: m.Node.Labels, Taints: taints, MaxPods: m.Node.MaxPods, Paths: m.paths,
		CRISocket: m.Node.CRISocket, Runtime: m.runtime, Settings: m.kubeletSettings(), PodCIDRs: m.pods, ServiceCIDRs: m.services, Domain: m.Network.Domain,
		DNS: names, Ledger: m.ledger, Log: m.console.Log, Stage: m.stages.done,
		Proxy: node.ProxyConfig{
			HealthAddress: m.Proxy.HealthAddress, MetricsAddress: m.Proxy.MetricsAddress, MasqueradeAll: m.Proxy.MasqueradeAll,
			NodePortCIDRs: nodePorts,
		},
		Names: node.NamesConfig{HealthAddress: m.DNS.HealthAddress, ResolvConf: m.DNS.ResolvConf, Upstreams: m.DNS.Upstreams},
	}
	if m.ip.IsValid() {
		config.IPs = []netip.Addr{m.ip}
	}
	return config, nil
}

// nodeParts are the parts of a node that this process runs.
func (m *machine) nodeParts() node.Parts {
	p := node.Whole()
	switch m.role {
	case RoleKubelet:
		p.Proxy, p.DNS = false, false
	case RoleProxy:
		return node.Parts{Proxy: true}
	case RoleDNS:
		return node.Parts{DNS: true}
	default:
	}
	p.Network = m.Network.Plugin != PluginNone
	p.Kubelet = !m.without(RoleKubelet)
	p.Proxy = p.Proxy && !m.without(RoleProxy)
	p.DNS = p.DNS && !m.without(RoleDNS)
	return p
}

func (m *machine) kubeletSettings() kubeletconfig.KubeletConfiguration {
	if m.Kubelet == nil {
		return kubeletconfig.KubeletConfiguration{}
	}
	return *m.Kubelet
}

func (m *machine) runNode(ctx context.Context, config node.Config) error {
	n, err := node.New(config)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.Run(ctx) })
	g.Go(func() error {
		if err := n.Ready(ctx); err != nil {
			return client.Ended(ctx, err)
		}
		m.ready()
		return m.trim(ctx)
	})
	return g.Wait()
}

// trims are when, after the start, memory that only the start needed is given back.
var trims = []time.Duration{2 * time.Second, 20 * time.Second}

// trim gives memory back; a failure costs nothing but memory.
func (m *machine) trim(ctx context.Context) error {
	for _, after := range trims {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(after):
		}
		if err := residency.Trim(); err != nil {
			m.console.Log.Debug("memory not trimmed", "err", err)
		}
	}
	return nil
}

func (m *machine) ready() {
	m.stages.complete()
	if m.console.Ready != nil {
		m.console.Ready()
	}
}

// openStore opens the etcd inside, or connects to an external one.
func (m *machine) openStore(ctx context.Context) (store.Store, func(), error) {
	if len(m.Store.Endpoints) == 0 {
		embedded, err := etcd.Open(ctx, etcd.Config{DataDir: filepath.Join(m.DataDir, "etcd"), Logger: m.console.Log.With("component", "etcd")})
		if err != nil {
			return nil, nil, fmt.Errorf("open the store: %w", err)
		}
		return embedded, func() { _ = embedded.Close() }, nil // nothing is lost that the WAL does not hold
	}
	remote, err := etcd.Dial(etcd.DialConfig{
		Endpoints: m.Store.Endpoints, TLS: etcd.TLS{CAFile: m.Store.CAFile, CertFile: m.Store.CertFile, KeyFile: m.Store.KeyFile},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("connect to etcd: %w", err)
	}
	return remote, func() { _ = remote.Close() }, nil
}

func (m *machine) pkiDir() string { return pkiDir(m.DataDir) }

// pkiDir is the folder of the keys of a data folder.
func pkiDir(dataDir string) string { return filepath.Join(dataDir, "pki") }

// identity names this process for leader election, the same after a restart.
func (m *machine) identity() string { return m.Node.Name + "_" + homeOf(m.DataDir, m.role) }

func sans(texts []string) (names []string, addresses []netip.Addr) {
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			addresses = append(addresses, a)
		} else {
			names = append(names, text)
		}
	}
	return names, addresses
}

// parseTaints reads key=value:Effect and key:Effect.
func parseTaints(texts []string) ([]corev1.Taint, error) {
	var out []corev1.Taint
	for _, text := range texts {
		rest, effect, ok := strings.Cut(text, ":")
		key, value, _ := strings.Cut(rest, "=")
		switch e := corev1.TaintEffect(effect); {
		case ok && key != "" && (e == corev1.TaintEffectNoSchedule || e == corev1.TaintEffectPreferNoSchedule || e == corev1.TaintEffectNoExecute):
			out = append(out, corev1.Taint{Key: key, Value: value, Effect: e})
		default:
			return nil, fmt.Errorf("node.taints: %q is not key=value:Effect with NoSchedule, PreferNoSchedule or NoExecute", text)
		}
	}
	return out, nil
}

// stages prints what has been reached and when.
type stages struct {
	out   io.Writer
	began time.Time
}

func newStages(out io.Writer) *stages { return &stages{out: out, began: time.Now()} }

func (s *stages) done(name string) {
	fmt.Fprintf(s.out, "  %6.2f s  %s\n", time.Since(s.began).Seconds(), name)
}

func (s *stages) complete() { fmt.Fprintln(s.out, readyLine) }

// readyLine ends the progress of a start; the parent of a detached cluster waits for it.
const readyLine = "ready"
