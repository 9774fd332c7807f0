// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package process starts other programs, waits until they answer, and ends them.
package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Config of a process. Path and Log are required.
type Config struct {
	// Path of the program, and its arguments.
	Path string
	Args []string
	// Through is put before Path: a program that runs another one elsewhere, such as nsenter with its flags.
	Through []string
	// Dir is the working folder; default the caller's.
	Dir string
	// Env is added to the caller's environment.
	Env []string
	// Log is a file that receives what the program writes; it is emptied first.
	Log string
}

// Process is a running program.
type Process struct {
	config Config
	cmd    *exec.Cmd
	// ended is closed once the program has; err is valid then.
	ended chan struct{}
	err   error
}

// stopGrace is how long a program may take to end after SIGTERM.
const stopGrace = 15 * time.Second

// Start starts a program. It dies with its parent: a killed test leaves nothing behind.
func Start(config Config) (*Process, error) {
	name := filepath.Base(config.Path)
	if err := os.MkdirAll(filepath.Dir(config.Log), 0o755); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	log, err := os.Create(config.Log)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer log.Close() // the child has its own descriptor
	line := append(append(append([]string{}, config.Through...), config.Path), config.Args...)
	cmd := exec.Command(line[0], line[1:]...) //nolint:noctx // Stop ends it with a signal first.
	cmd.Dir, cmd.Stdout, cmd.Stderr = config.Dir, log, log
	cmd.Env = append(os.Environ(), config.Env...)
	p := &Process{config: config, cmd: cmd, ended: make(chan struct{})}
	started := make(chan error, 1)
	go func() { p.own(started) }()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// Pid is the program's process id (of Through's program, where that does not exec).
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Ended is closed once the program has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Await asks ready again and again until it returns nil. It fails when ctx ends, or at once when the program does, with
// the end of what the program wrote.
func (p *Process) Await(ctx context.Context, ready func(context.Context) error) error {
	const pause = 20 * time.Millisecond
	name := filepath.Base(p.config.Path)
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended before it was ready: %w\n%s", name, p.err, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w (%w)\n%s", name, err, ctx.Err(), p.tail())
		case <-time.After(pause):
		}
	}
}

// Stop ends the program with SIGTERM, after stopGrace with SIGKILL, and waits for its end.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", filepath.Base(p.config.Path), err)
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopGrace):
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", filepath.Base(p.config.Path), err)
	}
	<-p.ended
	return fmt.Errorf("%s did not end within %v and was killed", filepath.Base(p.config.Path), stopGrace)
}

// tail is the end of the program's log.
func (p *Process) tail() string {
	const most = 2000
	text, err := os.ReadFile(p.config.Log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}

// FreePort returns a TCP port of loopback that nobody listens on right now.
func FreePort(ctx context.Context) (int, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
