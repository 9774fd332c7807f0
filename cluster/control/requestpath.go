// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto"
	"crypto/tls"
	"encoding/json"
	"maps"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"kogge.dev/kogge/apiserver"
	"kogge.dev/kogge/apiserver/admission"
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
	"kogge.dev/kogge/apiserver/fairness"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/apiserver/rest"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/expr"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/metrics"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/legacytoken"
)

// build makes the parts of the request path that read the server's own caches.
func (p *Plane) build(s *apiserver.Server) (apiserver.Parts, error) {
	reader, server := s.Reader(), []string{Issuer}
	tokens, err := satoken.NewIssuer(Issuer, p.config.Keys.ServiceAccounts)
	if err != nil {
		return apiserver.Parts{}, err
	}
	bearer, err := p.tokens(reader)
	if err != nil {
		return apiserver.Parts{}, err
	}
	documents, err := satoken.NewDocuments(Issuer, "", []crypto.PublicKey{p.config.Keys.ServiceAccounts.Public()})
	if err != nil {
		return apiserver.Parts{}, err
	}
	nodeRules, err := bootstrap.NodeRules()
	if err != nil {
		return apiserver.Parts{}, err
	}
	roles := rbac.New(reader)
	authorizer, chain, err := p.authorizer(map[string]authz.Authorizer{"Node": node.New(reader, nodeRules), "RBAC": roles})
	if err != nil {
		return apiserver.Parts{}, err
	}
	who := authn.Reviews{Tokens: bearer, Audiences: server}
	may := authz.Reviews{
		Authorizer: authorizer, Rules: roles, IsNode: func(u *request.User) bool { _, is := node.NameOf(u); return is }, HasWebhooks: chain.webhooks,
	}
	requests := satoken.Requests{Issuer: tokens, Reader: reader, Audiences: server}
	routes := &route.Resolver{Reader: reader}
	calls := outcall.New(routes)
	events := reconcile.NewRecorder(p.asServer(s), "kube-apiserver", "", p.config.Log.With("component", "apiserver"))
	admitted, err := plugins.Default(plugins.Config{
		Reader: reader, Authorizer: authorizer, RBAC: roles, Calls: calls, Compiler: expr.NewCompiler(),
		Versions: converter(s.Engine()), UpdateQuota: p.updateQuota, Types: typesOf(s),
		Choice: p.config.Admission, Events: events.EventAbout,
	})
	if err != nil {
		return apiserver.Parts{}, err
	}
	definitions, aggregator, err := p.extensions(s, routes, calls)
	if err != nil {
		return apiserver.Parts{}, err
	}
	limiter := fairness.New(fairness.Config{Size: s.Engine().Size, Watchers: s.Engine().Watchers})
	return apiserver.Parts{
		Authenticators: []authn.Authenticator{
			&authn.FrontProxy{Roots: p.trust.frontProxy.get, AllowedNames: []string{frontProxyName}},
			&authn.X509{Roots: p.trust.clients.get},
			authn.Bearer{Tokens: bearer, Audiences: server},
		},
		Anonymous:  p.anonymous(),
		Authorizer: authorizer,
		Admission:  admitted,
		Fairness:   limiter.Filter,
		Collectors: slices.Concat(limiter.Collectors(), chain.collectors, p.config.Collectors),
		Aggregate:  aggregator.Handler,
		Judges:     crd.Judged(),
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
		Documents: issuer(documents), Paths: p.paths(limiter.Dumps()),
		Runners: slices.Concat([]apiserver.Runner{
			{Name: "custom resource definitions", Run: definitions.Run},
			{Name: "aggregation", Run: aggregator.Run},
			{Name: "events", Run: events.Run},
			{Name: "priority and fairness", Run: func(ctx context.Context) error {
				return limiter.Run(ctx, p.asServer(s), p.config.Log.With("component", "apiserver"))
			}},
		}, chain.runners, p.config.Runners),
		Checks: p.config.Checks,
		Hooks:  []apiserver.Hook{{Name: "bootstrap", Run: p.bootstrap}},
	}, nil
}

// tokens recognises the cluster's own tokens and those of others.
func (p *Plane) tokens(reader admission.Reader) (authn.TokenAuthenticator, error) {
	server, keys := []string{Issuer}, []crypto.PublicKey{p.config.Keys.ServiceAccounts.Public()}
	verifier, err := satoken.NewVerifier(satoken.VerifierConfig{Issuers: server, Keys: keys, Audiences: server, Reader: reader})
	if err != nil {
		return nil, err
	}
	secrets, err := satoken.NewSecrets(satoken.VerifierConfig{Keys: keys, Audiences: server, Reader: reader}, p.noteUse)
	if err != nil {
		return nil, err
	}
	joining := authn.ForServer{Tokens: authn.BootstrapToken{Reader: reader}, Audiences: server}
	return authn.NewTokenCache(append(authn.TokenUnion{verifier, secrets, joining}, p.config.Tokens...), authn.CacheConfig{Known: authn.TokenTTL}), nil
}

// chain is what keeps a configured chain of authorizers working.
type chain struct {
	webhooks   func() bool
	runners    []apiserver.Runner
	collectors []prometheus.Collector
}

// authorizer makes the chain of the configuration, or Node and RBAC.
func (p *Plane) authorizer(builtIn map[string]authz.Authorizer) (authz.Authorizer, chain, error) {
	if p.config.Authorization == nil {
		return authz.Chain{authz.Masters{}, builtIn["Node"], builtIn["RBAC"]}, chain{webhooks: func() bool { return false }}, nil
	}
	configured, err := p.config.Authorization(builtIn)
	if err != nil {
		return nil, chain{}, err
	}
	return configured, chain{
		webhooks: configured.HasWebhooks, collectors: configured.Collectors(),
		runners: []apiserver.Runner{{Name: "authorization configuration", Run: configured.Run}},
	}, nil
}

