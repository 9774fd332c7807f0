// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package crd serves custom resources: it watches their definitions, accepts names, makes a resource of each definition, takes it away again
// with all its objects, and keeps the definition's conditions.
package crd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/apiserver/aggregation/outcall"
	"kogge.dev/kogge/apiserver/discovery"
	"kogge.dev/kogge/apiserver/openapi"
	"kogge.dev/kogge/apiserver/rest"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/internal/residency"
	"kogge.dev/kogge/patch"
	"kogge.dev/kogge/reconcile"
)

const finalizer = apiextensionsv1.CustomResourceCleanupFinalizer

// Engine serves resources; *rest.Engine does.
type Engine interface {
	Add(ctx context.Context, r *rest.Resource) error
	Remove(gr schema.GroupResource)
}

var _ Engine = (*rest.Engine)(nil)

// Config of a Controller. All but OpenAPI, Changed and Dropped are required.
type Config struct {
	// Client acts as a member of system:masters.
	Client   *client.Client
	Engine   Engine
	Registry *discovery.Registry
	// OpenAPI publishes the schemas; optional.
	OpenAPI *openapi.Service
	Calls   *outcall.Client
	Logger  *slog.Logger
	// Changed is called, from the controller's goroutine, after the set of served versions or their schemas changed.
	Changed func()
	// Dropped is called, from the same goroutine, after a resource has stopped being served; optional.
	Dropped func(schema.GroupResource)
}

// Controller is the driver of all definitions of one API server.
type Controller struct {
	cfg   Config
	ready chan struct{}
	// read reads a definition for what is served of it.
	read reader

	mu     sync.RWMutex
	served map[string]*served // by definition name

	// The rest is used by the one goroutine that reconciles.
	informer *client.Informer[*apiextensionsv1.CustomResourceDefinition]
	loop     *reconcile.Loop
	// quiet is set while publishing is put off.
	quiet bool
	// published is what discovery and OpenAPI were told, by group: what others have is not described anew for each definition.
	published map[string]published
}

// New makes a controller.
func New(cfg Config) (*Controller, error) {
	if cfg.Client == nil || cfg.Engine == nil || cfg.Registry == nil || cfg.Calls == nil || cfg.Logger == nil {
		return nil, errors.New("crd: a required part is missing")
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	if cfg.Dropped == nil {
		cfg.Dropped = func(schema.GroupResource) {}
	}
	c := &Controller{cfg: cfg, ready: make(chan struct{}), served: map[string]*served{}, published: map[string]published{}}
	c.read = func(ctx context.Context, name string) (*apiextensionsv1.CustomResourceDefinition, error) {
		return c.crds().Get(ctx, "", name)
	}
	return c, nil
}

// Ready is closed when all definitions that were there at the start are served.
func (c *Controller) Ready() <-chan struct{} { return c.ready }

// Run serves definitions until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	informers := client.NewInformers(c.cfg.Client, c.cfg.Logger)
	c.informer = reconcile.Definitions(informers)
	c.loop = reconcile.New(reconcile.Config{Name: "custom-resource-definitions", Log: c.cfg.Logger, Informers: informers, Reconcile: c.reconcile})
	reconcile.Self(c.loop, c.informer)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return informers.Run(ctx) })
	g.Go(func() error {
		if err := informers.WaitSynced(ctx); err != nil {
			return nil //nolint:nilerr // ctx ended
		}
		c.serveAll(ctx)
		close(c.ready)
		return c.loop.Run(ctx)
	})
	return g.Wait()
}

// serveAll serves what is there at the start, and publishes once: documents cover all definitions, so that publishing after each would make
// the start quadratic.
func (c *Controller) serveAll(ctx context.Context) {
	c.quiet = true
	for _, crd := range c.informer.List("") {
		if err := c.reconcile(ctx, reconcile.KeyOf(crd)); err != nil && ctx.Err() == nil {
			c.cfg.Logger.Debug("definition will be looked at again", "object", crd.Name, "err", err)
		}
	}
	c.quiet = false
	groups := map[string]bool{}
	for _, s := range c.served {
		groups[s.crd.Spec.Group] = true
	}
	c.publish(slices.Collect(maps.Keys(groups))...)
}

func (c *Controller) crds() client.Resource[*apiextensionsv1.CustomResourceDefinition] {
	return client.Of[*apiextensionsv1.CustomResourceDefinition](c.cfg.Client)
}

