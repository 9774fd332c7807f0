// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strconv"

	"kogge.dev/kogge/cri/containerd/embedded"
)

// precheck looks for what would stop a start half-way, before anything is made on the machine.
func precheck(ctx context.Context, settings Settings, role Role) error {
	if err := precheckNode(settings, role); err != nil {
		return err
	}
	if err := owned(settings.DataDir); err != nil {
		return err
	}
	if role != RoleAll && role != RoleServer {
		return nil
	}
	listener, err := listenAPI(ctx, settings.API)
	if err != nil {
		return err
	}
	return listener.Close()
}

// precheckNode looks for what a role needs that changes this machine.
func precheckNode(settings Settings, role Role) error {
	switch role {
	case RoleServer, RoleScheduler, RoleControllers, RoleCloud:
		return nil
	case RoleProxy, RoleDNS:
		return asRoot("run " + string(role))
	default:
	}
	verb := string(role)
	if role == RoleKubelet {
		verb = "run " + verb
	}
	if err := asRoot(verb); err != nil {
		return err
	}
	if settings.Node.CRISocket != "" {
		return nil
	}
	return embedded.Check()
}

func listenAPI(ctx context.Context, api APISettings) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(api.BindAddress, strconv.Itoa(api.Port)))
	if err != nil {
		return nil, fmt.Errorf("listen for the API (is another cluster running here? --port takes another port): %w", err)
	}
	return listener, nil
}

// asRoot refuses a verb that only root can carry out.
func asRoot(verb string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	return fmt.Errorf("'kogge %s' needs root, because nodes make network interfaces, mounts and cgroups: try 'sudo kogge %s'", verb, verb)
}

// prepared are the entries that a data folder may have before its first start: what a detached start writes, and what an
// administrator may lay ready.
var prepared = []string{"cni", "kogge.log", "manifests", "pki", "settings.json"}

// owned returns nil for a data folder of kogge: it is not there yet, it is empty but for what may be laid ready, or a cluster ran
// in it. Any other folder is refused, because a reset removes the whole of it.
func owned(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("data folder: %w", err)
	case !info.IsDir():
		return fmt.Errorf("data folder %s is not a folder; --data-dir names another one", dir)
	}
	if slices.ContainsFunc(homesOf(dir), func(home string) bool { return exists(lockPath(home)) }) {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	for _, entry := range entries {
		if !slices.Contains(prepared, entry.Name()) {
			return fmt.Errorf("%s holds %s and was not made by kogge; --data-dir wants a folder of its own", dir, entry.Name())
		}
	}
	return nil
}
