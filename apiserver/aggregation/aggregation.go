// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package aggregation lets other servers serve part of the API: an APIService names a group-version and the Service behind it, and requests for
// it are passed on with the user's name. Group-versions of this server have APIServices as well, which say "Local".
package aggregation

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"kogge.dev/kogge/apiserver/aggregation/route"
	"kogge.dev/kogge/apiserver/discovery"
	"kogge.dev/kogge/apiserver/openapi"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/reconcile"
)

// managedLabel marks APIServices that this controller made: "onstart" for built-in group-versions, "true" for those of
// custom resource definitions, which go when the last definition goes.
const (
	managedLabel = "kube-aggregator.kubernetes.io/automanaged"
	managedStart = "onstart"
	managedLive  = "true"
)

// How often remote servers are asked whether they are there, besides when their Service or its endpoints change.
const (
	checkAvailable   = 30 * time.Second
	checkUnavailable = 2 * time.Second
)

// Local is a group-version that this server serves itself.
type Local struct {
	schema.GroupVersion
	// Custom is set for group-versions of custom resource definitions.
	Custom bool
	// Priority orders groups in discovery, VersionPriority the versions of a group; higher first.
	Priority, VersionPriority int32
}

// Config of an Aggregator. Client, Registry, Routes, Local and Logger are required.
type Config struct {
	// Client acts as a member of system:masters.
	Client   *client.Client
	Registry *discovery.Registry
	// OpenAPI publishes the documents of remote servers; optional.
	OpenAPI *openapi.Service
	Routes  *route.Resolver
	// Local lists what this server serves; it is asked at the start and after Refresh.
	Local func() []Local
	// Certificate is the front proxy's client certificate, by which remote servers recognise us. Nil sends none, and they will refuse.
	Certificate func() (*tls.Certificate, error)
	// BuiltIn handlers serve a group-version of this process until an APIService names a Service for it (metrics.k8s.io).
	BuiltIn map[schema.GroupVersion]http.Handler
	// BuiltInResources is what discovery says of them.
	BuiltInResources map[schema.GroupVersion]*metav1.APIResourceList
	Logger           *slog.Logger
}

// Aggregator keeps APIServices and passes requests on.
type Aggregator struct {
	cfg Config

	mu      sync.RWMutex
	remotes map[schema.GroupVersion]*remote

	informer *client.Informer[*apiregistrationv1.APIService]
	loop     *reconcile.Loop
	// swept is set once what earlier starts served, and this one doesn't, is gone. Only the loop's work on localKey touches it.
	swept bool
}

// New makes an aggregator.
func New(cfg Config) (*Aggregator, error) {
	if cfg.Client == nil || cfg.Registry == nil || cfg.Routes == nil || cfg.Local == nil || cfg.Logger == nil {
		return nil, errors.New("aggregation: a required part is missing")
	}
	return &Aggregator{cfg: cfg, remotes: map[schema.GroupVersion]*remote{}}, nil
}

// localKey is the key under which the loop looks at local group-versions; no APIService can have an empty name.
var localKey = reconcile.Key{}

// Run keeps APIServices until ctx ends.
func (g *Aggregator) Run(ctx context.Context) error {
	informers := client.NewInformers(g.cfg.Client, g.cfg.Logger)
	g.informer = client.TrimmedInformer(informers, g.services(), outline)
	loop := reconcile.New(reconcile.Config{Name: "apiservices", Log: g.cfg.Logger, Informers: informers, Workers: 4, Reconcile: g.reconcile})
	reconcile.Self(loop, g.informer)
	g.watchBackends(informers, loop)
	g.mu.Lock()
	g.loop = loop
	g.mu.Unlock()
	g.publish()
	loop.Enqueue(localKey)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return informers.Run(ctx) })
	group.Go(func() error { return loop.Run(ctx) })
	return group.Wait()
}

// watchBackends looks at a remote server at once when its Service or the Service's endpoints change.
func (g *Aggregator) watchBackends(informers *client.Informers, loop *reconcile.Loop) {
	look := func(namespace, name string) {
		g.mu.RLock()
		defer g.mu.RUnlock()
		for _, r := range g.remotes {
			if r.spec.Service.Namespace == namespace && r.spec.Service.Name == name {
				loop.Enqueue(reconcile.Key{Name: r.name})
			}
		}
	}
	service := func(svc *corev1.Service) { look(svc.Namespace, svc.Name) }
	client.InformerFor[*corev1.Service](informers).Handle(client.Handler[*corev1.Service]{
		Add: service, Update: func(_, svc *corev1.Service) { service(svc) }, Delete: service,
	})
	endpoints := func(s *discoveryv1.EndpointSlice) { look(s.Namespace, s.Labels[discoveryv1.LabelServiceName]) }
	client.InformerFor[*discoveryv1.EndpointSlice](informers).Handle(client.Handler[*discoveryv1.EndpointSlice]{
		Add: endpoints, Update: func(_, s *discoveryv1.EndpointSlice) { endpoints(s) }, Delete: endpoints,
	})
}

// Refresh looks again at what this server serves itself; call it when definitions changed.
func (g *Aggregator) Refresh() {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.loop != nil {
		g.loop.Enqueue(localKey)
	}
}

// Handler returns who serves a group-version instead of this server's resources: a remote server, a built-in handler, or nil.
func (g *Aggregator) Handler(gv schema.GroupVersion) http.Handler {
	g.mu.RLock()
	r := g.remotes[gv]
	g.mu.RUnlock()
	if r != nil {
		return r
	}
	if h := g.cfg.BuiltIn[gv]; h != nil {
		return h
	}
	return nil
}

