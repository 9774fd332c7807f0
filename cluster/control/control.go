// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package control composes a control plane: store, API server, controllers, cloud loops and scheduler, each with its own
// identity, in the order in which they start.
package control

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver"
	"kogge.dev/kogge/apiserver/admission/plugins"
	"kogge.dev/kogge/apiserver/admission/versions"
	"kogge.dev/kogge/apiserver/aggregation/outcall"
	"kogge.dev/kogge/apiserver/aggregation/route"
	"kogge.dev/kogge/apiserver/authn"
	"kogge.dev/kogge/apiserver/authn/satoken"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/authz/node"
	"kogge.dev/kogge/apiserver/authz/rbac"
	"kogge.dev/kogge/apiserver/bootstrap"
	"kogge.dev/kogge/apiserver/crd"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/apiserver/rest"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/localvolume"
	"kogge.dev/kogge/expr"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/catalog"
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
	// Paths are more handlers of the API server by path or, with a slash at the end, by prefix.
	Paths map[string]http.Handler
	// Without leaves components out that run elsewhere.
	Without Components
}

// Components of a control plane besides the API server.
type Components struct{ Controllers, Scheduler, Cloud bool }

// Plane is a control plane.
type Plane struct {
	config  Config
	catalog *catalog.Catalog
	server  *apiserver.Server
	// booted is closed once the bootstrap objects are in place.
	booted chan struct{}
}

// issuer is how service account tokens name who signed them.
const issuer = "https://kubernetes.default.svc"

// New composes a control plane. Nothing runs yet.
func New(config Config) (*Plane, error) {
	if config.Store == nil || config.Keys.CA == nil || !config.Advertise.IsValid() || len(config.ServiceCIDRs) == 0 || len(config.PodCIDRs) == 0 {
		return nil, errors.New("control plane: store, keys, advertised address and ranges are required")
	}
	p := &Plane{config: config, catalog: catalog.New(), booted: make(chan struct{})}
	serving, err := p.servingTLS()
	if err != nil {
		return nil, err
	}
	kubelets := &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: config.Keys.CA.Pool(), Certificates: []tls.Certificate{config.Keys.Kubelets.TLS()},
	}
	ranges := make([]string, 0, len(config.ServiceCIDRs))
	for _, r := range config.ServiceCIDRs {
		ranges = append(ranges, r.String())
	}
	p.server, err = apiserver.New(apiserver.Config{
		Store: config.Store, Catalog: p.catalog, Logger: config.Log.With("component", "apiserver"),
		Build: p.build, Listener: config.Listener, TLS: serving,
		Address:  net.JoinHostPort(config.Advertise.String(), fmt.Sprint(config.Port)),
		Kubelet:  &apiserver.Kubelet{TLS: kubelets},
		Services: rest.ServiceConfig{CIDRs: ranges},
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Plane) servingTLS() (*tls.Config, error) {
	addresses := append([]netip.Addr{
		p.config.Advertise, p.config.ServiceCIDRs[0].Masked().Addr().Next(), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1"),
	}, p.config.Addresses...)
	cert, err := p.config.Keys.serving(p.config.Domain, addresses, p.config.Names)
	if err != nil {
		return nil, fmt.Errorf("serving certificate: %w", err)
	}
	trusted := p.config.Keys.CA.Pool()
	trusted.AddCert(p.config.Keys.ProxyCA.Cert)
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"},
		// Client certificates are asked for, and judged by the authenticators: a token or nobody is as good.
		ClientAuth: tls.RequestClientCert, ClientCAs: trusted,
	}, nil
}

