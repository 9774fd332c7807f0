// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Command shim is containerd's runc v2 shim: the small process that stays beside each pod, owns its containers' standard
// streams and exit statuses, and outlives containerd. It is a program of its own because two or three are started per
// pod: linked into kogge each would carry the initialisation of the whole binary.
package main

import (
	"context"

	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/manager"
	// The shim's task service registers itself with containerd's plugin registry; there is no other way in.
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task/plugin"
	"github.com/containerd/containerd/v2/pkg/shim"
)

func main() {
	trimLater()
	shim.RunShim(context.Background(), manager.NewShimManager("io.containerd.runc.v2"))
}
