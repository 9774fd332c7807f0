// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"kogge.dev/kogge/internal/pki"
	"kogge.dev/kogge/test/peers/process"
	"kogge.dev/kogge/test/peers/upstream"
)

// Names in a cell.
const (
	nodeName   = "cross"
	address    = "192.0.2.1"
	kubeletKey = "kubelet"
	podCIDR    = "10.244.0.0/16"
)

// evictionHard lets the node work on a disk that is nearly full.
const evictionHard = "{imagefs.available: 1%, nodefs.available: 1%, memory.available: 100Mi}"

// startLimit bounds the start of a cluster.
const startLimit = 3 * time.Minute

// cell is a cluster of one node in this process's network namespace.
type cell struct {
	o options
	p pairing
	// data is kogge's data folder, dir that of upstream's components and of configurations. On kogge's API server both find the
	// same keys, by a link: they give them the same names.
	data, dir string
	logs      string
	peers     *upstream.Cluster
	own       []*process.Process // in the order of their start
}

// newCell empties the pairing's folder and makes keys and kubeconfigs.
func newCell(ctx context.Context, o options, p pairing) (*cell, error) {
	// Short: sockets lie below.
	c := &cell{o: o, p: p, data: filepath.Join(os.TempDir(), "kogge-cross"), dir: filepath.Join(os.TempDir(), "kogge-cross-peers"), logs: o.scratch(p.name())}
	if err := os.RemoveAll(c.logs); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.logs, 0o755); err != nil {
		return nil, err
	}
	for _, dir := range []string{c.data, c.dir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	if p.ours {
		if err := os.Symlink(filepath.Join(c.dir, "pki"), filepath.Join(c.data, "pki")); err != nil {
			return nil, err
		}
	}
	var err error
	c.peers, err = upstream.New(ctx, upstream.Config{
		Binaries: o.peers, Dir: c.dir, Address: netip.MustParseAddr(address), Port: 6443, Flags: map[string][]string{
			upstream.KubeControllerManager: {"--allocate-node-cidrs", "--cluster-cidr=" + podCIDR, "--service-cluster-ip-range=10.96.0.0/16"},
		},
	})
	if err != nil {
		return nil, err
	}
	return c, c.peers.WriteKubeconfig(kubeletKey, pki.Leaf{User: "system:node:" + nodeName, Groups: []string{"system:nodes"}})
}

// start starts the cluster and imports the suite's images.
func (c *cell) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for _, command := range [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"ip", "link", "add", "cross0", "type", "veth", "peer", "name", "cross1"},
		{"ip", "address", "add", address + "/24", "dev", "cross0"},
		{"ip", "link", "set", "cross0", "up"},
		{"ip", "link", "set", "cross1", "up"},
	} {
		if _, err := c.run(ctx, command...); err != nil {
			return err
		}
	}
	start := c.startOnUpstream
	if c.p.ours {
		start = c.startOnKogge
	}
	if err := start(ctx); err != nil {
		return err
	}
	if err := c.importImages(ctx); err != nil {
		return err
	}
	_, err := c.kubectl(ctx, "wait", "node/"+nodeName, "--for=condition=Ready", "--timeout=60s")
	return err
}

// startOnKogge starts kogge without the odd component, and upstream's in its place.
func (c *cell) startOnKogge(ctx context.Context) error {
	settings := fmt.Sprintf("apiVersion: kogge.dev/v1\nkind: Config\ndataDir: %s\nnode: {name: %s, ip: %s}\nwithout: [%s]\nkubelet: {evictionHard: %s}\n",
		c.data, nodeName, address, c.p.odd, evictionHard)
	path := filepath.Join(c.dir, "cross.yaml")
	if err := os.WriteFile(path, []byte(settings), 0o644); err != nil {
		return err
	}
	up, err := c.background("kogge", c.o.program("kogge"), "up", "--config", path)
	if err != nil {
		return err
	}
	// The odd one may be what makes the node Ready, so it starts as soon as there is an API server.
	if err := up.Await(ctx, func(ctx context.Context) error {
		_, err := c.kubectl(ctx, "get", "--raw", "/readyz")
		return err
	}); err != nil {
		return err
	}
	if err := c.startForeign(ctx); err != nil {
		return err
	}
	_, err = c.kubectl(ctx, "wait", "node/"+nodeName, "--for=create", "--timeout=60s")
	return err
}

