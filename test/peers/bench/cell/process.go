// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cell

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a program of the measured system.
type Process struct {
	cmd   *exec.Cmd
	start *os.File
	ended chan struct{}
	log   string
}

// Prepare readies a program: a process in the cgroup named (Measured or Scenery) that waits for Go. What it prints goes to the file log.
func Prepare(cgroup, log string, args ...string) (*Process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	wait, start, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer wait.Close()
	ready, tell, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	cmd := exec.Command("/proc/self/exe", append([]string{ExecArg, cgroup}, args...)...) //nolint:noctx // Stop ends it with a signal first.
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, Dir
	cmd.ExtraFiles = []*os.File{wait, tell}
	err = cmd.Start()
	tell.Close()
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", args[0], err)
	}
	p := &Process{cmd: cmd, start: start, ended: make(chan struct{}), log: log}
	go func() { _ = cmd.Wait(); close(p.ended) }() // its state says how
	if n, _ := ready.Read(make([]byte, 1)); n != 1 {
		return nil, fmt.Errorf("prepare %s: %w", args[0], p.Err())
	}
	return p, nil
}

// Exec is the process that Prepare makes: it joins the cgroup that args begin with, waits, and becomes the program.
func Exec(args []string) error {
	cgroup, args := args[0], args[1:]
	all, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range all {
		if err := join(filepath.Join(h.mount, cgroup)); err != nil {
			return err
		}
	}
	wait, tell := os.NewFile(3, "wait"), os.NewFile(4, "tell")
	if _, err := tell.Write([]byte{1}); err != nil {
		return err
	}
	tell.Close()
	if _, err := wait.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("wait for the word: %w", err)
	}
	wait.Close()
	return syscall.Exec(args[0], args, os.Environ())
}

// Go lets the program start, and returns when that was.
func (p *Process) Go() (time.Time, error) {
	defer p.start.Close()
	at := time.Now()
	_, err := p.start.Write([]byte{1})
	return at, err
}

// Ended is closed when the program has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Err says how an ended program ended, with the end of what it printed.
func (p *Process) Err() error {
	<-p.ended
	text, _ := os.ReadFile(p.log) // it explains, no more
	if len(text) > 2000 {
		text = text[len(text)-2000:]
	}
	return fmt.Errorf("%s: %v\n%s", p.cmd.Args[3], p.cmd.ProcessState, text)
}

// Stop asks a program to end and waits for it; after a while it is killed.
func (p *Process) Stop(patience time.Duration) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// PID of the program.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Resident is the memory of measured processes.
type Resident struct {
	// Processes is how many there are.
	Processes int
	// RSS is the sum of what each has resident, in bytes: shared pages count once for each process (VmRSS of proc(5)).
	RSS int64
	// Peak is the sum of each one's highest RSS since its start or since the last ResetPeak (VmHWM).
	Peak int64
	// PSS is the sum with shared pages divided among those that share them (smaps_rollup).
	PSS int64
	// ByName is RSS by program name.
	ByName map[string]int64
}

// Memory sums over every process of the cell but the load driver's. The containers' own processes count like all others.
func Memory() (Resident, error) {
	sum := Resident{ByName: map[string]int64{}}
	err := eachMeasured(func(dir, name string) error {
		status, err := os.ReadFile(dir + "/status")
		if err != nil {
			return err
		}
		rss := field(status, "VmRSS:")
		if rss == 0 {
			return nil // a zombie
		}
		rollup, err := os.ReadFile(dir + "/smaps_rollup")
		if err != nil {
			return err
		}
		sum.Processes++
		sum.RSS += rss
		sum.Peak += field(status, "VmHWM:")
		sum.PSS += field(rollup, "Pss:")
		sum.ByName[name] += rss
		return nil
	})
	return sum, err
}

// ResetPeak makes the peak start anew from what is resident now.
func ResetPeak() error {
	return eachMeasured(func(dir, _ string) error { return os.WriteFile(dir+"/clear_refs", []byte("5"), 0) })
}

// eachMeasured calls f with the /proc folder and name of every process that is not in the driver's cgroup.
func eachMeasured(f func(dir, name string) error) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		dir := "/proc/" + e.Name()
		where, err := os.ReadFile(dir + "/cgroup")
		if err == nil && driven(string(where)) {
			continue
		}
		var name []byte
		if err == nil {
			name, err = os.ReadFile(dir + "/comm")
		}
		if err == nil {
			err = f(dir, strings.TrimSpace(string(name)))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("read process %s: %w", e.Name(), err)
		}
	}
	return nil
}

// driven tells the load driver's processes.
func driven(cgroups string) bool {
	for line := range strings.Lines(cgroups) {
		if strings.HasSuffix(strings.TrimSpace(line), ":/"+Scenery) {
			return true
		}
	}
	return false
}

// field reads "Name:   123 kB" in bytes; 0 where it is missing.
func field(text []byte, name string) int64 {
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, name); found {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10
		}
	}
	return 0
}
