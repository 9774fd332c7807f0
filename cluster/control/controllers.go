// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/sync/errgroup"

	"kogge.dev/kogge/apiserver/authn/satoken"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/controllers/attachdetach"
	"kogge.dev/kogge/controllers/bootstrapsigner"
	"kogge.dev/kogge/controllers/clusterrole"
	"kogge.dev/kogge/controllers/cronjob"
	"kogge.dev/kogge/controllers/csrapproving"
	"kogge.dev/kogge/controllers/csrcleaner"
	"kogge.dev/kogge/controllers/csrsigning"
	"kogge.dev/kogge/controllers/daemonset"
	"kogge.dev/kogge/controllers/deployment"
	"kogge.dev/kogge/controllers/devicetainteviction"
	"kogge.dev/kogge/controllers/disruption"
	"kogge.dev/kogge/controllers/endpoints"
	"kogge.dev/kogge/controllers/endpointslice"
	"kogge.dev/kogge/controllers/endpointslicemirroring"
	"kogge.dev/kogge/controllers/ephemeralvolume"
	"kogge.dev/kogge/controllers/garbage"
	"kogge.dev/kogge/controllers/job"
	"kogge.dev/kogge/controllers/legacytokencleaner"
	"kogge.dev/kogge/controllers/localvolume"
	"kogge.dev/kogge/controllers/namespace"
	"kogge.dev/kogge/controllers/nodeipam"
	"kogge.dev/kogge/controllers/nodelifecycle"
	"kogge.dev/kogge/controllers/podautoscaler"
	"kogge.dev/kogge/controllers/podgc"
	"kogge.dev/kogge/controllers/pvbinder"
	"kogge.dev/kogge/controllers/pvcprotection"
	"kogge.dev/kogge/controllers/pvexpander"
	"kogge.dev/kogge/controllers/pvprotection"
	"kogge.dev/kogge/controllers/replicaset"
	"kogge.dev/kogge/controllers/resourceclaim"
	"kogge.dev/kogge/controllers/resourcequota"
	"kogge.dev/kogge/controllers/rootca"
	"kogge.dev/kogge/controllers/serviceaccount"
	"kogge.dev/kogge/controllers/serviceaccounttoken"
	"kogge.dev/kogge/controllers/servicecidr"
	"kogge.dev/kogge/controllers/statefulset"
	"kogge.dev/kogge/controllers/tainteviction"
	"kogge.dev/kogge/controllers/tokencleaner"
	"kogge.dev/kogge/controllers/ttl"
	"kogge.dev/kogge/controllers/ttlafterfinished"
	"kogge.dev/kogge/controllers/vacprotection"
	"kogge.dev/kogge/controllers/vapstatus"
	"kogge.dev/kogge/internal/pki"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/legacytoken"
)

// Names of the lease and identity of the controllers as a whole.
const (
	managerUser  = "system:kube-controller-manager"
	ManagerLease = "kube-controller-manager"
)

// ControllersConfig is what the controllers need besides an API server; they may run in a process of their own.
type ControllersConfig struct {
	// Manager is the client that all informers share; Account returns the client of one controller's service account.
	Manager *client.Client
	Account func(name string) *client.Client
	Log     *slog.Logger
	// Identity stands for leadership.
	Identity string
	// RootCA is the API server's certificate authority in PEM.
	RootCA []byte
	// Authority signs certificate requests; without its key none are signed.
	Authority pki.Pair
	// SignToken makes the tokens of secrets; nil leaves these secrets empty.
	SignToken serviceaccounttoken.Sign
	// Server is the API server's URL for joining nodes.
	Server   string
	PodCIDRs []netip.Prefix
	// Vitals are told how it goes; nil tells nobody.
	Vitals *Vitals
}

func (p *Plane) runControllers(ctx context.Context) error {
	tokens, err := satoken.NewIssuer(Issuer, p.config.Keys.ServiceAccounts)
	if err != nil {
		return err
	}
	return RunControllers(ctx, ControllersConfig{
		Manager: p.Client(managerUser), Account: p.ServiceAccount, Log: p.config.Log, Identity: p.config.Identity,
		RootCA: p.config.Keys.CA.CertPEM(), PodCIDRs: p.config.PodCIDRs, Authority: p.config.Keys.CA.Pair, SignToken: tokens.IssueSecret,
		Server: "https://" + net.JoinHostPort(p.config.Advertise.String(), strconv.Itoa(p.config.Port)),
	})
}

// TokenSigner returns what makes the tokens of secrets, with the private key of a file.
func TokenSigner(path string) (serviceaccounttoken.Sign, error) {
	key, err := pki.LoadKey(path)
	if err != nil {
		return nil, err
	}
	tokens, err := satoken.NewIssuer(Issuer, key)
	if err != nil {
		return nil, err
	}
	return tokens.IssueSecret, nil
}

