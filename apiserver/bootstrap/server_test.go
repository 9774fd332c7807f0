// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package bootstrap_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"kogge.dev/kogge/apiserver"
	"kogge.dev/kogge/apiserver/admission/plugins"
	"kogge.dev/kogge/apiserver/admission/versions"
	"kogge.dev/kogge/apiserver/aggregation"
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
	"kogge.dev/kogge/expr"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/store/memory"
)

const issuer = "https://kubernetes.default.svc"

// plane is an API server on the in-memory store with the whole request path behind it.
type plane struct {
	server  *apiserver.Server
	catalog *catalog.Catalog
	routes  *route.Resolver
	// aggregator is the one of the server.
	aggregator *aggregation.Aggregator
}

func (p *plane) as(user string, groups ...string) *client.Client {
	return client.New(p.server.Client(request.User{Name: user, Groups: append(groups, request.GroupAuthenticated)}), p.catalog)
}

func (p *plane) admin() *client.Client { return p.as("admin", request.GroupMasters) }

// newPlane starts a server and waits until the bootstrap objects are there.
func newPlane(t testing.TB) *plane {
	t.Helper()
	p := &plane{catalog: catalog.New()}
	server, err := apiserver.New(apiserver.Config{
		Store: memory.New(), Catalog: p.catalog, Logger: slog.New(slog.DiscardHandler), Build: p.build,
		Services: rest.ServiceConfig{CIDRs: []string{"10.96.0.0/16"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.server = server
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	wait, stop := context.WithTimeout(t.Context(), time.Minute) // a start makes some hundred objects: seconds on a busy machine
	defer stop()
	if err := server.WaitReady(wait); err != nil {
		t.Fatalf("server is not ready: %v", bootstrap.Once(t.Context(), p.bootstrapConfig()))
	}
	if err := server.Engine().Fresh(wait); err != nil { // so that authorizers know the roles
		t.Fatal(err)
	}
	return p
}

func (p *plane) bootstrapConfig() bootstrap.Config {
	return bootstrap.Config{
		Client: p.admin(), ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
		AdvertiseAddress: netip.MustParseAddr("192.0.2.1"), SecurePort: 6443, ClientCA: []byte("ca"), ProxyCA: []byte("proxy"), ProxyNames: []string{"front"},
	}
}

func (p *plane) build(s *apiserver.Server) (apiserver.Parts, error) {
	reader := s.Reader()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return apiserver.Parts{}, err
	}
	tokens, err := satoken.NewIssuer(issuer, key)
	if err != nil {
		return apiserver.Parts{}, err
	}
	verifier, err := satoken.NewVerifier(satoken.VerifierConfig{Issuers: []string{issuer}, Keys: []crypto.PublicKey{key.Public()}, Audiences: []string{issuer}, Reader: reader})
	if err != nil {
		return apiserver.Parts{}, err
	}
	uniform, err := bootstrap.NodeRules()
	if err != nil {
		return apiserver.Parts{}, err
	}
	roles := rbac.New(reader)
	authorizer := authz.Chain{authz.Masters{}, node.New(reader, uniform), roles}
	p.routes = &route.Resolver{Reader: reader}
	calls := outcall.New(p.routes)
	converter := converterOf(s.Engine())
	own := client.New(s.Client(request.User{Name: "system:apiserver", Groups: []string{request.GroupMasters}}), p.catalog)
	admitted, err := plugins.Default(plugins.Config{
		Reader: reader, Authorizer: authorizer, RBAC: roles, Calls: calls, Compiler: expr.NewCompiler(), Versions: converter,
		Types: func(gvr schema.GroupVersionResource) (managedfields.TypeConverter, error) {
			if t := s.Engine().Lookup(gvr); t != nil && t.Custom != nil {
				return t.Custom.Types(gvr.GroupVersion())
			}
			return s.OpenAPI().TypeConverter()
		},
		UpdateQuota: func(ctx context.Context, q *corev1.ResourceQuota) error {
			_, err := client.Of[*corev1.ResourceQuota](own).UpdateStatus(ctx, q)
			return err
		},
	})
	if err != nil {
		return apiserver.Parts{}, err
	}
	var definitions *crd.Controller
	p.aggregator, err = aggregation.New(aggregation.Config{
		Client: own, Registry: s.Registry(), OpenAPI: s.OpenAPI(), Routes: p.routes, Logger: slog.New(slog.DiscardHandler),
		Local: func() []aggregation.Local { return aggregation.Locals(p.catalog.All(), definitions.GroupVersions()) },
	})
	if err != nil {
		return apiserver.Parts{}, err
	}
	definitions, err = crd.New(crd.Config{
		Client: own, Engine: s.Engine(), Registry: s.Registry(), OpenAPI: s.OpenAPI(), Calls: calls, Logger: slog.New(slog.DiscardHandler),
		Changed: p.aggregator.Refresh,
	})
	if err != nil {
		return apiserver.Parts{}, err
	}
	requests := satoken.Requests{Issuer: tokens, Reader: reader, Audiences: []string{issuer}}
	may := authz.Reviews{Authorizer: authorizer, Rules: roles}
	return apiserver.Parts{
		Authenticators: []authn.Authenticator{authn.Bearer{Tokens: verifier, Audiences: []string{issuer}}},
		Authorizer:     authorizer, Admission: admitted,
		Virtual: map[schema.GroupResource]apiserver.VirtualFunc{
			{Resource: "serviceaccounts/token"}: func(ctx context.Context, obj runtime.Object) (runtime.Object, error) {
				info := request.From(ctx).Info
				return requests.Create(ctx, info.Namespace, info.Name, obj, nil)
			},
			{Group: "authorization.k8s.io", Resource: "selfsubjectaccessreviews"}: may.SelfSubjectAccessReview,
		},
		Runners:   []apiserver.Runner{{Name: "crd", Run: definitions.Run}, {Name: "aggregation", Run: p.aggregator.Run}},
		Aggregate: p.aggregator.Handler,
		Judges:    crd.Judged(),
		Hooks:     []apiserver.Hook{{Name: "bootstrap", Run: func(ctx context.Context) error { return bootstrap.Once(ctx, p.bootstrapConfig()) }}},
	}, nil
}

func converterOf(engine *rest.Engine) *versions.Converter {
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
		Complete: func(gvr schema.GroupVersionResource, obj *unstructured.Unstructured) error {
			if t := engine.Lookup(gvr); t != nil && t.Custom != nil {
				_, err := t.Custom.Complete(gvr.GroupVersion(), obj)
				return err
			}
			return nil
		},
	}
}

func TestServerBecomesReady(t *testing.T) {
	newPlane(t)
}
