// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// machine is two nodes on this machine, each a process in a network namespace of its own:
//
//	zero: 10.77.0.1/24 ── suite0 ═ suite0 ── 10.77.0.2/24 :one
//
// Node zero is a whole cluster (kogge up), node one joins it by token (kogge agent). The images are served as registry.k8s.io
// at node zero's address, for what must be pulled.
type machine struct {
	o options
	// name is of the scratch folder, so that what a killed run left is found again.
	name  string
	agent *exec.Cmd
}

var addresses = []string{"10.77.0.1", "10.77.0.2"}

const (
	device       = "suite0"
	registryPort = "5000"
)

func newMachine(o options) *machine {
	sum := sha256.Sum256([]byte(o.scratch()))
	return &machine{o: o, name: "kogge-" + hex.EncodeToString(sum[:4])}
}

func (m *machine) netns(node int) string     { return fmt.Sprintf("%s-%d", m.name, node) }
func (m *machine) namespace(node int) string { return "/run/netns/" + m.netns(node) }
func (m *machine) data(node int) string      { return m.o.scratch("nodes", fmt.Sprint(node)) }
func (m *machine) kubeconfig() string        { return filepath.Join(m.data(0), "admin.kubeconfig") }

// logs are the components' logs of a node, kogge's own first. Node one writes where it is told to.
func (m *machine) logs(node int) []string {
	logs := []string{filepath.Join(m.data(node), "kogge.log"), filepath.Join(m.data(node), "containerd", "containerd.log")}
	if node != 0 {
		logs[0] = m.data(node) + ".log"
	}
	return logs
}

// settings of both nodes: they work on a disk that is nearly full, as upstream's own test clusters do.
const settings = "apiVersion: kogge.dev/v1\nkind: Config\nkubelet: {evictionHard: {imagefs.available: 1%, nodefs.available: 1%, memory.available: 100Mi}}\n"

func (o options) settings() string { return o.scratch("nodes.yaml") }

func (o options) kogge() string   { return filepath.Join(o.root, "bin", "kogge") }
func (o options) kubectl() string { return filepath.Join(o.root, "bin", "kubectl") }

// wire makes the namespaces and the cable between them.
func (m *machine) wire(ctx context.Context) error {
	if err := m.unwire(ctx); err != nil {
		return fmt.Errorf("clean up after an earlier run: %w", err)
	}
	steps := [][]string{
		{"netns", "add", m.netns(0)},
		{"netns", "add", m.netns(1)},
		{"link", "add", device, "netns", m.netns(0), "type", "veth", "peer", "name", device, "netns", m.netns(1)},
	}
	for node, address := range addresses {
		steps = append(steps, []string{"-n", m.netns(node), "address", "add", address + "/24", "dev", device},
			[]string{"-n", m.netns(node), "link", "set", "lo", "up"}, []string{"-n", m.netns(node), "link", "set", device, "up"})
	}
	for _, args := range steps {
		if err := command(ctx, "/", "ip", args...); err != nil {
			return err
		}
	}
	return nil
}

// unwire ends what still runs in the namespaces, and removes them.
func (m *machine) unwire(ctx context.Context) error {
	var errs []error
	for node := range addresses {
		if _, err := os.Stat(m.namespace(node)); err != nil {
			continue
		}
		errs = append(errs, m.down(ctx, node), command(ctx, "/", "ip", "netns", "delete", m.netns(node)))
	}
	return errors.Join(errs...)
}

// run runs a program in a node's namespace.
func (m *machine) run(ctx context.Context, node int, name string, args ...string) (string, error) {
	return output(ctx, "/", "nsenter", append([]string{"--net=" + m.namespace(node), name}, args...)...)
}

func (m *machine) down(ctx context.Context, node int) error {
	if _, err := os.Stat(m.data(node)); err != nil {
		return nil //nolint:nilerr // no node was made there
	}
	_, err := m.run(ctx, node, m.o.kogge(), "down", "--data-dir", m.data(node))
	return err
}

// start starts both nodes with a new store and the images of earlier runs, and returns when they are Ready. It runs in node
// zero's namespace.
func (m *machine) start(ctx context.Context) error {
	began := time.Now()
	images, err := openLayout(m.o.layout())
	if err != nil {
		return err
	}
	if err := os.WriteFile(m.o.settings(), []byte(settings), 0o644); err != nil {
		return err
	}
	for node := range addresses {
		if err := m.prepare(ctx, node); err != nil {
			return err
		}
	}
	if err := m.serveImages(ctx, images); err != nil {
		return err
	}
	if _, err := m.run(ctx, 0, m.o.kogge(), "up", "--detach", "--config", m.o.settings(), "--data-dir", m.data(0), "--node-name", "zero", "--node-ip", addresses[0]); err != nil {
		return err
	}
	if err := m.join(ctx); err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "two nodes are ready after %v\n", time.Since(began).Round(100*time.Millisecond))
	for node := range addresses {
		if err := errors.Join(m.mirror(node), m.load(ctx, node, images)); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes a node's folder fit for a new cluster: the store of the last run goes, the images stay. A folder whose images
// are others than these is reset.
func (m *machine) prepare(ctx context.Context, node int) error {
	loaded, err := os.ReadFile(m.loadedFile(node))
	wanted, wantErr := os.ReadFile(m.o.stampFile())
	if wantErr != nil {
		return wantErr
	}
	if err != nil || !bytes.Equal(loaded, wanted) {
		if _, err := m.run(ctx, node, m.o.kogge(), "reset", "--data-dir", m.data(node)); err != nil {
			return err
		}
	}
	for _, path := range append(m.logs(node), filepath.Join(m.data(node), "etcd"), filepath.Join(m.data(node), "log")) {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

// mirror tells a node where the images of registry.k8s.io are served. It is read at each pull.
func (m *machine) mirror(node int) error {
	hosts := filepath.Join(m.data(node), "containerd", "certs.d", strings.TrimSuffix(registry, "/"))
	text := fmt.Sprintf("[host.\"http://%s:%s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", addresses[0], registryPort)
	return errors.Join(os.MkdirAll(hosts, 0o755), os.WriteFile(filepath.Join(hosts, "hosts.toml"), []byte(text), 0o644))
}

func (m *machine) serveImages(ctx context.Context, images *layout) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(addresses[0], registryPort))
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(listener, images) }() // until this process ends
	return nil
}

// join starts node one.
func (m *machine) join(ctx context.Context) error {
	token, err := m.run(ctx, 0, m.o.kogge(), "token", "create", "--data-dir", m.data(0))
	if err != nil {
		return err
	}
	// The hint on how to join goes to standard error, before the token.
	fields := strings.Fields(token)
	token = fields[len(fields)-1]
	log, err := os.Create(m.logs(1)[0])
	if err != nil {
		return err
	}
	defer log.Close()
	m.agent = exec.Command("nsenter", "--net="+m.namespace(1), m.o.kogge(), "agent", "--config", m.o.settings(), "--data-dir", m.data(1), "--node-name", "one", //nolint:noctx // it is stopped in order
		"--node-ip", addresses[1], "--server", "https://"+addresses[0]+":6443", "--token", token)
	m.agent.Stdout, m.agent.Stderr = log, log
	m.agent.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt stops it in order, through stop
	if err := m.agent.Start(); err != nil {
		return err
	}
	for _, condition := range []string{"create", "condition=Ready"} {
		if _, err := m.ask(ctx, "wait", "node/one", "--for="+condition, "--timeout=60s"); err != nil {
			return fmt.Errorf("node one does not join, see %s: %w", log.Name(), err)
		}
	}
	return nil
}

// ask runs kubectl as the administrator.
func (m *machine) ask(ctx context.Context, args ...string) (string, error) {
	return m.run(ctx, 0, m.o.kubectl(), append([]string{"--kubeconfig", m.kubeconfig()}, args...)...)
}

func (m *machine) loadedFile(node int) string { return filepath.Join(m.data(node), "suite-images") }

// load imports all images into a node, unless they are there.
func (m *machine) load(ctx context.Context, node int, images *layout) error {
	if _, err := os.Stat(m.loadedFile(node)); err == nil {
		return nil
	}
	began := time.Now()
	reader, writer := io.Pipe()
	importing := exec.CommandContext(ctx, "nsenter", "--net="+m.namespace(node), m.o.kogge(), "image", "import", "/dev/stdin", "--data-dir", m.data(node))
	var said bytes.Buffer
	importing.Stdin, importing.Stdout, importing.Stderr = reader, &said, &said
	packed := make(chan error, 1)
	go func() {
		archive := tar.NewWriter(writer)
		err := errors.Join(archive.AddFS(os.DirFS(images.dir)), archive.Close())
		packed <- err
		writer.CloseWithError(err)
	}()
	err := importing.Run()
	reader.CloseWithError(io.ErrClosedPipe)
	if err = errors.Join(err, <-packed); err != nil {
		return fmt.Errorf("import images into node %d: %w\n%s", node, err, said.Bytes())
	}
	fmt.Fprintf(os.Stdout, "images imported into node %d in %v\n", node, time.Since(began).Round(100*time.Millisecond))
	stamp, err := os.ReadFile(m.o.stampFile())
	if err != nil {
		return err
	}
	return os.WriteFile(m.loadedFile(node), stamp, 0o644)
}

// stop stops both nodes. Their folders stay, for the images.
func (m *machine) stop(ctx context.Context) error {
	errs := []error{m.down(ctx, 1)}
	if m.agent != nil {
		_ = m.agent.Wait() // it was told to stop
	}
	return errors.Join(append(errs, m.down(ctx, 0))...)
}