// reconcile brings one definition and what is served of it together:
//
//  1. names: accepted unless another definition of the group has them;
//  2. the resource in the engine, discovery and OpenAPI;
//  3. the conditions, Established last: who sees it can use the resource.
//
// A definition that is being deleted has a finalizer, set with the time of its deletion: objects never outlive it.
func (c *Controller) reconcile(ctx context.Context, key reconcile.Key) error {
	outline, ok := c.informer.Get("", key.Name)
	if !ok {
		if group := c.drop(key.Name); group != "" {
			c.requeueGroup(group)
		}
		return nil
	}
	if c.settled(outline) {
		return nil
	}
	crd, err := c.crds().Get(ctx, "", key.Name) // with its schemas
	if err != nil {
		return ignoreGone(err)
	}
	if crd.DeletionTimestamp != nil {
		return c.terminate(ctx, crd)
	}
	next := new(*crd) // Only its status becomes another one.
	crd.Status.DeepCopyInto(&next.Status)
	c.judgeNames(next)
	if mayBeUnstructural(crd) {
		judgeSchemas(next)
	}
	judgeApproval(next)
	accepted := apihelpers.IsCRDConditionTrue(next, apiextensionsv1.NamesAccepted)
	usable := accepted || apihelpers.IsCRDConditionTrue(crd, apiextensionsv1.Established)
	if !usable {
		apihelpers.SetCRDCondition(next, condition(apiextensionsv1.Established, apiextensionsv1.ConditionFalse, "NotAccepted", "not all names are accepted"))
		_, err := c.writeStatus(ctx, crd, next)
		return err
	}
	if err := c.serve(ctx, next); err != nil {
		return err
	}
	if !apihelpers.IsCRDConditionTrue(next, apiextensionsv1.Established) {
		apihelpers.SetCRDCondition(next, condition(apiextensionsv1.Established, apiextensionsv1.ConditionTrue, "InitialNamesAccepted", "the initial names have been accepted"))
	}
	for i := range next.Spec.Versions {
		v := &next.Spec.Versions[i]
		if v.Storage && !slices.Contains(next.Status.StoredVersions, v.Name) {
			next.Status.StoredVersions = append(next.Status.StoredVersions, v.Name)
		}
	}
	stored, err := c.writeStatus(ctx, crd, next)
	if err == nil && accepted { // Names that are not may be free later.
		c.settle(stored)
	}
	return err
}

// settled reports whether a definition is as the last look at it left it: nothing is to be done then.
func (c *Controller) settled(crd *apiextensionsv1.CustomResourceDefinition) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	s := c.served[crd.Name]
	return s != nil && s.settled == crd.ResourceVersion
}

// settle notes that nothing is to be done for a definition until it changes.
func (c *Controller) settle(crd metav1.Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.served[crd.GetName()]; s != nil {
		s.settled = crd.GetResourceVersion()
	}
}

