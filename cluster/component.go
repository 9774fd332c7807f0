// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/cluster/node"
	"kogge.dev/kogge/internal/nearest"
	"kogge.dev/kogge/internal/pki"
	"kogge.dev/kogge/scheduler"
)

// Roles of a process that runs one component alone.
const (
	RoleScheduler   Role = "scheduler"
	RoleControllers Role = "controllers"
	RoleCloud       Role = "cloud"
	RoleKubelet     Role = "kubelet"
	RoleProxy       Role = "proxy"
	RoleDNS         Role = "dns"
)

// apiserverName is the component whose role, alone, is that of a server that leaves all else to others.
const apiserverName = "apiserver"

// parts are the components that a machine may leave to others, by their names in the settings.
var parts = []string{
	string(RoleScheduler), string(RoleControllers), string(RoleCloud), string(RoleKubelet), string(RoleProxy), string(RoleDNS),
}

// RunComponent runs one component alone until ctx ends or it can't go on: the API server, or one of its clients against the API
// server of the kubeconfig that join.kubeconfig names.
func RunComponent(ctx context.Context, settings Settings, name string, console Console) error {
	switch {
	case name == apiserverName:
		settings.Without = []string{string(RoleScheduler), string(RoleControllers), string(RoleCloud)}
		return Run(ctx, settings, RoleServer, console)
	case slices.Contains(parts, name):
		return Run(ctx, settings, Role(name), console)
	}
	return fmt.Errorf("component %w", unknownName(name, append([]string{apiserverName}, parts...)))
}

// unknownName says which names there are, and the nearest.
func unknownName(name string, known []string) error {
	hint := ""
	if meant := nearest.To(name, known); meant != "" {
		hint = fmt.Sprintf("; did you mean %q?", meant)
	}
	return fmt.Errorf("%q is not one of %s%s", name, strings.Join(known, ", "), hint)
}

// without reports whether the settings leave a component to others.
func (m *machine) without(component Role) bool { return slices.Contains(m.Without, string(component)) }

// alone runs one client of an API server.
func (m *machine) alone(ctx context.Context) error {
	if m.role == RoleKubelet && m.Join.Kubeconfig == "" && m.Join.Server != "" {
		return m.agent(ctx)
	}
	if m.Join.Kubeconfig == "" {
		return errors.New("join.kubeconfig is not set: give --kubeconfig FILE with the component's identity")
	}
	server, err := openKubeconfig(m.Join.Kubeconfig)
	if err != nil {
		return err
	}
	own, err := server.client("kogge-" + string(m.role))
	if err != nil {
		return err
	}
	switch m.role {
	case RoleScheduler, RoleControllers, RoleCloud:
		return m.runController(ctx, server, own)
	default:
	}
	g, ctx := errgroup.WithContext(ctx)
	if m.role == RoleKubelet {
		if err := m.startRuntime(ctx, g); err != nil {
			return err
		}
	}
	g.Go(func() error {
		config, err := m.nodeConfig()
		if err != nil {
			return err
		}
		config.Reader = own
		if m.role == RoleKubelet {
			if err := m.kubeletAlone(ctx, &config, own); err != nil {
				return err
			}
		}
		return m.runNode(ctx, config)
	})
	return g.Wait()
}

// kubeletAlone completes the configuration of a node whose kubelet has an identity of its own.
func (m *machine) kubeletAlone(ctx context.Context, config *node.Config, own *client.Client) error {
	config.Kubelet, config.Reader = own, nil
	switch {
	case m.Join.NetworkKubeconfig != "":
		network, err := openKubeconfig(m.Join.NetworkKubeconfig)
		if err != nil {
			return err
		}
		if config.Reader, err = network.client("kogge-network"); err != nil {
			return err
		}
	case config.Parts.Network:
		return errors.New("join.networkKubeconfig is not set: the pod network inside needs an identity that may read all nodes " +
			"(see 'kogge policy'); give it, or set network.plugin to none where another CNI plugin is installed")
	default:
		config.Parts.Volumes = false
	}
	var err error
	if config.Serving, err = m.servingOf(ctx, own); err != nil {
		return err
	}
	if path := config.Settings.Authentication.X509.ClientCAFile; path != "" {
		config.ClientCA, err = certificatesIn(path)
	}
	return err
}

