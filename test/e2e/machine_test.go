// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"kogge.dev/kogge/hostnet"
)

type machineKey struct{}

// machine is up to two nodes, each a network namespace, joined by a cable:
//
//	node 0: 10.77.0.1/24 ── e2e0 ═ e2e1 ── 10.77.0.2/24 :node 1
type machine struct {
	root, dir, images string
	namespaces        []string
	agents            []*exec.Cmd
	components        map[string]*lone
	// kogge is the binary of the commands that follow.
	kogge    string
	box      *box
	registry *http.Server
	issuer   *issued
}

// settings let the nodes work on a disk that is nearly full.
const settings = "apiVersion: kogge.dev/v1\nkind: Config\nkubelet: {evictionHard: {imagefs.available: 1%, nodefs.available: 1%, memory.available: 100Mi}}\n"

func newMachine(root, images string, b *box) (*machine, error) {
	dir, err := os.MkdirTemp("/tmp", "kge-") // short: unix sockets lie below
	if err != nil {
		return nil, err
	}
	return newMachineIn(dir, root, images, b)
}

// newMachineIn makes a machine in an empty folder.
func newMachineIn(dir, root, images string, b *box) (*machine, error) {
	m := &machine{root: root, dir: dir, images: images, box: b, kogge: filepath.Join(root, "bin", "kogge")}
	if err := errors.Join(os.Mkdir(m.home(), 0o700), os.WriteFile(m.settings(), []byte(settings), 0o600)); err != nil {
		return nil, err
	}
	for i := range 2 {
		path := filepath.Join(dir, "net"+strconv.Itoa(i))
		if err := hostnet.CreateNamespace(path); err != nil {
			return nil, err
		}
		m.namespaces = append(m.namespaces, path)
	}
	return m, m.cable()
}

func (m *machine) cable() error {
	near, err := hostnet.New(m.namespaces[0])
	if err != nil {
		return err
	}
	defer near.Close()
	far, err := hostnet.New(m.namespaces[1])
	if err != nil {
		return err
	}
	defer far.Close()
	if err := connect(m.namespaces[0], m.namespaces[1]); err != nil {
		return err
	}
	for i, h := range []*hostnet.Host{near, far} {
		name := "e2e" + strconv.Itoa(i)
		address := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, 0, byte(i + 1)}), 24)
		if err := errors.Join(h.SetUp("lo"), h.SetUp(name), h.EnsureAddress(name, address)); err != nil {
			return err
		}
	}
	return nil
}

func (m *machine) data(node int) string    { return filepath.Join(m.dir, "n"+strconv.Itoa(node)) }
func (m *machine) kubeconfig() string      { return filepath.Join(m.data(0), "admin.kubeconfig") }
func (m *machine) home() string            { return filepath.Join(m.dir, "home") }
func (m *machine) settings() string        { return filepath.Join(m.dir, "settings.yaml") }
func (m *machine) program(n string) string { return filepath.Join(m.root, "bin", n) }

// command prepares a program to run in a node's network namespace. It has a home of its own: kubectl keeps there what a server
// offers, by the server's address, and every story's server has the same one.
func (m *machine) command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+m.kubeconfig(), "HOME="+m.home())
	cmd.Dir = dir
	return cmd
}

// inside calls f on a thread in a node's network namespace: what it starts inherits it.
func (m *machine) inside(node int, f func() error) error {
	ns, err := hostnet.Open(m.namespaces[node])
	if err != nil {
		return err
	}
	defer ns.Close()
	return ns.Do(f)
}