// build makes the parts of the request path that read the server's own caches.
func (p *Plane) build(s *apiserver.Server) (apiserver.Parts, error) {
	reader := s.Reader()
	public := p.config.Keys.ServiceAccounts.Public()
	tokens, err := satoken.NewIssuer(issuer, p.config.Keys.ServiceAccounts)
	if err != nil {
		return apiserver.Parts{}, err
	}
	verifier, err := satoken.NewVerifier(satoken.VerifierConfig{
		Issuers: []string{issuer}, Keys: []crypto.PublicKey{public}, Audiences: []string{issuer}, Reader: reader,
	})
	if err != nil {
		return apiserver.Parts{}, err
	}
	documents, err := satoken.NewDocuments(issuer, "", []crypto.PublicKey{public})
	if err != nil {
		return apiserver.Parts{}, err
	}
	nodeRules, err := bootstrap.NodeRules()
	if err != nil {
		return apiserver.Parts{}, err
	}
	roles := rbac.New(reader)
	authorizer := authz.Chain{authz.Masters{}, authz.AlwaysAllowPaths{"/healthz", "/livez", "/readyz"}, node.New(reader, nodeRules), roles}
	bearer := authn.NewTokenCache(authn.TokenUnion{verifier, authn.BootstrapToken{Reader: reader}})
	clientRoots, proxyRoots := p.config.Keys.CA.Pool(), p.config.Keys.ProxyCA.Pool()
	who := authn.Reviews{Tokens: bearer, Audiences: []string{issuer}}
	may := authz.Reviews{Authorizer: authorizer, Rules: roles, IsNode: func(u *request.User) bool { _, is := node.NameOf(u); return is }}
	requests := satoken.Requests{Issuer: tokens, Reader: reader, Audiences: []string{issuer}}
	calls := outcall.New(&route.Resolver{Reader: reader})
	admitted, err := plugins.Default(plugins.Config{
		Reader: reader, Authorizer: authorizer, RBAC: roles, Calls: calls, Compiler: expr.NewCompiler(),
		Versions: converter(s.Engine()), UpdateQuota: p.updateQuota,
	})
	if err != nil {
		return apiserver.Parts{}, err
	}
	definitions, err := crd.New(crd.Config{
		Client: p.asServer(s), Engine: s.Engine(), Registry: s.Registry(), Calls: calls, Logger: p.config.Log.With("component", "apiserver"),
	})
	if err != nil {
		return apiserver.Parts{}, err
	}
	return apiserver.Parts{
		Authenticators: []authn.Authenticator{
			authn.FrontProxy{Roots: func() *x509.CertPool { return proxyRoots }, AllowedNames: []string{frontProxyName}},
			authn.X509{Roots: func() *x509.CertPool { return clientRoots }},
			authn.Bearer{Tokens: bearer, Audiences: []string{issuer}},
		},
		Authorizer: authorizer,
		Admission:  admitted,
		Virtual: map[schema.GroupResource]apiserver.VirtualFunc{
			{Group: "authentication.k8s.io", Resource: "tokenreviews"}:             who.TokenReview,
			{Group: "authentication.k8s.io", Resource: "selfsubjectreviews"}:       who.SelfSubjectReview,
			{Group: "authorization.k8s.io", Resource: "subjectaccessreviews"}:      may.SubjectAccessReview,
			{Group: "authorization.k8s.io", Resource: "localsubjectaccessreviews"}: may.LocalSubjectAccessReview,
			{Group: "authorization.k8s.io", Resource: "selfsubjectaccessreviews"}:  may.SelfSubjectAccessReview,
			{Group: "authorization.k8s.io", Resource: "selfsubjectrulesreviews"}:   may.SelfSubjectRulesReview,
			{Resource: "serviceaccounts/token"}: func(ctx context.Context, obj runtime.Object) (runtime.Object, error) {
				info := request.From(ctx).Info
				return requests.Create(ctx, info.Namespace, info.Name, obj, nil)
			},
		},
		Paths:   p.paths(documents),
		Runners: []apiserver.Runner{{Name: "custom resource definitions", Run: definitions.Run}},
		Hooks:   []apiserver.Hook{{Name: "bootstrap", Run: p.bootstrap}},
	}, nil
}

// asServer is the API server's client of itself.
func (p *Plane) asServer(s *apiserver.Server) *client.Client {
	user := request.User{Name: "system:apiserver", Groups: []string{request.GroupMasters, request.GroupAuthenticated}}
	return client.New(s.Client(user), p.catalog)
}

// updateQuota stores what admission has charged to a quota.
func (p *Plane) updateQuota(ctx context.Context, quota *corev1.ResourceQuota) error {
	_, err := client.Of[*corev1.ResourceQuota](p.asServer(p.server)).UpdateStatus(ctx, quota)
	return err
}

// converter finds the descriptors of everything that is served, for those who show objects to webhooks and policies.
func converter(engine *rest.Engine) *versions.Converter {
	return &versions.Converter{
		Lookup: func(gr schema.GroupResource) *kinds.Kind {
			for gvr, target := range engine.Targets() {
				if gvr.GroupResource() == gr {
					return target.Kind
				}
			}
			return nil
		},
		ByKind: func(gvk schema.GroupVersionKind) *kinds.Kind {
			for _, target := range engine.Targets() {
				if target.Served.GroupVersionKind == gvk {
					return target.Kind
				}
			}
			return nil
		},
	}
}

// paths are the handlers outside the resource API.
func (p *Plane) paths(documents satoken.Documents) map[string]http.Handler {
	paths := map[string]http.Handler{
		"/.well-known/openid-configuration": document("application/json", documents.Configuration),
		satoken.KeySetPath:                  document("application/jwk-set+json", documents.KeySet),
	}
	for path, handler := range p.config.Paths {
		paths[path] = handler
	}
	return paths
}

func document(kind string, content []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Cache-Control", "public, max-age=3600")
		_, _ = w.Write(content) // a client that went away is its own affair
	})
}

func (p *Plane) bootstrap(ctx context.Context) error {
	self := p.asServer(p.server)
	err := bootstrap.Once(ctx, bootstrap.Config{
		Client: self, Logger: p.config.Log.With("component", "bootstrap"),
		ServiceCIDRs: p.config.ServiceCIDRs, AdvertiseAddress: p.config.Advertise, SecurePort: int32(p.config.Port),
		ClientCA: p.config.Keys.CA.CertPEM(), ProxyCA: p.config.Keys.ProxyCA.CertPEM(), ProxyNames: []string{frontProxyName},
		Extra: extraPolicy(),
	})
	if err != nil {
		return err
	}
	if err := dnsService(ctx, self, DNSAddress(p.config.ServiceCIDRs[0])); err != nil {
		return err
	}
	if err := localvolume.EnsureClass(ctx, self); err != nil {
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

// runClients runs the components that are API clients.
func (p *Plane) runClients(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if !p.config.Without.Controllers {
		g.Go(func() error { return named("controllers", p.runControllers(ctx)) })
	}
	if !p.config.Without.Scheduler {
		g.Go(func() error {
			return named("scheduler", RunScheduler(ctx, SchedulerConfig{
				Client: p.Client(schedulerUser), Log: p.config.Log, Identity: p.config.Identity,
			}))
		})
	}
	return g.Wait()
}

func named(component string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", component, err)
	}
	return nil
}
