// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// lone is a component that runs alone, with its name as "kogge run" knows it.
type lone struct {
	cmd   *exec.Cmd
	ended chan error
}

// readyLimit bounds the start of a component, and its end.
const readyLimit = time.Minute

// component NAME [ARGS...]: runs a component alone on node 0, in the script's folder, and returns when it says that it is ready.
func startComponent(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 || neg {
		ts.Fatalf("usage: component NAME ARGS...")
	}
	m := of(ts)
	log := filepath.Join(ts.Getenv("WORK"), args[0]+".log")
	file, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	ts.Check(err)
	defer file.Close()
	command := append([]string{m.kogge, "run", args[0], "--data-dir", m.data(0), "--node-name", "one"}, args[1:]...)
	cmd := m.command(context.Background(), ts.Getenv("WORK"), command...)
	cmd.Stderr = file
	said, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(m.inside(0, cmd.Start))
	c := &lone{cmd: cmd, ended: make(chan error, 1)}
	ready := make(chan struct{})
	go func() {
		for lines := bufio.NewScanner(said); lines.Scan(); {
			if lines.Text() == "ready" {
				close(ready)
			}
		}
		c.ended <- cmd.Wait()
	}()
	if m.components == nil {
		m.components = map[string]*lone{}
	}
	m.components[args[0]] = c
	select {
	case <-ready:
		return
	case <-time.After(readyLimit):
		ts.Logf("%s is not ready after %v", args[0], readyLimit)
	case err := <-c.ended:
		c.ended <- err
		ts.Logf("%s ended: %v", args[0], err)
	}
	text, _ := os.ReadFile(log)
	ts.Fatalf("start %s:\n%s", args[0], text)
}

// interrupt COMPONENT...: stops components as Ctrl-C does; each must end well.
func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 || neg {
		ts.Fatalf("usage: interrupt COMPONENT...")
	}
	m := of(ts)
	for _, name := range args {
		c := m.components[name]
		if c == nil {
			ts.Fatalf("%s was not started", name)
		}
		delete(m.components, name)
		ts.Check(c.cmd.Process.Signal(os.Interrupt))
		select {
		case err := <-c.ended:
			if err != nil {
				ts.Fatalf("%s did not end well: %v", name, err)
			}
		case <-time.After(20 * time.Second):
			ts.Fatalf("%s does not end", name)
		}
	}
}

// endComponents ends what a story left running.
func (m *machine) endComponents() {
	for _, c := range m.components {
		_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case err := <-c.ended:
			c.ended <- err // for who asks again
		case <-time.After(readyLimit):
			_ = c.cmd.Process.Kill() // it was asked
		}
	}
}
