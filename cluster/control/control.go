// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package control composes a control plane: store, API server, controllers, cloud loops and scheduler, each with its own
// identity, in the order in which they start.
package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"kogge.dev/kogge/apiserver"
	"kogge.dev/kogge/apiserver/admission/plugins"
	"kogge.dev/kogge/apiserver/audit"
	"kogge.dev/kogge/apiserver/authn"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/authz/configured"
	"kogge.dev/kogge/apiserver/bootstrap"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/apiserver/rest"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/localvolume"
	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/scheduler"
	"kogge.dev/kogge/store"
)

// Config of a control plane.
type Config struct {
	// Store is the cluster's memory; required. It is closed by the caller.
	Store store.Store
	Keys  Keys
	Log   *slog.Logger
	// Listener is where the API is served over TLS; nil for in-process clients only.
	Listener net.Listener
	// Advertise is the address at which nodes and pods reach the API server; required.
	Advertise netip.Addr
	// Port belongs to Advertise; required.
	Port int
	// Names and Addresses besides Advertise that clients call the API server by.
	Names     []string
	Addresses []netip.Addr
	// PodCIDRs and ServiceCIDRs: one each, or one of each family, the primary one first. Required.
	PodCIDRs, ServiceCIDRs []netip.Prefix
	// Domain of the cluster; required.
	Domain string
	// Identity names this process among those that stand for leadership; the same after a restart.
	Identity string
	// Scheduler has the scheduler's settings; nil for the defaults.
	Scheduler *scheduler.Settings
	// Paths are more handlers of the API server by path or, with a slash at the end, by prefix.
	Paths map[string]http.Handler
	// TLS bounds what clients may speak on the listener.
	TLS TLSLimits
	// Audit records requests; nil records none.
	Audit *audit.Auditor
	// Tokens recognise bearer tokens besides the cluster's own, in their order.
	Tokens []authn.TokenAuthenticator
	// Anonymous tells which paths requests without credentials may reach; nil means authn.AnonymousPaths.
	Anonymous func(path string) bool
	// Authorization makes the chain of authorizers from those of this server, by the names Node and RBAC; nil means these two.
	Authorization func(builtIn map[string]authz.Authorizer) (*configured.Chain, error)
	// Catalog holds the kinds that are served; nil means those of catalog.New.
	Catalog *catalog.Catalog
	// Admission is what differs from the default admission plugins.
	Admission plugins.Choice
	// Runners run beside the API server, Collectors are published with its metrics, Checks count for its health.
	Runners    []apiserver.Runner
	Collectors []prometheus.Collector
	Checks     []apiserver.Check
	// Without leaves components out that run elsewhere.
	Without Components
}

// Components of a control plane besides the API server.
type Components struct{ Controllers, Scheduler, Cloud bool }

// Plane is a control plane.
type Plane struct {
	config       Config
	catalog      *catalog.Catalog
	server       *apiserver.Server
	certificates certificates
	trust        *trust
	// booted is closed once the bootstrap objects are in place.
	booted chan struct{}
}

// Issuer is how service account tokens name who signed them.
const Issuer = "https://kubernetes.default.svc"

// New composes a control plane. Nothing runs yet.
func New(config Config) (*Plane, error) {
	if config.Store == nil || config.Keys.CA == nil || !config.Advertise.IsValid() || len(config.ServiceCIDRs) == 0 || len(config.PodCIDRs) == 0 {
		return nil, errors.New("control plane: store, keys, advertised address and ranges are required")
	}
	p := &Plane{config: config, catalog: config.Catalog, booted: make(chan struct{})}
	if p.catalog == nil {
		p.catalog = catalog.New()
	}
	if err := p.issue(); err != nil {
		return nil, err
	}
	ranges := make([]string, 0, len(config.ServiceCIDRs))
	for _, r := range config.ServiceCIDRs {
		ranges = append(ranges, r.String())
	}
	var err error
	p.server, err = apiserver.New(apiserver.Config{
		Store: config.Store, Catalog: p.catalog, Logger: config.Log.With("component", "apiserver"),
		Build: p.build, Listener: config.Listener, TLS: p.servingTLS(),
		Address: net.JoinHostPort(config.Advertise.String(), fmt.Sprint(config.Port)),
		Kubelet: &apiserver.Kubelet{TLS: p.kubeletTLS()},
		Audit:   config.Audit, Flags: config.flags(),
		Services: rest.ServiceConfig{CIDRs: ranges},
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// kubeletTLS is how the API server meets kubelets.
func (p *Plane) kubeletTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: p.config.Keys.CA.Pool(),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return p.certificates.kubelets.get(), nil },
	}
}

// TLSLimits are the least version of TLS, at least and by default 1.2, and the cipher suites of TLS 1.2, by default those of crypto/tls.
type TLSLimits struct {
	MinVersion   uint16
	CipherSuites []uint16
}

