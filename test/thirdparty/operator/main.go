// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Command operator is built with controller-runtime, as operators are: a manager with a cache, leader election, webhooks, metrics and health
// checks. It keeps one ConfigMap for each ship of a Fleet:
//
//	operator -certs DIR [-namespace NAMESPACE]   runs it
//	operator -suite CRDS                          runs its envtest suite against the cluster of KUBECONFIG
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

const finalizer = "sea.example/fleet"

func main() {
	certs := flag.String("certs", "/certs", "folder with the webhooks' tls.crt and tls.key")
	namespace := flag.String("namespace", "default", "namespace of the leader's lease")
	suite := flag.String("suite", "", "folder of definitions: run the suite instead")
	flag.Parse()
	log.SetLogger(zap.New())
	ctx := ctrl.SetupSignalHandler()
	run := func() error { return operate(ctx, *certs, *namespace) }
	if *suite != "" {
		run = func() error { return test(ctx, *suite) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	addToScheme(scheme)
	return scheme, clientgoscheme.AddToScheme(scheme)
}

func operate(ctx context.Context, certs, namespace string) error {
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, LeaderElection: true, LeaderElectionID: "fleets.sea.example", LeaderElectionNamespace: namespace, LeaderElectionReleaseOnCancel: true,
		WebhookServer: webhook.NewServer(webhook.Options{Port: 9443, CertDir: certs}), Metrics: server.Options{BindAddress: ":8080"}, HealthProbeBindAddress: ":8081",
	})
	if err != nil {
		return err
	}
	r := &reconciler{Client: mgr.GetClient(), events: mgr.GetEventRecorder("fleets")}
	// Webhooks answer on every replica, the controller works on the leader.
	if err := errors.Join(
		ctrl.NewControllerManagedBy(mgr).For(&Fleet{}).Owns(&corev1.ConfigMap{}).Complete(r),
		ctrl.NewWebhookManagedBy(mgr, &Fleet{}).WithDefaulter(rules{}).WithValidator(rules{}).Complete(),
		mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("webhooks", mgr.GetWebhookServer().StartedChecker()),
		mgr.GetFieldIndexer().IndexField(ctx, &corev1.ConfigMap{}, "fleet", func(o client.Object) []string {
			if owner := metav1.GetControllerOf(o); owner != nil && owner.Kind == "Fleet" {
				return []string{owner.Name}
			}
			return nil
		}),
	); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// rules are the webhooks.
type rules struct{}

func (rules) Default(_ context.Context, f *Fleet) error {
	if f.Spec.Home == "" {
		f.Spec.Home = "Lübeck"
	}
	return nil
}

func (rules) ValidateCreate(_ context.Context, f *Fleet) (admission.Warnings, error) {
	if f.Spec.Home == "Visby" {
		return nil, errors.New("blockaded: Visby")
	}
	if f.Spec.Ships > 50 {
		return admission.Warnings{"that is more ships than the League has"}, nil
	}
	return nil, nil
}

func (r rules) ValidateUpdate(ctx context.Context, _, f *Fleet) (admission.Warnings, error) {
	return r.ValidateCreate(ctx, f)
}

func (rules) ValidateDelete(context.Context, *Fleet) (admission.Warnings, error) { return nil, nil }

type reconciler struct {
	client.Client
	events events.EventRecorder
}

// Reconcile makes ship after ship, deletes those that are too many, and reports.
func (r *reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var f Fleet
	if err := r.Get(ctx, req.NamespacedName, &f); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !f.DeletionTimestamp.IsZero() {
		log.FromContext(ctx).Info("fleet is dissolved")
		if controllerutil.RemoveFinalizer(&f, finalizer) {
			return ctrl.Result{}, client.IgnoreNotFound(r.Update(ctx, &f))
		}
		return ctrl.Result{}, nil
	}
	if controllerutil.AddFinalizer(&f, finalizer) {
		return ctrl.Result{}, r.Update(ctx, &f)
	}
	var ships corev1.ConfigMapList
	if err := r.List(ctx, &ships, client.InNamespace(f.Namespace), client.MatchingFields{"fleet": f.Name}); err != nil {
		return ctrl.Result{}, err
	}
	for i := range f.Spec.Ships {
		ship := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: f.Namespace, Name: fmt.Sprintf("%s-%d", f.Name, i)}}
		done, err := controllerutil.CreateOrUpdate(ctx, r.Client, ship, func() error {
			ship.Data = map[string]string{"home": f.Spec.Home}
			return controllerutil.SetControllerReference(&f, ship, r.Scheme())
		})
		if err != nil {
			return ctrl.Result{}, err
		}
		if done == controllerutil.OperationResultCreated {
			r.events.Eventf(&f, ship, corev1.EventTypeNormal, "Launched", "Launch", "launched %s", ship.Name)
		}
	}
	for i := range ships.Items {
		var number int
		if _, err := fmt.Sscanf(ships.Items[i].Name, f.Name+"-%d", &number); err == nil && number >= f.Spec.Ships {
			if err := r.Delete(ctx, &ships.Items[i]); client.IgnoreNotFound(err) != nil {
				return ctrl.Result{}, err
			}
		}
	}
	before := f.DeepCopyObject().(*Fleet)
	f.Status.Ships = f.Spec.Ships
	meta.SetStatusCondition(&f.Status.Conditions, metav1.Condition{
		Type: "Complete", Status: metav1.ConditionTrue, Reason: "AllLaunched", ObservedGeneration: f.Generation, Message: fmt.Sprintf("%d ships", f.Spec.Ships),
	})
	err := r.Status().Patch(ctx, &f, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	return ctrl.Result{}, client.IgnoreNotFound(err)
}
