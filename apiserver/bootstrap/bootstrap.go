// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package bootstrap puts into a new cluster what every client expects to find: system namespaces, the default RBAC policy,
// priority classes, flow schemas, the kubernetes Service with its endpoints, the default ServiceCIDR, and the trust that
// extension API servers read. Every start repeats it; what is there already stays.
package bootstrap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	networkingv1 "k8s.io/api/networking/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	flowcontrol "k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/rules/legacytoken"
	"kogge.dev/kogge/store"
)

// Config is what the cluster starts with.
type Config struct {
	// Client acts as a member of system:masters. Required.
	Client *client.Client
	Logger *slog.Logger
	// ServiceCIDRs are the ranges of cluster IPs, the primary family first. Required.
	ServiceCIDRs []netip.Prefix
	// ServiceIP is the kubernetes Service's cluster IP; the zero value means the first address of the first range.
	ServiceIP netip.Addr
	// AdvertiseAddress and SecurePort are where this API server is reached. Required.
	AdvertiseAddress netip.Addr
	SecurePort       int32
	// Leases, when not nil, keeps this server's endpoint alive in the store beside those of other API servers. Nil means that
	// this server is the only one, and nothing is written periodically.
	Leases store.Store
	// LeaseTTL is after how long a dead server's endpoint is dropped; 0 means 15 s, as upstream.
	LeaseTTL time.Duration
	// ClientCA and ProxyCA (PEM) are what extension API servers trust: client certificates and the front proxy.
	ClientCA, ProxyCA []byte
	// ProxyNames are the common names of the front proxy's certificate.
	ProxyNames []string
	// Extra is policy besides the default one and AddOnPolicy.
	Extra Policy
}

func (c *Config) validate() error {
	switch {
	case c.Client == nil:
		return errors.New("bootstrap: no client")
	case len(c.ServiceCIDRs) == 0:
		return errors.New("bootstrap: no service CIDR")
	case !c.AdvertiseAddress.IsValid() || c.SecurePort == 0:
		return errors.New("bootstrap: no advertised address")
	}
	if !c.ServiceIP.IsValid() {
		c.ServiceIP = c.ServiceCIDRs[0].Masked().Addr().Next()
	}
	if c.LeaseTTL == 0 {
		c.LeaseTTL = 15 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Once brings everything into the cluster and returns when it is there. Call it when the handlers serve.
func Once(ctx context.Context, cfg Config) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	began := time.Now()
	c := cfg.Client
	if err := ensureAll(ctx, c, systemNamespaces(), nil); err != nil {
		return fmt.Errorf("system namespaces: %w", err)
	}
	policy, err := DefaultPolicy()
	if err != nil {
		return err
	}
	steps := []struct {
		name string
		run  func(ctx context.Context) error
	}{
		{"default policy", func(ctx context.Context) error { return applyPolicy(ctx, c, policy) }},
		{"add-on policy", func(ctx context.Context) error { return applyPolicy(ctx, c, AddOnPolicy()) }},
		{"extra policy", func(ctx context.Context) error { return applyPolicy(ctx, c, cfg.Extra) }},
		{"priority classes", func(ctx context.Context) error { return ensureAll(ctx, c, priorityClasses(), nil) }},
		{"flow control", func(ctx context.Context) error { return flowControl(ctx, c) }},
		{"service CIDR", func(ctx context.Context) error { return serviceCIDR(ctx, c, cfg.ServiceCIDRs) }},
		{"authentication trust", func(ctx context.Context) error { return Trust(ctx, &cfg) }},
		{"tracking of tokens in secrets", func(ctx context.Context) error { return tokenTracking(ctx, c) }},
		{"kubernetes service", func(ctx context.Context) error { return kubernetesService(ctx, &cfg) }},
	}
	// They don't depend on each other: the store syncs once for many of them.
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range steps {
		g.Go(func() error {
			if err := s.run(ctx); err != nil {
				return fmt.Errorf("bootstrap %s: %w", s.name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	cfg.Logger.Debug("bootstrap objects are in place", "duration", time.Since(began))
	return nil
}

// Run does Once and then keeps the kubernetes Service's endpoints in step with the API servers that are alive, until ctx
// ends; then it takes this server's endpoint away. ready, when not nil, is called after Once.
func Run(ctx context.Context, cfg Config, ready func()) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	if err := Once(ctx, cfg); err != nil {
		return err
	}
	if ready != nil {
		ready()
	}
	return runEndpoints(ctx, &cfg)
}

func systemNamespaces() []*corev1.Namespace {
	var out []*corev1.Namespace
	for _, name := range []string{metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease, metav1.NamespaceDefault} {
		out = append(out, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	return out
}

// Priorities of the two system classes; user classes stay below 1000000000.
const (
	systemCritical     = 2 * 1000000000
	systemNodeCritical = systemCritical + 1000
)

func priorityClasses() []*schedulingv1.PriorityClass {
	return []*schedulingv1.PriorityClass{{
		ObjectMeta:  metav1.ObjectMeta{Name: "system-node-critical"},
		Value:       systemNodeCritical,
		Description: "Used for system critical pods that must not be moved from their current node.",
	}, {
		ObjectMeta:  metav1.ObjectMeta{Name: "system-cluster-critical"},
		Value:       systemCritical,
		Description: "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
	}}
}

const flowAutoUpdate = "apf.kubernetes.io/autoupdate-spec"

func flowControl(ctx context.Context, c *client.Client) error {
	levels := append(copies(flowcontrol.MandatoryPriorityLevelConfigurations), copies(flowcontrol.SuggestedPriorityLevelConfigurations)...)
	for _, l := range levels {
		l.Annotations = map[string]string{flowAutoUpdate: "true"}
	}
	if err := ensureAll(ctx, c, levels, func(old, want *flowcontrolv1.PriorityLevelConfiguration) (*flowcontrolv1.PriorityLevelConfiguration, bool) {
		if !autoUpdated(old) || equal.Semantic(old.Spec, want.Spec) {
			return nil, false
		}
		next := old.DeepCopy()
		next.Spec = *want.Spec.DeepCopy()
		return next, true
	}); err != nil {
		return err
	}
	schemas := append(copies(flowcontrol.MandatoryFlowSchemas), copies(flowcontrol.SuggestedFlowSchemas)...)
	for _, s := range schemas {
		s.Annotations = map[string]string{flowAutoUpdate: "true"}
	}
	return ensureAll(ctx, c, schemas, func(old, want *flowcontrolv1.FlowSchema) (*flowcontrolv1.FlowSchema, bool) {
		if !autoUpdated(old) || equal.Semantic(old.Spec, want.Spec) {
			return nil, false
		}
		next := old.DeepCopy()
		next.Spec = *want.Spec.DeepCopy()
		return next, true
	})
}

// autoUpdated: without the annotation, the first generation is still what a start wrote.
func autoUpdated(obj metav1.Object) bool {
	if v, ok := obj.GetAnnotations()[flowAutoUpdate]; ok {
		return v == "true"
	}
	return obj.GetGeneration() == 1
}

func copies[T interface{ DeepCopy() T }](in []T) []T {
	out := make([]T, len(in))
	for i := range in {
		out[i] = in[i].DeepCopy()
	}
	return out
}

// serviceCIDR makes the default ServiceCIDR and marks it ready; the allocator accepts addresses of ready ranges only.
func serviceCIDR(ctx context.Context, c *client.Client, ranges []netip.Prefix) error {
	r := client.Of[*networkingv1.ServiceCIDR](c)
	want := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}}
	for _, p := range ranges {
		want.Spec.CIDRs = append(want.Spec.CIDRs, p.Masked().String())
	}
	have, err := r.Get(ctx, "", want.Name)
	if apierrors.IsNotFound(err) {
		have, err = r.Create(ctx, want)
		if apierrors.IsAlreadyExists(err) {
			have, err = r.Get(ctx, "", want.Name)
		}
	}
	if err != nil {
		return err
	}
	if !equal.Semantic(have.Spec.CIDRs, want.Spec.CIDRs) {
		if len(have.Spec.CIDRs) != 1 || len(want.Spec.CIDRs) != 2 || have.Spec.CIDRs[0] != want.Spec.CIDRs[0] {
			// The cluster's range is fixed at birth; a second family may be added.
			return fmt.Errorf("the cluster was made with service ranges %v, the configuration says %v", have.Spec.CIDRs, want.Spec.CIDRs)
		}
		next := have.DeepCopy()
		next.Spec.CIDRs = want.Spec.CIDRs
		if have, err = r.Update(ctx, next); err != nil {
			return err
		}
	}
	if apimeta.FindStatusCondition(have.Status.Conditions, networkingv1.ServiceCIDRConditionReady) != nil {
		return nil
	}
	next := have.DeepCopy()
	apimeta.SetStatusCondition(&next.Status.Conditions, metav1.Condition{
		Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue, Message: "Kubernetes default Service CIDR is ready", Reason: "",
		LastTransitionTime: metav1.Now(),
	})
	_, err = r.UpdateStatus(ctx, next)
	if apierrors.IsConflict(err) {
		return nil // another API server, or the controller, was there first
	}
	return err
}

// tokenTracking says since when the use of service account tokens in secrets is noted: since this cluster's first start, or since
// somebody spoiled what was said.
func tokenTracking(ctx context.Context, c *client.Client) error {
	want := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: legacytoken.TrackingName},
		Data:       map[string]string{legacytoken.TrackingKey: legacytoken.Day(time.Now())},
	}
	return ensureOne(ctx, client.Of[*corev1.ConfigMap](c), want, func(old, want *corev1.ConfigMap) (*corev1.ConfigMap, bool) {
		if legacytoken.IsDay(old.Data[legacytoken.TrackingKey]) {
			return nil, false
		}
		next := old.DeepCopy()
		next.Data = want.Data
		return next, true
	})
}

// Trust publishes what extension API servers need to believe us: the client CA and the front proxy's.
func Trust(ctx context.Context, cfg *Config) error {
	data := map[string]string{}
	if len(cfg.ClientCA) > 0 {
		data["client-ca-file"] = string(cfg.ClientCA)
	}
	if len(cfg.ProxyCA) > 0 {
		names, err := json.Marshal(append([]string{}, cfg.ProxyNames...))
		if err != nil {
			return err
		}
		data["requestheader-client-ca-file"] = string(cfg.ProxyCA)
		data["requestheader-allowed-names"] = string(names)
		data["requestheader-username-headers"] = `["X-Remote-User"]`
		data["requestheader-uid-headers"] = `["X-Remote-Uid"]`
		data["requestheader-group-headers"] = `["X-Remote-Group"]`
		data["requestheader-extra-headers-prefix"] = `["X-Remote-Extra-"]`
	}
	if len(data) == 0 {
		return nil
	}
	r := client.Of[*corev1.ConfigMap](cfg.Client)
	want := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "extension-apiserver-authentication"}, Data: data}
	return ensureOne(ctx, r, want, func(old, want *corev1.ConfigMap) (*corev1.ConfigMap, bool) {
		if equal.Semantic(old.Data, want.Data) {
			return nil, false
		}
		next := old.DeepCopy()
		next.Data = want.Data
		return next, true
	})
}