func (g *Aggregator) services() client.Resource[*apiregistrationv1.APIService] {
	return client.Of[*apiregistrationv1.APIService](g.cfg.Client)
}

func (g *Aggregator) reconcile(ctx context.Context, key reconcile.Key) error {
	if key == localKey {
		return g.registerLocals(ctx)
	}
	svc, ok := g.informer.Get("", key.Name)
	if !ok || svc.Spec.Service == nil || svc.DeletionTimestamp != nil {
		g.forget(key.Name)
		if !ok {
			// An APIService of ours that somebody deleted comes back.
			g.loop.Enqueue(localKey)
		}
		return nil
	}
	return g.follow(ctx, svc)
}

// registerLocals makes an APIService for every local group-version and removes those of definitions that are gone and, once, those of
// built-in group-versions that are no longer asked for: another server may have other settings. An APIService that names a Service, or is
// not ours, is left alone.
func (g *Aggregator) registerLocals(ctx context.Context) error {
	want := map[string]Local{}
	for _, l := range g.cfg.Local() {
		want[l.name()] = l
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for name, local := range want {
		have, ok := g.informer.Get("", name)
		switch {
		case !ok:
			group.Go(func() error {
				_, err := g.services().Create(ctx, local.describe())
				if apierrors.IsAlreadyExists(err) {
					return nil
				}
				return err
			})
		case have.Labels[managedLabel] != "" && have.Spec.Service == nil && !equal.Semantic(have.Spec, local.spec()):
			group.Go(func() error { return g.restore(ctx, local) })
		}
	}
	for _, have := range g.informer.List("") {
		mark := have.Labels[managedLabel]
		_, wanted := want[have.Name]
		if (mark == managedLive || mark == managedStart && !g.swept) && !wanted && have.Spec.Service == nil {
			group.Go(func() error {
				err := g.services().Delete(ctx, "", have.Name, metav1.DeleteOptions{})
				if apierrors.IsNotFound(err) {
					return nil
				}
				return err
			})
		}
	}
	err := group.Wait()
	g.swept = g.swept || err == nil
	return err
}

// restore gives the APIService of a local group-version the spec that it should have, if it is still ours.
func (g *Aggregator) restore(ctx context.Context, local Local) error {
	have, err := g.services().Get(ctx, "", local.name())
	if apierrors.IsNotFound(err) || (err == nil && (have.Labels[managedLabel] == "" || have.Spec.Service != nil)) {
		return nil
	}
	if err != nil {
		return err
	}
	next := have.DeepCopy()
	next.Spec = local.spec()
	_, err = g.services().Update(ctx, next)
	return err
}

// follow takes over a remote group-version and keeps its condition, discovery and OpenAPI.
func (g *Aggregator) follow(ctx context.Context, svc *apiregistrationv1.APIService) error {
	gv := schema.GroupVersion{Group: svc.Spec.Group, Version: svc.Spec.Version}
	g.mu.Lock()
	r := g.remotes[gv]
	if r == nil || r.name != svc.Name || !equal.Semantic(r.spec, svc.Spec) {
		fresh, err := newRemote(svc, g.cfg.Routes, g.cfg.Certificate)
		if err != nil {
			g.mu.Unlock()
			return g.setCondition(ctx, svc, condition(apiregistrationv1.ConditionFalse, "FailedDiscoveryCheck", err.Error()))
		}
		if r != nil {
			fresh.found.Store(r.found.Load())
			r.close()
		}
		r = fresh
		g.remotes[gv] = r
	}
	g.mu.Unlock()
	cond := r.check(ctx)
	r.available.Store(cond.Status == apiregistrationv1.ConditionTrue)
	if cond.Status == apiregistrationv1.ConditionTrue {
		if err := r.discover(ctx); err != nil {
			cond = condition(apiregistrationv1.ConditionFalse, "FailedDiscoveryCheck", err.Error())
			r.available.Store(false)
		}
	}
	g.publish()
	if err := g.setCondition(ctx, svc, cond); err != nil {
		return err
	}
	if cond.Status == apiregistrationv1.ConditionTrue {
		return reconcile.After(checkAvailable)
	}
	return reconcile.After(checkUnavailable)
}

func condition(status apiregistrationv1.ConditionStatus, reason, message string) apiregistrationv1.APIServiceCondition {
	return apiregistrationv1.APIServiceCondition{
		Type: apiregistrationv1.Available, Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.Now(),
	}
}

func (g *Aggregator) setCondition(ctx context.Context, svc *apiregistrationv1.APIService, cond apiregistrationv1.APIServiceCondition) error {
	next := svc.DeepCopy()
	i := slices.IndexFunc(next.Status.Conditions, func(c apiregistrationv1.APIServiceCondition) bool { return c.Type == cond.Type })
	if i >= 0 {
		have := &next.Status.Conditions[i]
		if have.Status == cond.Status && have.Reason == cond.Reason && have.Message == cond.Message {
			return nil
		}
		if have.Status == cond.Status {
			cond.LastTransitionTime = have.LastTransitionTime
		}
		*have = cond
	} else {
		next.Status.Conditions = append(next.Status.Conditions, cond)
	}
	if _, err := g.services().UpdateStatus(ctx, next); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("condition of APIService %s: %w", svc.Name, err)
	}
	return nil
}

func (g *Aggregator) forget(name string) {
	g.mu.Lock()
	changed := false
	for gv, r := range g.remotes {
		if r.name == name {
			r.close()
			delete(g.remotes, gv)
			changed = true
		}
	}
	g.mu.Unlock()
	if changed {
		g.publish()
	}
}