// servingOf finds the certificate of the kubelet's server, as upstream does: from files, by a signing request, or made here and
// trusted by nobody but those who don't ask.
func (m *machine) servingOf(ctx context.Context, own *client.Client) (tls.Certificate, error) {
	leaf := m.kubeletLeaf()
	s := m.kubeletSettings()
	switch {
	case s.TLSCertFile != "" || s.TLSPrivateKeyFile != "":
		cert, err := tls.LoadX509KeyPair(s.TLSCertFile, s.TLSPrivateKeyFile)
		if err != nil {
			return cert, fmt.Errorf("kubelet.tlsCertFile and kubelet.tlsPrivateKeyFile: %w", err)
		}
		return cert, nil
	case s.ServerTLSBootstrap:
		return m.requestServing(ctx, own)
	}
	authority, err := pki.NewAuthority("kubelet-" + m.Node.Name)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := authority.Issue(leaf)
	return pair.TLS(), err
}

// kubeletLeaf describes a certificate of this machine's kubelet.
func (m *machine) kubeletLeaf() pki.Leaf {
	return pki.Leaf{
		Name: "kubelet-" + m.Node.Name, User: "system:node:" + m.Node.Name, Groups: []string{"system:nodes"},
		DNS: []string{m.Node.Name}, IPs: []net.IP{m.ip.AsSlice(), net.IPv4(127, 0, 0, 1)},
	}
}

// certificatesIn reads a file of certificates to trust.
func certificatesIn(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no PEM certificate", path)
	}
	return pool, nil
}

// runController runs a component of the control plane that is an API client.
func (m *machine) runController(ctx context.Context, server *kubeconfigFile, own *client.Client) error {
	var run func(context.Context) error
	lease := map[Role]string{RoleScheduler: control.SchedulerLease, RoleControllers: control.ManagerLease, RoleCloud: control.CloudLease}[m.role]
	vitals := control.NewVitals(lease)
	switch m.role {
	case RoleScheduler:
		settings, err := m.schedulerSettings()
		if err != nil {
			return err
		}
		run = func(ctx context.Context) error {
			return control.RunScheduler(ctx, control.SchedulerConfig{Client: own, Log: m.console.Log, Identity: m.identity(), Settings: settings, Vitals: vitals})
		}
	case RoleCloud:
		run = func(ctx context.Context) error {
			return control.RunCloud(ctx, control.CloudConfig{Client: own, Log: m.console.Log, Identity: m.identity(), Reserved: []int32{int32(m.API.Port)}, Vitals: vitals})
		}
	default:
		config, err := m.controllersConfig(server, own)
		if err != nil {
			return err
		}
		config.Vitals = vitals
		run = func(ctx context.Context) error { return control.RunControllers(ctx, config) }
	}
	port, err := m.openPort(ctx, own, vitals)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return run(ctx) })
	if port != nil {
		g.Go(func() error { return port.Run(ctx) })
	}
	m.ready()
	g.Go(func() error { return m.trim(ctx) })
	return g.Wait()
}

// schedulerSettings reads upstream's configuration of a scheduler; nil means the defaults.
func (m *machine) schedulerSettings() (*scheduler.Settings, error) {
	if len(m.Scheduler) == 0 {
		return nil, nil
	}
	return scheduler.ParseSettings(m.Scheduler)
}

// controllersConfig is what controllers need that run alone.
func (m *machine) controllersConfig(server *kubeconfigFile, own *client.Client) (control.ControllersConfig, error) {
	settings := m.Controllers
	config := control.ControllersConfig{
		Manager: own, Log: m.console.Log, Identity: m.identity(), RootCA: server.authority(), PodCIDRs: m.pods, Server: server.config.Host,
		Account: func(string) *client.Client { return own },
	}
	if settings.UseServiceAccountCredentials == nil || *settings.UseServiceAccountCredentials {
		accounts, err := newAccounts(server, own)
		if err != nil {
			return config, err
		}
		config.Account = accounts.client
	}
	var err error
	if settings.RootCAFile != "" {
		if config.RootCA, err = os.ReadFile(settings.RootCAFile); err != nil {
			return config, fmt.Errorf("controllers.rootCAFile: %w", err)
		}
	}
	if settings.SigningCertFile != "" {
		if config.Authority, err = pki.Load(settings.SigningCertFile, settings.SigningKeyFile); err != nil {
			return config, fmt.Errorf("controllers.signingCertFile and signingKeyFile: %w", err)
		}
	}
	if settings.ServiceAccountKeyFile != "" {
		if config.SignToken, err = control.TokenSigner(settings.ServiceAccountKeyFile); err != nil {
			return config, fmt.Errorf("controllers.serviceAccountKeyFile: %w", err)
		}
	}
	return config, nil
}