func (m *machine) run(node int, dir string, args ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := m.command(ctx, dir, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := m.inside(node, cmd.Start); err != nil {
		return "", "", err
	}
	err = cmd.Wait()
	return out.String(), errOut.String(), err
}

// close resets the nodes and removes what the story made.
func (m *machine) close() error {
	var errs []error
	m.endComponents()
	for _, agent := range m.agents {
		_ = agent.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = agent.Wait()
	}
	if m.registry != nil {
		errs = append(errs, m.registry.Close())
	}
	for node := range m.namespaces {
		if _, err := os.Stat(m.data(node)); err != nil {
			continue
		}
		if out, errOut, err := m.run(node, "/", m.kogge, "reset", "--data-dir", m.data(node)); err != nil {
			errs = append(errs, fmt.Errorf("reset node %d: %w\n%s%s", node, err, out, errOut))
		}
	}
	for _, path := range m.namespaces {
		errs = append(errs, hostnet.RemoveNamespace(path))
	}
	return errors.Join(append(errs, os.RemoveAll(m.dir))...)
}

func of(ts *testscript.TestScript) *machine { return ts.Value(machineKey{}).(*machine) }

// finish hands a command's output to the script and checks its outcome.
func finish(ts *testscript.TestScript, neg bool, stdout, stderr string, err error) {
	fmt.Fprint(ts.Stdout(), stdout)
	fmt.Fprint(ts.Stderr(), stderr)
	if stderr != "" {
		ts.Logf("[stderr]\n%s", stderr)
	}
	if stdout != "" {
		ts.Logf("[stdout]\n%s", stdout)
	}
	switch {
	case err != nil && !neg:
		ts.Fatalf("%v", err)
	case err == nil && neg:
		ts.Fatalf("unexpected success")
	}
}

// kogge ARGS...: the binary on node 0, for its data folder.
func runKogge(ts *testscript.TestScript, neg bool, args []string) {
	m := of(ts)
	stdout, stderr, err := m.run(0, ts.Getenv("WORK"), append([]string{m.kogge}, args...)...)
	finish(ts, neg, stdout, stderr, err)
}

// kubectl ARGS...: stock kubectl as the administrator.
func runKubectl(ts *testscript.TestScript, neg bool, args []string) {
	m := of(ts)
	stdout, stderr, err := m.run(0, ts.Getenv("WORK"), append([]string{m.program("kubectl")}, args...)...)
	finish(ts, neg, stdout, stderr, err)
}

// host ARGS...: a program on node 0.
func host(ts *testscript.TestScript, neg bool, args []string) {
	stdout, stderr, err := of(ts).run(0, ts.Getenv("WORK"), args...)
	finish(ts, neg, stdout, stderr, err)
}

// up [ARGS...]: a cluster on node 0, with the test images.
func up(ts *testscript.TestScript, neg bool, args []string) { start(ts, neg, nil, args) }

// upapart [ARGS...]: as up, in a mount namespace of its own, as service managers start programs.
func upApart(ts *testscript.TestScript, neg bool, args []string) {
	start(ts, neg, []string{"unshare", "--mount"}, args)
}

func start(ts *testscript.TestScript, neg bool, through, args []string) {
	m := of(ts)
	command := append(through, m.kogge, "up", "--detach", "--data-dir", m.data(0), "--node-name", "one", "--config", m.settings())
	command = append(command, args...)
	stdout, stderr, err := m.run(0, "/", command...)
	finish(ts, neg, stdout, stderr, err)
	if err == nil {
		m.load(ts, 0)
	}
}

func (m *machine) load(ts *testscript.TestScript, node int) {
	if _, stderr, err := m.run(node, "/", m.kogge, "image", "import", m.images, "--data-dir", m.data(node)); err != nil {
		ts.Fatalf("import images on node %d: %v\n%s", node, err, stderr)
	}
}

// images: imports the test images once more.
func importImages(ts *testscript.TestScript, _ bool, _ []string) { of(ts).load(ts, 0) }

// join: a second node on node 1, by token, with the test images.
func join(ts *testscript.TestScript, _ bool, _ []string) {
	m := of(ts)
	token, stderr, err := m.run(0, "/", m.kogge, "token", "create", "--data-dir", m.data(0))
	if err != nil {
		ts.Fatalf("token: %v\n%s", err, stderr)
	}
	log, err := os.Create(filepath.Join(m.dir, "agent.log"))
	ts.Check(err)
	defer log.Close()
	agent := m.command(context.Background(), "/", m.kogge, "agent", "--data-dir", m.data(1), "--node-name", "two", "--config", m.settings(),
		"--server", "https://10.77.0.1:6443", "--token", strings.TrimSpace(token))
	agent.Stdout, agent.Stderr = log, log
	ts.Check(m.inside(1, agent.Start))
	m.agents = append(m.agents, agent)
	if _, stderr, err := m.run(0, "/", m.program("kubectl"), "wait", "--for=create", "node/two", "--timeout=60s"); err != nil {
		text, _ := os.ReadFile(log.Name())
		ts.Fatalf("join: %v\n%s\n%s", err, stderr, text)
	}
	if _, stderr, err := m.run(0, "/", m.program("kubectl"), "wait", "--for=condition=Ready", "node/two", "--timeout=60s"); err != nil {
		text, _ := os.ReadFile(log.Name())
		ts.Fatalf("join: %v\n%s\n%s", err, stderr, text)
	}
	m.load(ts, 1)
}

// get URL PATTERN: an HTTP request from node 0 answers within 30 seconds with a body that matches.
func get(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: get URL PATTERN")
	}
	m := of(ts)
	pattern := regexp.MustCompile(args[1])
	limit := 30 * time.Second
	if neg {
		limit = 3 * time.Second
	}
	var last string
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		last = m.fetch(args[0])
		if pattern.MatchString(last) {
			if neg {
				ts.Fatalf("%s answered %q", args[0], last)
			}
			return
		}
	}
	if !neg {
		ts.Fatalf("%s did not answer %s within %v; last: %s", args[0], args[1], limit, last)
	}
}

func (m *machine) fetch(url string) string {
	dial := func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = m.inside(0, func() error {
			conn, err = (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
	c := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: 3 * time.Second}
	resp, err := c.Get(url)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// within SECONDS PATTERN kubectl ARGS...: the command's output matches at last.
func within(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 3 || neg {
		ts.Fatalf("usage: within SECONDS PATTERN PROGRAM ARGS...")
	}
	m := of(ts)
	seconds, err := strconv.Atoi(args[0])
	ts.Check(err)
	pattern := regexp.MustCompile(args[1])
	if known := m.program(args[2]); exists(known) {
		args[2] = known
	}
	var stdout, stderr string
	for deadline := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		stdout, stderr, _ = m.run(0, ts.Getenv("WORK"), args[2:]...)
		if pattern.MatchString(stdout) || pattern.MatchString(stderr) {
			return
		}
	}
	ts.Fatalf("no match for %s within %d s; last:\n%s%s", pattern, seconds, stdout, stderr)
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }
