// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package plugins lists the admission plugins in their order and holds the small ones.
package plugins

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/version"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/admission/limitranger"
	"kogge.dev/kogge/apiserver/admission/noderestriction"
	"kogge.dev/kogge/apiserver/admission/podsecurity"
	"kogge.dev/kogge/apiserver/admission/policy"
	"kogge.dev/kogge/apiserver/admission/quota"
	"kogge.dev/kogge/apiserver/admission/versions"
	"kogge.dev/kogge/apiserver/admission/webhook"
	"kogge.dev/kogge/apiserver/aggregation/outcall"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/authz/node"
	"kogge.dev/kogge/apiserver/authz/rbac"
	"kogge.dev/kogge/expr"
)

// apiVersion is the Kubernetes version that we serve.
const apiVersion = "1.36.3"

// Config is what the plugins need; everything but Types, Extra and the switches is required.
type Config struct {
	Reader admission.Reader
	// Authorizer is the whole chain, RBAC its RBAC part.
	Authorizer authz.Authorizer
	RBAC       *rbac.Authorizer
	// Versions shows objects to webhooks and policies.
	Versions *versions.Converter
	// Calls reaches webhooks.
	Calls    *outcall.Client
	Compiler *expr.Compiler
	// UpdateQuota stores a quota's status.
	UpdateQuota quota.Update
	// Types gives the converters by which policies' apply configurations are merged; nil refuses those.
	Types func(gvr schema.GroupVersionResource) (managedfields.TypeConverter, error)
	// Extra plugins run before policies and webhooks (crd.Rules).
	Extra []admission.Plugin

	// DenyServiceExternalIPs switches that plugin on.
	DenyServiceExternalIPs bool
}

func (c *Config) validate() error {
	if c.Reader == nil || c.Authorizer == nil || c.RBAC == nil || c.Versions == nil || c.Versions.Lookup == nil || c.Calls == nil || c.Compiler == nil || c.UpdateQuota == nil {
		return errors.New("admission plugins: a required part is missing")
	}
	return nil
}

// Default returns the plugins in upstream's order, which is the order of both passes:
//
//   - NamespaceLifecycle first: nothing else matters in a namespace that is not there;
//   - what completes pods (limits, service account, priority, tolerations, classes) before what judges them;
//   - policies before webhooks, which may call out, and mutating ones before validating ones;
//   - ResourceQuota last: what it has charged must not be refused by anybody after it.
func Default(cfg Config) ([]admission.Plugin, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	podSecurity, err := podsecurity.New(cfg.Reader)
	if err != nil {
		return nil, err
	}
	served, err := version.Parse(apiVersion)
	if err != nil {
		return nil, fmt.Errorf("admission plugins: %w", err)
	}
	hooks := webhook.Config{Reader: cfg.Reader, Versions: cfg.Versions, Calls: cfg.Calls, Authorizer: cfg.Authorizer, Compiler: cfg.Compiler}
	r := cfg.Reader
	ranges := &limitranger.Plugin{Reader: r}
	accounts, priorities, runtimes := serviceAccount{r}, priority{r}, runtimeClass{r}
	mutating := []admission.Plugin{
		{Name: "NamespaceLifecycle", Mutate: namespaceLifecycle{r}},
		{Name: "LimitRanger", Mutate: ranges, Validate: ranges},
		{Name: "ServiceAccount", Mutate: accounts, Validate: accounts},
		{Name: "NodeRestriction", Mutate: &noderestriction.Plugin{Reader: r, NodeName: node.NameOf, Authorizer: cfg.Authorizer}},
		{Name: "TaintNodesByCondition", Mutate: taintNodes{}},
		{Name: "PodSecurity", Validate: podSecurity},
		{Name: "Priority", Mutate: priorities, Validate: priorities},
		{Name: "DefaultTolerationSeconds", Mutate: defaultTolerations{}},
		{Name: "DefaultStorageClass", Mutate: defaultStorageClass{r}},
		{Name: "StorageObjectInUseProtection", Mutate: storageInUse{}},
		{Name: "PersistentVolumeClaimResize", Validate: claimResize{r}},
		{Name: "RuntimeClass", Mutate: runtimes, Validate: runtimes},
		{Name: "CertificateApproval", Validate: certificateApproval{cfg.Authorizer}},
		{Name: "CertificateSigning", Validate: certificateSigning{cfg.Authorizer}},
		{Name: "CertificateSubjectRestriction", Validate: certificateSubject{}},
		{Name: "DefaultIngressClass", Mutate: defaultIngressClass{r}},
		{Name: "PodTopologyLabels", Mutate: topologyLabels{r}},
		{Name: "NodeDeclaredFeatureValidator", Validate: declaredFeatures{r, served}},
		{Name: "PodResizeValidator", Validate: podResize{r}},
		// Not a plugin upstream: there the storage of roles and bindings does it.
		{Name: "RoleEscalation", Validate: escalation{cfg.Authorizer, cfg.RBAC}},
	}
	if cfg.DenyServiceExternalIPs {
		mutating = append(mutating, admission.Plugin{Name: "DenyServiceExternalIPs", Validate: denyExternalIPs{}})
	}
	policies := policy.Config{Reader: r, Versions: cfg.Versions, Authorizer: cfg.Authorizer, Compiler: cfg.Compiler, Types: cfg.Types}
	mutating = append(mutating, cfg.Extra...)
	mutating = append(mutating, admission.Plugin{Name: "MutatingAdmissionPolicy", Mutate: policy.NewMutating(policies)})
	return append(mutating,
		admission.Plugin{Name: "MutatingAdmissionWebhook", Mutate: &admission.Reinvoking{Earlier: mutating, Last: webhook.NewMutating(hooks)}},
		admission.Plugin{Name: "ValidatingAdmissionPolicy", Validate: policy.NewValidating(policies)},
		admission.Plugin{Name: "ValidatingAdmissionWebhook", Validate: webhook.NewValidating(hooks)},
		admission.Plugin{Name: "ResourceQuota", Validate: quota.New(r, cfg.UpdateQuota)},
	), nil
}
