// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// test is what operators' suites do with envtest: it installs the definitions in an existing cluster, runs a manager of its own against
// it, and uninstalls them.
func test(ctx context.Context, dir string) (err error) {
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	if err := apiextensionsv1.AddToScheme(scheme); err != nil {
		return err
	}
	existing := true
	env := &envtest.Environment{
		UseExistingCluster: &existing, Scheme: scheme,
		CRDInstallOptions: envtest.CRDInstallOptions{Paths: []string{dir}, ErrorIfPathMissing: true, CleanUpAfterUse: true},
	}
	config, err := env.Start()
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	stopped := false
	defer func() {
		if !stopped {
			err = errors.Join(err, env.Stop())
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	mgr, err := ctrl.NewManager(config, ctrl.Options{Scheme: scheme, Metrics: server.Options{BindAddress: "0"}})
	if err != nil {
		return err
	}
	seen := make(chan string, 16) // more than there are reconciles
	note := reconcile.Func(func(_ context.Context, req ctrl.Request) (ctrl.Result, error) {
		seen <- req.Name
		return ctrl.Result{}, nil
	})
	if err := ctrl.NewControllerManagedBy(mgr).For(&Fleet{}).Named("suite").Complete(note); err != nil {
		return err
	}
	run, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(run) }()
	defer func() {
		end()
		err = errors.Join(err, <-ended)
	}()
	c := mgr.GetClient()
	fleet := &Fleet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "suite"}, Spec: FleetSpec{Ships: 1}}
	if err := c.Create(ctx, fleet); err != nil {
		return err
	}
	select {
	case name := <-seen:
		fmt.Fprintln(os.Stdout, "reconciled", name)
	case <-ctx.Done():
		return errors.New("no reconcile")
	}
	// Refused by the schema, read through the cache, deleted with a precondition.
	wrong := &Fleet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "wrong"}, Spec: FleetSpec{Ships: -1}}
	if err := c.Create(ctx, wrong); err == nil {
		return errors.New("a fleet of -1 ships was created")
	}
	if err := c.Get(ctx, client.ObjectKeyFromObject(fleet), fleet); err != nil {
		return err
	}
	if err := c.Delete(ctx, fleet, client.Preconditions{UID: &fleet.UID}); err != nil {
		return err
	}
	err = wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		var list FleetList
		err := c.List(ctx, &list)
		return len(list.Items) == 0, err
	})
	if err != nil {
		return err
	}
	stopped = true
	if err := env.Stop(); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	fmt.Fprintln(os.Stdout, "suite passed")
	return nil
}