// startOnUpstream starts upstream's cluster with kogge's odd component, and kogge's runtime, pod network and DNS.
func (c *cell) startOnUpstream(ctx context.Context) error {
	if err := c.peers.StartControlPlane(ctx); err != nil {
		return err
	}
	policy, err := c.run(ctx, c.o.program("kogge"), "policy")
	if err != nil {
		return err
	}
	if err := c.apply(ctx, policy); err != nil {
		return err
	}
	keys := filepath.Join(c.dir, "pki")
	settings := fmt.Sprintf(`apiVersion: kogge.dev/v1
kind: Config
dataDir: %[1]s
node: {name: %[2]s, ip: %[3]s}
controllers: {signingCertFile: %[4]s/ca.crt, signingKeyFile: %[4]s/ca.key}
kubelet: {evictionHard: %[5]s, authentication: {x509: {clientCAFile: %[4]s/ca.crt}}}
`, c.data, nodeName, address, keys, evictionHard)
	if c.p.foreign(kubelet) {
		settings += "without: [kubelet]\n"
	}
	path := filepath.Join(c.dir, "cross.yaml")
	if err := os.WriteFile(path, []byte(settings), 0o644); err != nil {
		return err
	}
	network := c.peers.Kubeconfig(upstream.KubeProxy)
	for _, own := range []struct {
		name       component
		wanted     bool
		kubeconfig string
	}{
		{controllers, !c.p.foreign(controllers), c.peers.Kubeconfig(upstream.KubeControllerManager)},
		{scheduler, !c.p.foreign(scheduler), c.peers.Kubeconfig(upstream.KubeScheduler)},
		{kubelet, true, c.peers.Kubeconfig(kubeletKey)}, // with runtime and network, if upstream's kubelet takes its place
		{proxy, !c.p.foreign(proxy), network},
		{"dns", true, network},
	} {
		if !own.wanted {
			continue
		}
		args := []string{"run", string(own.name), "--config", path, "--kubeconfig", own.kubeconfig, "--network-kubeconfig", network}
		if _, err := c.background("kogge-"+string(own.name), append([]string{c.o.program("kogge")}, args...)...); err != nil {
			return err
		}
	}
	if err := c.startForeign(ctx); err != nil {
		return err
	}
	return c.await(ctx, "node", func(ctx context.Context) error {
		_, err := c.kubectl(ctx, "get", "node", nodeName)
		return err
	})
}

// startForeign starts the components that are upstream's.
func (c *cell) startForeign(ctx context.Context) error {
	if c.p.foreign(controllers) {
		if err := c.peers.Start(ctx, upstream.KubeControllerManager); err != nil {
			return err
		}
	}
	if c.p.foreign(scheduler) {
		if err := c.peers.Start(ctx, upstream.KubeScheduler); err != nil {
			return err
		}
	}
	if c.p.foreign(proxy) {
		if err := c.startProxy(ctx); err != nil {
			return err
		}
	}
	if c.p.foreign(kubelet) {
		return c.startKubelet(ctx)
	}
	return nil
}

// background starts a program that runs as long as the cell.
func (c *cell) background(name string, command ...string) (*process.Process, error) {
	p, err := process.Start(process.Config{Path: command[0], Args: command[1:], Dir: c.dir, Log: filepath.Join(c.logs, name+".log")})
	if err == nil {
		c.own = append(c.own, p)
	}
	return p, err
}

// stop ends everything, clients before their servers, and undoes what kogge made.
func (c *cell) stop(ctx context.Context) error {
	var errs []error
	for _, p := range slices.Backward(c.own) {
		errs = append(errs, p.Stop())
	}
	errs = append(errs, c.peers.Stop(), c.keepLogs())
	_, err := c.run(ctx, c.o.program("kogge"), "reset", "--data-dir", c.data)
	return errors.Join(append(errs, err, os.RemoveAll(c.data), os.RemoveAll(c.dir))...)
}

// keepLogs copies the logs of upstream's components out of the folder that goes.
func (c *cell) keepLogs() error {
	found, err := filepath.Glob(filepath.Join(c.dir, "log", "*.log"))
	if err != nil {
		return err
	}
	for _, path := range found {
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(c.logs, filepath.Base(path)), text, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// importImages gives the node the suite's images.
func (c *cell) importImages(ctx context.Context) error {
	if err := c.await(ctx, "container runtime", func(ctx context.Context) error {
		_, err := c.run(ctx, c.o.program("kogge"), "image", "list", "--data-dir", c.data)
		return err
	}); err != nil {
		return err
	}
	reader, writer := io.Pipe()
	importing := exec.CommandContext(ctx, c.o.program("kogge"), "image", "import", "/dev/stdin", "--data-dir", c.data)
	var said bytes.Buffer
	importing.Stdin, importing.Stdout, importing.Stderr = reader, &said, &said
	packed := make(chan error, 1)
	go func() {
		archive := tar.NewWriter(writer)
		err := errors.Join(archive.AddFS(os.DirFS(c.o.images)), archive.Close())
		packed <- err
		writer.CloseWithError(err)
	}()
	err := importing.Run()
	reader.CloseWithError(io.ErrClosedPipe)
	if err = errors.Join(err, <-packed); err != nil {
		return fmt.Errorf("import images: %w\n%s", err, said.Bytes())
	}
	return nil
}

// await asks until the answer is no error.
func (c *cell) await(ctx context.Context, what string, ask func(context.Context) error) error {
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// run runs a program to its end and returns what it printed.
func (c *cell) run(ctx context.Context, command ...string) (string, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "HOME="+c.logs)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w\n%s%s", strings.Join(command, " "), err, out.Bytes(), errOut.Bytes())
	}
	return out.String(), nil
}

// kubectl runs stock kubectl as the administrator.
func (c *cell) kubectl(ctx context.Context, args ...string) (string, error) {
	return c.run(ctx, append([]string{c.o.program("kubectl"), "--kubeconfig", c.peers.Kubeconfig(upstream.Admin)}, args...)...)
}

// apply creates the objects of a text.
func (c *cell) apply(ctx context.Context, text string) error {
	path := filepath.Join(c.logs, "objects.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return err
	}
	_, err := c.kubectl(ctx, "apply", "-f", path)
	return err
}
