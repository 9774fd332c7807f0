// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestEveryWayToChangeAFile changes a file as editors, people and mounted volumes do.
func TestEveryWayToChangeAFile(t *testing.T) {
	dir := t.TempDir()
	for _, first := range []string{"v1", "v2"} {
		if err := errors.Join(os.Mkdir(filepath.Join(dir, first), 0o700), os.WriteFile(filepath.Join(dir, first, "file"), []byte(first), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "file")
	link := func(to string) error {
		return errors.Join(os.Symlink(to, filepath.Join(dir, "next")), os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "now")))
	}
	if err := errors.Join(link("v1"), os.Symlink(filepath.Join("now", "file"), path)); err != nil {
		t.Fatal(err)
	}
	applied := make(chan string, 16)
	f, content, err := Open(Config{Path: path, Name: "test", Log: slog.New(slog.DiscardHandler), Apply: func(_ context.Context, content []byte) error {
		applied <- string(content)
		if string(content) == "refused" {
			return errors.New("no")
		}
		return nil
	}})
	if err != nil || string(content) != "v1" {
		t.Fatalf("Open = %q, %v", content, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	wants := func(want string) {
		t.Helper()
		select {
		case got := <-applied:
			if got != want {
				t.Fatalf("applied %q, want %q", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%q was not applied", want)
		}
	}
	// A volume: another folder takes the place of the one that the link goes through.
	if err := link("v2"); err != nil {
		t.Fatal(err)
	}
	wants("v2")
	// In the folder that the link leads to. Who is slow must not see the file between its two states: no content is shorter than the one before.
	over := func(path, content string) {
		t.Helper()
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = file.WriteString(content)
		if err := errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
	}
	over(filepath.Join(dir, "v2", "file"), "written")
	wants("written")
	// A file instead of the link, by renaming.
	rename := func(content string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(filepath.Join(dir, "new"), []byte(content), 0o600), os.Rename(filepath.Join(dir, "new"), path)); err != nil {
			t.Fatal(err)
		}
	}
	rename("renamed")
	wants("renamed")
	// What is refused is refused once, whatever else happens in the folder.
	over(path, "refused")
	wants("refused")
	for i := range 3 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("other", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * settle)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * settle)
	rename("back")
	wants("back")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(applied) > 0 {
		t.Errorf("applied once more: %q", <-applied)
	}
}
