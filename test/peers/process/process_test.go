// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kogge.dev/kogge/test/peers/process"
)

func TestAwaitTellsWhyAProgramEnded(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log", "sh")
	p, err := process.Start(process.Config{Path: "/bin/sh", Args: []string{"-c", "echo no such flag; exit 3"}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	err = p.Await(t.Context(), func(context.Context) error { return errors.New("nobody listens") })
	if err == nil || !strings.Contains(err.Error(), "no such flag") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("Await() = %v, want the exit status and what the program wrote", err)
	}
}

func TestStopEndsAProgramThatIsReady(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p, err := process.Start(process.Config{
		Path: "/bin/sh", Args: []string{"-c", "touch ready; exec sleep 100"}, Through: []string{"env", "A=b"}, Dir: dir, Log: filepath.Join(dir, "log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Await(t.Context(), func(context.Context) error { _, err := os.Stat(filepath.Join(dir, "ready")); return err }); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Errorf("Stop() = %v", err)
	}
	select {
	case <-p.Ended():
	default:
		t.Error("the program is still there after Stop()")
	}
	if err := p.Stop(); err != nil {
		t.Errorf("second Stop() = %v", err)
	}
}
