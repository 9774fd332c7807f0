// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package plugins lists the admission plugins in their order and holds the small ones.
package plugins

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/version"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/admission/configured"
	"kogge.dev/kogge/apiserver/admission/eventratelimit"
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

// Config is what the plugins need; everything but Types and the switches is required.
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
	// Events records what webhooks have operators hear of; optional.
	Events func(about corev1.ObjectReference, kind, reason, format string, args ...any)
	// Choice is what is to differ from the default plugins.
	Choice Choice
}

// Choice of plugins.
type Choice struct {
	// Enabled names plugins that are off unless they are asked for, Disabled those that are to be left out. Both take the names of upstream's plugins,
	// but those that are missing here can only be left out.
	Enabled, Disabled []string
	// Configured are the plugins' own configurations.
	Configured configured.Plugins
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
	podSecurity, err := podsecurity.New(cfg.Reader, cfg.Choice.Configured.PodSecurity)
	if err != nil {
		return nil, err
	}
	eventRates, err := cfg.Choice.eventRates()
	if err != nil {
		return nil, err
	}
	served, err := version.Parse(apiVersion)
	if err != nil {
		return nil, fmt.Errorf("admission plugins: %w", err)
	}
	hooks := webhook.Config{Reader: cfg.Reader, Versions: cfg.Versions, Calls: cfg.Calls, Authorizer: cfg.Authorizer, Compiler: cfg.Compiler, Events: cfg.Events}
	r := cfg.Reader
	ranges := &limitranger.Plugin{Reader: r}
	accounts, priorities, runtimes := serviceAccount{r}, priority{r}, runtimeClass{r}
	pick := &picker{Choice: cfg.Choice}
	earlier := pick.of([]admission.Plugin{
		{Name: "NamespaceLifecycle", Mutate: namespaceLifecycle{r}},
		{Name: "LimitRanger", Mutate: ranges, Validate: ranges},
		{Name: "ServiceAccount", Mutate: accounts, Validate: accounts},
		{Name: "NodeRestriction", Mutate: &noderestriction.Plugin{Reader: r, NodeName: node.NameOf, Authorizer: cfg.Authorizer}},
		{Name: "TaintNodesByCondition", Mutate: taintNodes{}},
		{Name: podsecurity.Name, Validate: podSecurity},
		{Name: "Priority", Mutate: priorities, Validate: priorities},
		{Name: "DefaultTolerationSeconds", Mutate: defaultTolerations{}},
		{Name: eventratelimit.Name, Validate: eventRates},
		{Name: "DefaultStorageClass", Mutate: defaultStorageClass{r}},
		{Name: "StorageObjectInUseProtection", Mutate: storageInUse{}},
		{Name: "PersistentVolumeClaimResize", Validate: claimResize{r}},
		{Name: "RuntimeClass", Mutate: runtimes, Validate: runtimes},
		{Name: "CertificateApproval", Validate: certificateApproval{cfg.Authorizer}},
		{Name: "CertificateSigning", Validate: certificateSigning{cfg.Authorizer}},
		{Name: "CertificateSubjectRestriction", Validate: certificateSubject{}},
		{Name: "DefaultIngressClass", Mutate: defaultIngressClass{r}},
		{Name: denyExternalIPsName, Validate: denyExternalIPs{}},
		{Name: "PodTopologyLabels", Mutate: topologyLabels{r}},
		{Name: "NodeDeclaredFeatureValidator", Validate: declaredFeatures{r, served}},
		{Name: "PodResizeValidator", Validate: podResize{r}},
	})
	// No plugins upstream, and never off: there the storage of roles, bindings and definitions does it.
	earlier = append(earlier, admission.Plugin{Name: "RoleEscalation", Validate: escalation{cfg.Authorizer, cfg.RBAC}})
	policies := policy.Config{Reader: r, Versions: cfg.Versions, Authorizer: cfg.Authorizer, Compiler: cfg.Compiler, Types: cfg.Types}
	earlier = slices.Concat(earlier, pick.of([]admission.Plugin{{Name: "MutatingAdmissionPolicy", Mutate: policy.NewMutating(policies)}}))
	later := pick.of([]admission.Plugin{
		{Name: "MutatingAdmissionWebhook", Mutate: &admission.Reinvoking{Earlier: earlier, Last: webhook.NewMutating(hooks)}},
		{Name: "ValidatingAdmissionPolicy", Validate: policy.NewValidating(policies)},
		{Name: "ValidatingAdmissionWebhook", Validate: webhook.NewValidating(hooks)},
		{Name: "ResourceQuota", Validate: quota.New(r, cfg.UpdateQuota)},
	})
	if err := pick.check(); err != nil {
		return nil, err
	}
	return slices.Concat(earlier, later), nil
}

// optional plugins are off unless asked for.
var optional = []string{denyExternalIPsName, eventratelimit.Name}

// Plugins of upstream that are not here. Each may be turned off.
var (
	// idle do nothing in upstream's server either, with the kinds and features that are on by default: they may be turned on, too.
	idle = []string{"AlwaysAdmit", "ClusterTrustBundleAttest", "JobValidation", "PodGroupProtection", "PodGroupWorkloadExists"}
	// missing would do something. Who turns one on must not believe that it does.
	missing = []string{
		"AlwaysDeny", "AlwaysPullImages", "ExtendedResourceToleration", "ImagePolicyWebhook", "LimitPodHardAntiAffinityTopology", "NamespaceAutoProvision",
		"NamespaceExists", "OwnerReferencesPermissionEnforcement", "PodNodeSelector", "PodTolerationRestriction",
	}
)

// picker carries out a choice.
type picker struct {
	Choice
	// known are the names of all plugins that it picked from.
	known []string
}

// of returns those of some plugins that are not off.
func (p *picker) of(some []admission.Plugin) []admission.Plugin {
	var on []admission.Plugin
	for _, plugin := range some {
		p.known = append(p.known, plugin.Name)
		if !slices.Contains(p.Disabled, plugin.Name) && (slices.Contains(p.Enabled, plugin.Name) || !slices.Contains(optional, plugin.Name)) {
			on = append(on, plugin)
		}
	}
	return on
}

// check refuses names that no plugin has, to turn on what is not there, and what is to be both on and off. It comes last.
func (p *picker) check() error {
	for _, name := range slices.Concat(p.Enabled, p.Disabled) {
		switch {
		case slices.Contains(p.Enabled, name) && slices.Contains(missing, name):
			return fmt.Errorf("admission plugin %q is not part of kogge; a policy or webhook can do what it does", name)
		case slices.Contains(p.Enabled, name) && slices.Contains(p.Disabled, name):
			return fmt.Errorf("admission plugin %q is both enabled and disabled", name)
		case slices.Contains(idle, name) || slices.Contains(missing, name):
		case !slices.Contains(p.known, name):
			return fmt.Errorf("admission plugin %q is not one of %s", name, strings.Join(p.known, ", "))
		}
	}
	return nil
}

// eventRates makes the plugin that is off unless asked for, and has no limits of its own.
func (c *Choice) eventRates() (*eventratelimit.Plugin, error) {
	if c.Configured.EventRateLimit != nil {
		return eventratelimit.New(c.Configured.EventRateLimit), nil
	}
	if slices.Contains(c.Enabled, eventratelimit.Name) {
		return nil, errors.New("admission plugin EventRateLimit is enabled, but its limits are not configured")
	}
	return nil, nil
}