// RunControllers stands for leadership and runs every controller while it leads.
func RunControllers(ctx context.Context, config ControllersConfig) error {
	elect := reconcile.ElectConfig{
		Client: config.Manager, Log: config.Log, Namespace: "kube-system", Name: ManagerLease, Identity: config.Identity,
	}
	return reconcile.Elect(ctx, elect, func(ctx context.Context) error { return lead(ctx, config) })
}

func lead(ctx context.Context, config ControllersConfig) error {
	g, ctx := errgroup.WithContext(ctx)
	informers := client.NewInformers(config.Manager, config.Log.With("component", "controllers"))
	scope := func(name string) reconcile.Scope {
		log := config.Log.With("component", name)
		own := config.Account(name)
		events := reconcile.NewRecorder(own, name, "", log)
		g.Go(func() error { return events.Run(ctx) })
		return reconcile.Scope{Client: own, Informers: informers, Events: events, Log: log}
	}
	loops := controllers(config, scope)
	config.Vitals.observe(loops)
	defer config.Vitals.lead(informers)()
	for _, loop := range loops {
		g.Go(func() error { return named(loop.Name(), loop.Run(ctx)) })
	}
	g.Go(func() error { return informers.Run(ctx) })
	return g.Wait()
}

// controllers lists every loop. The order is the reader's: nothing depends on it.
func controllers(config ControllersConfig, scope func(name string) reconcile.Scope) []*reconcile.Loop {
	loops := []*reconcile.Loop{
		// Workloads.
		deployment.New(scope("deployment-controller")),
		replicaset.New(scope("replicaset-controller")),
		replicaset.NewReplication(scope("replication-controller")),
		statefulset.New(scope("statefulset-controller")),
		daemonset.New(scope("daemon-set-controller")),
		job.New(scope("job-controller")),
		cronjob.New(scope("cronjob-controller")),
		ttlafterfinished.New(scope("ttl-after-finished-controller")),
		podautoscaler.New(scope("horizontal-pod-autoscaler")),
		disruption.New(scope("disruption-controller")),
		disruption.NewStale(scope("disruption-controller")),

		// Services.
		endpoints.New(scope("endpoint-controller")),
		endpointslice.New(scope("endpointslice-controller")),
		endpointslicemirroring.New(scope("endpointslicemirroring-controller")),
		servicecidr.New(scope("service-cidrs-controller")),

		// Nodes.
		nodeipam.New(scope("node-controller"), config.PodCIDRs),
		nodelifecycle.New(scope("node-controller")),
		tainteviction.New(scope("node-controller")),
		ttl.New(scope("ttl-controller")),
		podgc.New(scope("pod-garbage-collector")),

		// Trust: certificates on request, and the join by token.
		csrapproving.New(scope("certificate-controller")),
		csrcleaner.New(scope("certificate-controller")),
		bootstrapsigner.New(scope("bootstrap-signer"), config.Server, config.RootCA),
		tokencleaner.New(scope("token-cleaner")),
		legacytokencleaner.New(scope("legacy-service-account-token-cleaner"), legacytoken.Period),

		// Volumes.
		pvbinder.New(scope("persistent-volume-binder")),
		pvprotection.New(scope("pv-protection-controller")),
		pvcprotection.New(scope("pvc-protection-controller")),
		vacprotection.New(scope("volumeattributesclass-protection-controller")),
		ephemeralvolume.New(scope("ephemeral-volume-controller")),
		pvexpander.New(scope("expand-controller")),
		attachdetach.New(scope("attachdetach-controller")),
		localvolume.New(scope(localvolume.Name)),

		// Devices.
		resourceclaim.New(scope("resource-claim-controller")),
		resourceclaim.NewRelease(scope("resource-claim-controller")),
		devicetainteviction.New(scope("device-taint-eviction-controller")),

		// Namespaces and what is left over.
		namespace.New(scope("namespace-controller")),
		serviceaccount.New(scope("service-account-controller")),
		rootca.New(scope("root-ca-cert-publisher"), config.RootCA),
		resourcequota.New(scope("resourcequota-controller")),
		clusterrole.New(scope("clusterrole-aggregation-controller")),
		vapstatus.New(scope("validatingadmissionpolicy-status-controller")),
		garbage.New(scope("generic-garbage-collector")),
	}
	if config.SignToken != nil {
		// Upstream's has no account of its own either: it signs for all.
		own := scope("service-account-controller")
		own.Client = config.Manager
		loops = append(loops, serviceaccounttoken.New(own, config.SignToken, config.RootCA))
	}
	if config.Authority.Key != nil {
		loops = append(loops, csrsigning.New(scope("certificate-controller"), config.Authority))
	}
	return loops
}