func (p *Plane) servingTLS() *tls.Config {
	config := &tls.Config{
		MinVersion: max(p.config.TLS.MinVersion, tls.VersionTLS12), CipherSuites: p.config.TLS.CipherSuites, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.certificates.serving.get(), nil },
		// Client certificates are asked for, and judged by the authenticators: a token or nobody is as good.
		ClientAuth: tls.RequestClientCert,
	}
	current := config.Clone()
	current.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return p.trust.serving(config), nil }
	return current
}

func (p *Plane) bootstrapConfig() bootstrap.Config {
	return bootstrap.Config{
		Client: p.asServer(p.server), Logger: p.config.Log.With("component", "bootstrap"),
		ServiceCIDRs: p.config.ServiceCIDRs, AdvertiseAddress: p.config.Advertise, SecurePort: int32(p.config.Port),
		ClientCA: p.trust.clients.pem(), ProxyCA: p.trust.frontProxy.pem(), ProxyNames: []string{frontProxyName},
		Extra: Policy(),
	}
}

// followTrust reads the certificate authorities of clients again when their files change, and tells extension API servers.
func (p *Plane) followTrust(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-p.booted: // Until then what is told of them is the server's own start.
	}
	return p.trust.run(ctx, func(ctx context.Context) {
		config := p.bootstrapConfig()
		if err := bootstrap.Trust(ctx, &config); err != nil {
			config.Logger.Error("extension API servers are not told of changed certificate authorities", "err", err)
		}
	})
}

func (p *Plane) bootstrap(ctx context.Context) error {
	self := p.asServer(p.server)
	err := bootstrap.Once(ctx, p.bootstrapConfig())
	if err != nil {
		return err
	}
	if err := dnsService(ctx, self, DNSAddress(p.config.ServiceCIDRs[0])); err != nil {
		return err
	}
	if err := localvolume.EnsureClass(ctx, self); err != nil {
		return err
	}
	if err := p.server.Engine().Fresh(ctx); err != nil { // so that authorizers know the roles, too
		return err
	}
	close(p.booted)
	return nil
}

// Client returns a client of this process's API server under a fixed identity.
func (p *Plane) Client(user string, groups ...string) *client.Client {
	groups = append(groups, request.GroupAuthenticated)
	return client.New(p.server.Client(request.User{Name: user, Groups: groups}), p.catalog)
}

// ServiceAccount returns a client under a service account of kube-system.
func (p *Plane) ServiceAccount(name string) *client.Client {
	return p.Client(request.ServiceAccountPrefix+"kube-system:"+name, request.GroupServiceAccounts, request.GroupServiceAccounts+":kube-system")
}

// Catalog returns the kinds that the control plane serves.
func (p *Plane) Catalog() *catalog.Catalog { return p.catalog }

// Handler returns the API server's HTTP handler.
func (p *Plane) Handler() http.Handler { return p.server.Handler() }

// Booted is closed once the API is served and holds what every cluster begins with.
func (p *Plane) Booted() <-chan struct{} { return p.booted }

// Run serves the API, and runs controllers, cloud loops and scheduler once the bootstrap objects are there, until ctx
// ends or one of them can't go on.
func (p *Plane) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	compaction := store.Compaction{Store: p.config.Store, Logger: p.config.Log.With("component", "store")}
	g.Go(func() error { return named("store", client.Ended(ctx, compaction.Run(ctx))) })
	g.Go(func() error { return named("certificates", p.certificates.run(ctx)) })
	g.Go(func() error { return named("certificate authorities", p.followTrust(ctx)) })
	g.Go(func() error { return named("apiserver", p.server.Run(ctx)) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-p.booted:
		}
		return p.runClients(ctx)
	})
	return g.Wait()
}

// runClients runs the components that are API clients. One that lost its lease, since the machine stood still for seconds, say, stands for it anew:
// alone it would end and be started by whoever watches over it, but here it would take the API server with it.
func (p *Plane) runClients(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if !p.config.Without.Controllers {
		g.Go(func() error { return named("controllers", p.again(ctx, p.runControllers)) })
	}
	if !p.config.Without.Cloud {
		g.Go(func() error { return named("cloud", p.again(ctx, p.runCloud)) })
	}
	if !p.config.Without.Scheduler {
		g.Go(func() error {
			config := SchedulerConfig{Client: p.Client(schedulerUser), Log: p.config.Log, Identity: p.config.Identity, Settings: p.config.Scheduler}
			return named("scheduler", p.again(ctx, func(ctx context.Context) error { return RunScheduler(ctx, config) }))
		})
	}
	return g.Wait()
}

// again runs a component until it ends for another reason than a lost lease.
func (p *Plane) again(ctx context.Context, run func(context.Context) error) error {
	for {
		err := run(ctx)
		if !errors.Is(err, reconcile.ErrLostLease) {
			return err
		}
		p.config.Log.Warn("leader lease lost, stand for it again", "err", err)
	}
}

func named(component string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", component, err)
	}
	return nil
}
