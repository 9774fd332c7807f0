// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package containerd runs the bundled container runtime of one node: containerd, linked into the kogge binary, as a child
// process of its own that outlives kogge.
//
//	kogge (Supervisor) ── exec, own session ──> kogge containerd-child (Main)
//	                                              └─ shim per pod (embedded program), outlives both
//	                                                   └─ pause, containers (started by the embedded runc)
//
// A Supervisor that finds a fitting containerd from an earlier kogge adopts it, so that a restart of kogge interrupts
// nothing. Pods never depend on either: containerd finds the shims again.
package containerd

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kogge.dev/kogge/cri"
	"kogge.dev/kogge/cri/containerd/embedded"
	"kogge.dev/kogge/internal/sysmon"
)

const (
	// startLimit bounds the time from exec to the first CRI answer. It covers opening a database after a crash on a
	// slow disk.
	startLimit = 60 * time.Second
	// haltLimit bounds the time that containerd gets after SIGTERM.
	haltLimit = 10 * time.Second
	// maxLog is the size, in bytes, from which containerd's log is set aside at a start.
	maxLog = 8 << 20
)

// Supervisor keeps one containerd running.
type Supervisor struct {
	config Config
	// ready is closed when CRI has answered for the first time.
	ready chan struct{}
}

// New prepares a supervisor; it touches nothing yet.
func New(config Config) (*Supervisor, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Supervisor{config: config, ready: make(chan struct{})}, nil
}

// Socket is where CRI is served.
func (s *Supervisor) Socket() string { return s.config.Socket() }

// Ready returns once CRI has answered for the first time since Run began, the pause image included.
func (s *Supervisor) Ready(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for containerd: %w", ctx.Err())
	}
}

// Run adopts or starts containerd and starts it again whenever it ends, until ctx ends. containerd is left running then:
// the next Run adopts it, and Halt ends it. Run returns early only if containerd cannot work at all.
func (s *Supervisor) Run(ctx context.Context) error {
	args, err := s.prepare()
	if err != nil {
		return err
	}
	var delay time.Duration
	for {
		began := time.Now()
		pid, err := s.attach(ctx, args)
		if err == nil {
			if err := s.config.sweepPrograms(); err != nil {
				s.config.Logger.Warn("unused programs stay", "err", err)
			}
			s.markReady()
			err = waitExit(ctx, pid)
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // told to stop
		}
		if errors.Is(err, errNeverAnswered) && !s.wasReady() {
			return err
		}
		// A process that lived for a while is restarted at once; one that keeps dying ever more slowly.
		if time.Since(began) > time.Minute {
			delay = 0
		}
		s.config.Logger.Warn("containerd ended", "err", err, "delay", delay)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		}
		delay = min(max(2*delay, 100*time.Millisecond), 10*time.Second)
	}
}

func (s *Supervisor) markReady() {
	if !s.wasReady() {
		close(s.ready)
	}
}

func (s *Supervisor) wasReady() bool {
	select {
	case <-s.ready:
		return true
	default:
		return false
	}
}

// prepare makes folders, programs and configuration, and returns the argument vector of the child.
func (s *Supervisor) prepare() ([]string, error) {
	c := s.config
	if err := embedded.Check(); err != nil {
		return nil, err
	}
	for _, dir := range []string{c.DataDir, c.RunDir, c.shimSocketDir()} {
		// Others may pass, so that the user of a container reaches what is mounted from below; state itself is 0711.
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fmt.Errorf("make folder of containerd: %w", err)
		}
	}
	if err := c.extractPrograms(); err != nil {
		return nil, err
	}
	host, err := inspectHost(c.DataDir)
	if err != nil {
		return nil, err
	}
	text, err := c.toml(host)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(c.configFile(), text, 0o600); err != nil {
		return nil, fmt.Errorf("write containerd configuration: %w", err)
	}
	args := append([]string{}, c.Command...)
	return append(args, "-config", c.configFile(), "-cgroup", c.CgroupRoot+"/runtime", "-pause-image", c.PauseImage), nil
}

// attach returns the process id of a containerd that answers: the running one if it fits, else a new one.
func (s *Supervisor) attach(ctx context.Context, args []string) (int, error) {
	identity, err := s.identity(args)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	old, alive := readRecord(s.config.recordFile())
	if alive && old.Identity == identity {
		if err := s.answers(ctx, old.PID, 5*time.Second); err == nil {
			s.config.Logger.Info("containerd adopted", "pid", old.PID, "duration", time.Since(began))
			return old.PID, nil
		}
	}
	if alive {
		if err := end(ctx, old.PID); err != nil {
			return 0, err
		}
	}
	pid, err := s.launch(args)
	if err != nil {
		return 0, err
	}
	if err := writeRecord(s.config.recordFile(), pid, identity); err != nil {
		return 0, errors.Join(err, end(ctx, pid))
	}
	if err := s.answers(ctx, pid, startLimit); err != nil {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return 0, errors.Join(fmt.Errorf("%w; its log ends with:\n%s", err, tail(s.config.LogFile())), end(ctx, pid))
	}
	s.config.Logger.Info("containerd started", "pid", pid, "duration", time.Since(began))
	return pid, nil
}

// errNeverAnswered is returned when a started containerd ended or stayed silent.
var errNeverAnswered = errors.New("containerd did not answer")

// answers returns nil once CRI answers at the socket, or an error when the process pid has ended or limit has passed.
func (s *Supervisor) answers(ctx context.Context, pid int, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	gone := make(chan error, 1)
	go func() {
		gone <- waitExit(ctx, pid)
		cancel()
	}()
	conn, err := cri.Connect(ctx, s.config.Socket())
	if err != nil {
		select {
		case exit := <-gone:
			return fmt.Errorf("%w: %w", errNeverAnswered, exit)
		default:
			return fmt.Errorf("%w: %w", errNeverAnswered, err)
		}
	}
	return conn.Close()
}