func (p *Plane) anonymous() func(path string) bool {
	if p.config.Anonymous != nil {
		return p.config.Anonymous
	}
	return authn.AnonymousPaths
}

// extensions makes what serves resources that are not built in: custom ones, and those of other servers.
func (p *Plane) extensions(s *apiserver.Server, routes *route.Resolver, calls *outcall.Client) (*crd.Controller, *aggregation.Aggregator, error) {
	log := p.config.Log.With("component", "apiserver")
	measured, err := p.metrics(s)
	if err != nil {
		return nil, nil, err
	}
	var definitions *crd.Controller
	aggregator, err := aggregation.New(aggregation.Config{
		Client: p.asServer(s), Registry: s.Registry(), OpenAPI: s.OpenAPI(), Routes: routes, Logger: log,
		Local:       func() []aggregation.Local { return aggregation.Locals(p.catalog.All(), definitions.GroupVersions()) },
		Certificate: func() (*tls.Certificate, error) { return p.certificates.frontProxy.get(), nil },
		BuiltIn:     map[schema.GroupVersion]http.Handler{metricsv1beta1.SchemeGroupVersion: measured},

		BuiltInResources: map[schema.GroupVersion]*metav1.APIResourceList{metricsv1beta1.SchemeGroupVersion: metrics.Resources()},
	})
	if err != nil {
		return nil, nil, err
	}
	definitions, err = crd.New(crd.Config{
		Client: p.asServer(s), Engine: s.Engine(), Registry: s.Registry(), Calls: calls, OpenAPI: s.OpenAPI(), Logger: log,
		Changed: aggregator.Refresh, Dropped: s.Forget,
	})
	return definitions, aggregator, err
}

// metrics makes the metrics API from the kubelets' resource metrics, read with the API server's own certificate.
func (p *Plane) metrics(s *apiserver.Server) (http.Handler, error) {
	reader := s.Reader()
	ctx := context.Background() // reads of the process's own cache
	list := func(resource, namespace string) []kinds.Object {
		found, err := reader.List(ctx, schema.GroupResource{Resource: resource}, namespace)
		if err != nil {
			return nil // the caches are not filled yet
		}
		return found
	}
	kubelets := &http.Client{Transport: &http.Transport{TLSClientConfig: p.kubeletTLS()}}
	return metrics.New(metrics.Config{
		Log: p.config.Log.With("component", "metrics"),
		Scrape: metrics.Kubelets(kubelets, func(name string) *corev1.Node {
			obj, err := reader.Get(ctx, schema.GroupResource{Resource: "nodes"}, "", name)
			if node, ok := obj.(*corev1.Node); ok && err == nil {
				return node
			}
			return nil
		}),
		Nodes: func() []*corev1.Node { return typed[*corev1.Node](list("nodes", "")) },
		Pods:  func(namespace string) []*corev1.Pod { return typed[*corev1.Pod](list("pods", namespace)) },
	})
}

func typed[T kinds.Object](all []kinds.Object) []T {
	out := make([]T, 0, len(all))
	for _, obj := range all {
		if t, ok := obj.(T); ok {
			out = append(out, t)
		}
	}
	return out
}

// typesOf finds the converters by which apply configurations are merged.
func typesOf(s *apiserver.Server) func(gvr schema.GroupVersionResource) (managedfields.TypeConverter, error) {
	return func(gvr schema.GroupVersionResource) (managedfields.TypeConverter, error) {
		target := s.Engine().Lookup(gvr)
		if target != nil && target.Custom != nil {
			return target.Custom.Types(gvr.GroupVersion())
		}
		return s.OpenAPI().TypeConverter()
	}
}

// asServer is the API server's client of itself.
func (p *Plane) asServer(s *apiserver.Server) *client.Client {
	user := request.User{Name: "system:apiserver", Groups: []string{request.GroupMasters, request.GroupAuthenticated}}
	return client.New(s.Client(user), p.catalog)
}

// noteUse stores on what day the token of a secret was used.
func (p *Plane) noteUse(ctx context.Context, secret *corev1.Secret, day string) {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": secret.UID, "labels": map[string]string{legacytoken.LastUsed: day}}})
	if err == nil {
		secrets := client.Of[*corev1.Secret](p.asServer(p.server))
		_, err = secrets.Patch(ctx, secret.Namespace, secret.Name, types.MergePatchType, patch)
	}
	if err != nil {
		p.config.Log.Warn("use of a token not noted", "component", "apiserver", "object", secret.Namespace+"/"+secret.Name, "err", err)
	}
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
		Complete: func(gvr schema.GroupVersionResource, obj *unstructured.Unstructured) error {
			target := engine.Lookup(gvr)
			if target == nil || target.Custom == nil {
				return nil
			}
			_, err := target.Custom.Complete(gvr.GroupVersion(), obj)
			return err
		},
	}
}

// paths are the handlers outside the resource API.
func (p *Plane) paths(more map[string]http.Handler) map[string]http.Handler {
	paths := map[string]http.Handler{}
	maps.Copy(paths, more)
	maps.Copy(paths, p.config.Paths)
	return paths
}

// issuer are the documents of who issues tokens of service accounts.
func issuer(documents satoken.Documents) map[string]apiserver.Document {
	return map[string]apiserver.Document{
		"/.well-known/openid-configuration": {MediaType: "application/json", Content: documents.Configuration},
		satoken.KeySetPath:                  {MediaType: "application/jwk-set+json", Content: documents.KeySet},
	}
}
