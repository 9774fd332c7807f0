// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/internal/nearest"
)

// components that RunComponent knows.
var components = []string{"apiserver", "scheduler", "controllers", "cloud", "kubelet", "proxy", "dns"}

// RunComponent runs one component alone, against the API server of the kubeconfig that join.kubeconfig names.
func RunComponent(ctx context.Context, settings Settings, name string, console Console) error {
	switch name {
	case "apiserver":
		return Run(ctx, settings, RoleServer, console)
	case "scheduler", "controllers", "cloud":
		return runClient(ctx, settings, name, console)
	}
	if slices.Contains(components, name) {
		return fmt.Errorf("component %s can't run alone yet; run 'kogge agent'", name)
	}
	hint := ""
	if meant := nearest.To(name, components); meant != "" {
		hint = fmt.Sprintf("; did you mean %q?", meant)
	}
	return fmt.Errorf("component %q is not one of %s%s", name, strings.Join(components, ", "), hint)
}

// runClient runs a component of the control plane that is an API client. It acts as one identity, the kubeconfig's.
func runClient(ctx context.Context, settings Settings, name string, console Console) error {
	if settings.Join.Kubeconfig == "" {
		return errors.New("join.kubeconfig is not set: give --kubeconfig FILE with the component's identity")
	}
	c, _, server, err := connect(settings.Join.Kubeconfig)
	if err != nil {
		return err
	}
	identity := settings.Node.Name + "_" + settings.DataDir
	switch name {
	case "scheduler":
		return control.RunScheduler(ctx, control.SchedulerConfig{Client: c, Log: console.Log, Identity: identity})
	case "cloud":
		return control.RunCloud(ctx, control.CloudConfig{Client: c, Log: console.Log, Identity: identity})
	}
	ranges, err := prefixes(settings.Network.PodCIDRs)
	if err != nil {
		return err
	}
	ca, err := authorityOf(settings.Join.Kubeconfig)
	if err != nil {
		return err
	}
	return control.RunControllers(ctx, control.ControllersConfig{
		Manager: c, Account: func(string) *client.Client { return c }, Log: console.Log, Identity: identity,
		RootCA: ca, PodCIDRs: ranges, Server: server,
	})
}