// identity changes with everything that a running containerd cannot change any more: binary, programs, configuration,
// arguments, network namespace, and the mount namespace, which it must share with who mounts the volumes of its containers.
func (s *Supervisor) identity(args []string) (string, error) {
	h := sha256.New()
	exe, err := os.Stat(args[0])
	if err != nil {
		return "", fmt.Errorf("identify containerd: %w", err)
	}
	config, err := os.ReadFile(s.config.configFile())
	if err != nil {
		return "", fmt.Errorf("identify containerd: %w", err)
	}
	net, err := namespaceID(cmp.Or(s.config.NetNS, "/proc/self/ns/net"))
	if err != nil {
		return "", err
	}
	mounts, err := namespaceID("/proc/self/ns/mnt")
	if err != nil {
		return "", err
	}
	fmt.Fprintln(h, exe.Size(), exe.ModTime().UnixNano(), s.config.programs, args, net, mounts)
	_, _ = h.Write(config)
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// namespaceID identifies the namespace at path by device and inode.
func namespaceID(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", fmt.Errorf("namespace %s: %w", path, err)
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino), nil
}

// launch starts the child in a session of its own, inside the node's network namespace, and reaps it when it ends.
func (s *Supervisor) launch(args []string) (int, error) {
	c := s.config
	if info, err := os.Stat(c.LogFile()); err == nil && info.Size() > maxLog {
		if err := os.Rename(c.LogFile(), c.LogFile()+".1"); err != nil {
			return 0, fmt.Errorf("rotate containerd log: %w", err)
		}
	}
	log, err := os.OpenFile(c.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, fmt.Errorf("open containerd log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // it must outlive every context of this process
	cmd.Dir = "/"
	cmd.Env = childEnv(os.Environ(), c.programDir())
	cmd.Stdout, cmd.Stderr = log, log
	// A session of its own keeps it from the terminal's signals; there is no Pdeathsig on purpose.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := startIn(c.NetNS, cmd); err != nil {
		return 0, fmt.Errorf("start containerd: %w", err)
	}
	go func() {
		// Reaping is all that this goroutine does; waitExit reports the end, of an adopted process as well.
		_ = cmd.Wait()
	}()
	return cmd.Process.Pid, nil
}

// childEnv is the environment of containerd and, through it, of the shims. The garbage collector works for a small
// heap, and layers are unpacked in process even where the host has pigz. PATH leads to our programs first: containerd
// looks there for the shim of each container that it finds again, and gives up the container if there is none; a shim
// that the host has installed is not ours to use.
func childEnv(environ []string, programDir string) []string {
	var env []string
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		switch name {
		case "GOGC", "GOMEMLIMIT", "GOMAXPROCS", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "CONTAINERD_ADDRESS":
		case "PATH":
			path = value
		default:
			env = append(env, kv)
		}
	}
	return append(env, "PATH="+programDir+":"+path, "GOGC=50", "CONTAINERD_DISABLE_PIGZ=1", "CONTAINERD_DISABLE_IGZIP=1")
}

// startIn starts cmd in the network namespace at path. A child inherits the namespaces of the thread that starts it, so
// a thread enters the namespace, starts the child and is thrown away. It inherits the thread's timer slack, too, and containers from it.
func startIn(path string, cmd *exec.Cmd) error {
	if path == "" {
		return sysmon.Unrelaxed(cmd.Start)
	}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		result <- func() error {
			fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("open network namespace %s: %w", path, err)
			}
			defer func() { _ = unix.Close(fd) }()
			if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter network namespace %s: %w", path, err)
			}
			return sysmon.Unrelaxed(cmd.Start)
		}()
	}()
	return <-result
}

// waitExit blocks until the process has ended and then returns an error that says so, or until ctx ends.
func waitExit(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("containerd process %d has ended: %w", pid, err)
	}
	// A pidfd becomes readable when its process ends; the runtime's poller waits for that without a thread.
	file := os.NewFile(uintptr(fd), "pidfd")
	stop := context.AfterFunc(ctx, func() { _ = file.SetReadDeadline(time.Unix(1, 0)) })
	defer func() {
		stop()
		_ = file.Close()
	}()
	raw, err := file.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch process %d: %w", pid, err)
	}
	err = raw.Read(func(fd uintptr) bool {
		ready, pollErr := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return pollErr == nil && ready == 1
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("watch process %d: %w", pid, err)
	}
	return fmt.Errorf("containerd process %d has ended", pid)
}

// end asks the process to leave, then kills it, and returns when it is gone.
func end(ctx context.Context, pid int) error {
	for _, step := range []struct {
		signal unix.Signal
		limit  time.Duration
	}{{unix.SIGTERM, haltLimit}, {unix.SIGKILL, haltLimit}} {
		if err := unix.Kill(pid, step.signal); err != nil {
			if errors.Is(err, unix.ESRCH) {
				return nil
			}
			return fmt.Errorf("end containerd process %d: %w", pid, err)
		}
		wait, cancel := context.WithTimeout(ctx, step.limit)
		_ = waitExit(wait, pid)
		expired := wait.Err() != nil
		cancel()
		if !expired {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("end containerd process %d: %w", pid, err)
		}
	}
	return fmt.Errorf("end containerd process %d: still there after SIGKILL", pid)
}

// tail returns the last lines of a file, for an error message.
func tail(path string) string {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > 2048 {
		if _, err := f.Seek(-2048, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(data))
}