func condition(t apiextensionsv1.CustomResourceDefinitionConditionType, status apiextensionsv1.ConditionStatus, reason, message string) apiextensionsv1.CustomResourceDefinitionCondition {
	return apiextensionsv1.CustomResourceDefinitionCondition{Type: t, Status: status, Reason: reason, Message: message}
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// writeStatus gives a definition another status, unless it has changed meanwhile, and returns the metadata of what is stored then. A patch says so without the
// schemas, which are most of a definition.
func (c *Controller) writeStatus(ctx context.Context, old, next *apiextensionsv1.CustomResourceDefinition) (metav1.Object, error) {
	if equal.Semantic(old.Status, next.Status) {
		return old, nil
	}
	body, err := json.Marshal([]patch.Operation{
		{Op: "replace", Path: "/metadata/resourceVersion", Value: old.ResourceVersion},
		{Op: "replace", Path: "/status", Value: next.Status},
	})
	if err != nil {
		return nil, fmt.Errorf("status of %s: %w", old.Name, err)
	}
	stored, err := client.MetadataOf(c.crds()).Patch(ctx, "", old.Name, types.JSONPatchType, body, "status")
	if err != nil {
		return old, ignoreGone(err)
	}
	if !reflect.DeepEqual(old.Status.AcceptedNames, next.Status.AcceptedNames) {
		c.requeueGroup(old.Spec.Group)
	}
	return stored, nil
}

// requeueGroup looks again at definitions whose names were taken.
func (c *Controller) requeueGroup(group string) {
	for _, other := range c.informer.List("") {
		if other.Spec.Group == group && !apihelpers.IsCRDConditionTrue(other, apiextensionsv1.NamesAccepted) {
			c.loop.Enqueue(reconcile.KeyOf(other))
		}
	}
}

// serve puts the definition into the engine unless it is there in the same form.
func (c *Controller) serve(ctx context.Context, crd *apiextensionsv1.CustomResourceDefinition) error {
	c.mu.RLock()
	old := c.served[crd.Name]
	c.mu.RUnlock()
	if old != nil && old.revision == revisionOf(crd) {
		return nil
	}
	convert, err := newConverter(crd, c.cfg.Calls)
	if err != nil {
		return reconcile.Terminal(err)
	}
	s, err := newServed(crd, convert, c.read)
	if err != nil {
		return reconcile.Terminal(err)
	}
	if s == nil {
		c.drop(crd.Name)
		return nil
	}
	if err := c.cfg.Engine.Add(ctx, &s.resource); err != nil {
		return fmt.Errorf("serve %s: %w", crd.Name, err)
	}
	c.mu.Lock()
	c.served[s.crd.Name] = s
	c.mu.Unlock()
	residency.Dense()
	c.publish(s.crd.Spec.Group)
	return nil
}

// drop stops serving a definition and returns its group, or nothing if it was not served.
func (c *Controller) drop(name string) string {
	c.mu.Lock()
	s := c.served[name]
	delete(c.served, name)
	c.mu.Unlock()
	if s == nil {
		return ""
	}
	c.cfg.Engine.Remove(s.resource.GroupResource())
	c.cfg.Dropped(s.resource.GroupResource())
	c.publish(s.crd.Spec.Group)
	return s.crd.Spec.Group
}

// published is a group as discovery and OpenAPI know it.
type published struct {
	discovery *discovery.Group
	documents map[string]openapi.Source
}

// publish tells discovery and OpenAPI of what is served of some groups now.
func (c *Controller) publish(groups ...string) {
	if c.quiet {
		return
	}
	for _, group := range groups {
		shown := c.group(group)
		if shown == nil {
			delete(c.published, group)
			continue
		}
		c.published[group] = published{discovery: shown, documents: c.documents(group)}
	}
	all, documents := make([]*discovery.Group, 0, len(c.published)), make(map[string]openapi.Source, 2*len(c.published))
	for _, p := range c.published {
		all = append(all, p.discovery)
		maps.Copy(documents, p.documents)
	}
	slices.SortFunc(all, func(a, b *discovery.Group) int { return compareText(a.Discovery.Name, b.Discovery.Name) })
	c.cfg.Registry.Set("crd", all)
	if c.cfg.OpenAPI != nil {
		c.cfg.OpenAPI.Set("crd", documents)
	}
	c.cfg.Changed()
}

// Version is one served version of a definition, for OpenAPI.
type Version struct {
	schema.GroupVersionKind
	ListKind, Plural          string
	Namespaced, Status, Scale bool
	// Selectable are the paths of the fields that objects can be selected by.
	Selectable []string
	// Definition is the schema's name in the documents.
	Definition string
	// Schema makes the schema as OpenAPI v3 documents hold it, with apiVersion, kind and metadata.
	Schema func() (json.RawMessage, error)
}

// servedOf returns what is served of a group, in no order.
func (c *Controller) servedOf(group string) (out []*served) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, s := range c.served {
		if s.crd.Spec.Group == group {
			out = append(out, s)
		}
	}
	return out
}

// versionsOf returns everything that is served of a group at a version, sorted by plural.
func (c *Controller) versionsOf(group, version string) []Version {
	var out []Version
	for _, s := range c.servedOf(group) {
		v := s.version(version)
		if v == nil || !v.spec.Served {
			continue
		}
		gvk := s.gvk(version)
		out = append(out, Version{
			GroupVersionKind: gvk, ListKind: s.names.ListKind, Plural: s.names.Plural,
			Namespaced: s.crd.Spec.Scope == apiextensionsv1.NamespaceScoped, Status: v.hasStatus(),
			Scale:      v.hasScale(),
			Selectable: s.selectable(version), Definition: definitionName(gvk),
			Schema: func() (json.RawMessage, error) { return s.render(version) },
		})
	}
	slices.SortFunc(out, func(a, b Version) int { return strings.Compare(a.Plural, b.Plural) })
	return out
}

// GroupVersions returns the group-versions that definitions serve, sorted.
func (c *Controller) GroupVersions() []schema.GroupVersion {
	c.mu.RLock()
	defer c.mu.RUnlock()
	seen := map[schema.GroupVersion]bool{}
	for _, s := range c.served {
		for i := range s.crd.Spec.Versions {
			if v := &s.crd.Spec.Versions[i]; v.Served {
				seen[schema.GroupVersion{Group: s.crd.Spec.Group, Version: v.Name}] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(seen), func(a, b schema.GroupVersion) int { return compareText(a.Group, b.Group, a.Version, b.Version) })
}

// settleDelay is how long the controller waits between looks at instances that are being deleted.
const settleDelay = 250 * time.Millisecond
