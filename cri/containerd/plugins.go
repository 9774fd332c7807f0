// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package containerd

// containerd assembles itself from packages that register a plugin when they are initialised; there is no constructor
// to call instead. This file therefore holds the only blank imports of the product besides embed. It names the plugins
// that CRI on Linux needs, in place of containerd's own list (cmd/containerd/builtins): what is not linked costs no
// memory, opens no socket and cannot be switched on by mistake. Left out on purpose:
//
//   - nri: its socket is one per host, so the second containerd would take over the first one's
//   - opt: only for `ctr install`, and its folder is one per host
//   - restart, imageverifier, tracing, debug, metrics over HTTP, task monitor: nothing here reads them
//   - snapshotters and differs for block devices, btrfs, zfs, erofs: overlayfs is required, native is the fallback
//
// What they are for: api/types/runc/options decodes the options of the runc runtime in the configuration; core/runtime/v2 and
// services/tasks start the shims and talk to them; plugins/cri is the CRI service; plugins/server are the sockets, gRPC for CRI and
// image import, ttrpc for the shims' events; services/* are what CRI's in-process client and the import client call; the rest is what CRI stands on: content, metadata, events, leases, garbage collection, sandboxes, image transfer.
import (
	_ "github.com/containerd/containerd/api/types/runc/options"
	_ "github.com/containerd/containerd/v2/core/runtime/v2"
	_ "github.com/containerd/containerd/v2/plugins/content/local/plugin"
	_ "github.com/containerd/containerd/v2/plugins/cri"
	_ "github.com/containerd/containerd/v2/plugins/cri/images"
	_ "github.com/containerd/containerd/v2/plugins/cri/runtime"
	_ "github.com/containerd/containerd/v2/plugins/diff/walking/plugin"
	_ "github.com/containerd/containerd/v2/plugins/events"
	_ "github.com/containerd/containerd/v2/plugins/gc"
	_ "github.com/containerd/containerd/v2/plugins/leases"
	_ "github.com/containerd/containerd/v2/plugins/metadata"
	_ "github.com/containerd/containerd/v2/plugins/mount"
	_ "github.com/containerd/containerd/v2/plugins/sandbox"
	_ "github.com/containerd/containerd/v2/plugins/server/grpc"
	_ "github.com/containerd/containerd/v2/plugins/server/ttrpc"
	_ "github.com/containerd/containerd/v2/plugins/services/containers"
	_ "github.com/containerd/containerd/v2/plugins/services/content"
	_ "github.com/containerd/containerd/v2/plugins/services/diff"
	_ "github.com/containerd/containerd/v2/plugins/services/events"
	_ "github.com/containerd/containerd/v2/plugins/services/images"
	_ "github.com/containerd/containerd/v2/plugins/services/introspection"
	_ "github.com/containerd/containerd/v2/plugins/services/leases"
	_ "github.com/containerd/containerd/v2/plugins/services/namespaces"
	_ "github.com/containerd/containerd/v2/plugins/services/sandbox"
	_ "github.com/containerd/containerd/v2/plugins/services/snapshots"
	_ "github.com/containerd/containerd/v2/plugins/services/tasks"
	_ "github.com/containerd/containerd/v2/plugins/services/version"
	_ "github.com/containerd/containerd/v2/plugins/services/warning"
	_ "github.com/containerd/containerd/v2/plugins/snapshots/native/plugin"
	_ "github.com/containerd/containerd/v2/plugins/snapshots/overlay/plugin"
	_ "github.com/containerd/containerd/v2/plugins/transfer"
)
