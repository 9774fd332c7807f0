// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/cmd/containerd/server"
	srvconfig "github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/log"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/grpclog"

	"kogge.dev/kogge/internal/residency"
)

// Main is containerd: the kogge binary calls it, and nothing else, when it was started as `kogge containerd-child ARGS`.
// It serves until SIGTERM or SIGINT and returns the exit status. It never returns while pods depend on it: their shims
// outlive it.
func Main(args []string) int {
	flags := flag.NewFlagSet(Verb, flag.ContinueOnError)
	config := flags.String("config", "", "containerd configuration `FILE`")
	cgroup := flags.String("cgroup", "", "cgroup `PATH` to live in")
	pause := flags.String("pause-image", "", "`NAME` of the sandbox image to provide")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *config == "" {
		fmt.Fprintln(os.Stderr, Verb+": -config is required; kogge starts this command itself")
		return 2
	}
	if err := serve(*config, *cgroup, *pause); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", Verb, err)
		return 1
	}
	return 0
}

// serve runs containerd with the configuration file until a signal.
func serve(configPath, cgroup, pauseImage string) error {
	// Broken pipes come from clients that left; containerd ignores them too.
	signal.Ignore(unix.SIGPIPE)
	ctx, cancel := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer cancel()
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	if cgroup != "" {
		if err := joinCgroup(cgroup); err != nil {
			// Only the accounting and the group kill depend on it.
			log.G(ctx).WithError(err).Warn("containerd stays in the cgroup of its parent")
		}
	}
	config := &srvconfig.Config{}
	none := func() iter.Seq[plugin.Registration] { return slices.Values([]plugin.Registration(nil)) }
	if err := srvconfig.LoadConfigWithPlugins(ctx, configPath, none, config); err != nil {
		return fmt.Errorf("load %s: %w", configPath, err)
	}
	if err := log.SetLevel(config.Debug.Level); err != nil {
		return fmt.Errorf("log level: %w", err)
	}
	if err := server.CreateTopLevelDirectories(config); err != nil {
		return fmt.Errorf("make folders: %w", err)
	}
	if err := cleanTempMounts(ctx, config.Root); err != nil {
		return err
	}
	if pauseImage != "" {
		registry.Register(pauseProvider(pauseImage))
	}
	srv, err := server.New(ctx, config)
	if err != nil {
		return err
	}
	// Stop closes what the server's plugins hold; a process that ends after a signal leaves nothing to close but files.
	defer srv.Stop()
	if err := srv.Start(ctx); err != nil {
		return err
	}
	srv.Wait()
	shrink(ctx)
	<-ctx.Done()
	return nil
}

// cleanTempMounts removes mounts that an earlier containerd left when it was killed.
func cleanTempMounts(ctx context.Context, root string) error {
	if err := mount.SetTempMountLocation(filepath.Join(root, "tmpmounts")); err != nil {
		return fmt.Errorf("temporary mounts: %w", err)
	}
	warnings, err := mount.CleanupTempMounts(0)
	if err := errors.Join(append(warnings, err)...); err != nil {
		log.G(ctx).WithError(err).Warn("unmount temporary mounts")
	}
	return nil
}

// shrink gives the memory of the start back to the kernel: once when the first clients have connected, and once when a
// node's first pods run.
func shrink(ctx context.Context) {
	go func() {
		for _, delay := range []time.Duration{time.Second, 20 * time.Second} {
			select {
			case <-ctx.Done():
				return
			case <-time.After(delay):
			}
			if err := residency.Trim(); err != nil {
				log.G(ctx).WithError(err).Warn("trim memory")
			}
		}
	}()
}
