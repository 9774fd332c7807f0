// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"kogge.dev/kogge/test/image"
)

// boxImage is what all containers run.
const boxImage = "kogge.test/box:1"

// nodeName is the node's.
const nodeName = "soak"

// machine is the cluster under test: kogge up on a data folder in the scratch folder.
type machine struct{ o options }

func (m *machine) data() string       { return m.o.scratch("data") }
func (m *machine) kubeconfig() string { return filepath.Join(m.data(), "admin.kubeconfig") }
func (m *machine) in(parts ...string) string {
	return filepath.Join(append([]string{m.data()}, parts...)...)
}

// settings let the node work on a disk that is nearly full.
const settings = "apiVersion: kogge.dev/v1\nkind: Config\nkubelet: {evictionHard: {imagefs.available: 1%, nodefs.available: 1%, memory.available: 100Mi}}\n"

// start starts the cluster, waits until its node is Ready, and gives it the image.
func (m *machine) start(ctx context.Context) error {
	config, archive := m.o.scratch("kogge.yaml"), m.o.scratch("box.tar")
	if err := os.WriteFile(config, []byte(settings), 0o644); err != nil {
		return err
	}
	layer, err := image.Busybox(ctx, map[string][]byte{"www/index.html": []byte("ahoy\n")})
	if err != nil {
		return err
	}
	if err := image.New(layer, "").WriteOCI(archive, image.ContainerdName, boxImage); err != nil {
		return err
	}
	if _, err := m.kogge(ctx, "up", "--detach", "--config", config, "--data-dir", m.data(), "--node-name", nodeName); err != nil {
		return err
	}
	_, err = m.kogge(ctx, "image", "import", archive, "--data-dir", m.data())
	return errors.Join(err, os.Remove(archive))
}

// reset removes all that the node is and has.
func (m *machine) reset(ctx context.Context) error {
	if _, err := os.Stat(m.data()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, err := m.kogge(ctx, "reset", "--data-dir", m.data())
	return err
}

// keepLogs copies the logs of the node, which a reset removes.
func (m *machine) keepLogs() error {
	var errs []error
	for name, path := range map[string]string{"kogge.log": m.in("kogge.log"), "containerd.log": m.in("containerd", "containerd.log")} {
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(m.o.scratch(name), text, 0o644)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// kogge runs a command of kogge to its end and returns what it printed.
func (m *machine) kogge(ctx context.Context, args ...string) (string, error) {
	cmd := m.command(ctx, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kogge %q: %w\n%s%s", args, err, out.Bytes(), errOut.Bytes())
	}
	return out.String(), nil
}

// kubectl runs the built-in kubectl as the administrator.
func (m *machine) kubectl(ctx context.Context, args ...string) (string, error) {
	return m.kogge(ctx, append([]string{"kubectl"}, args...)...)
}

// command prepares a command of kogge. It is killed when ctx ends.
func (m *machine) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(m.o.root, "bin", "kogge"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+m.kubeconfig(), "HOME="+m.o.scratch("home"))
	return cmd
}
