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

// link makes a symbolic link, or puts it in the place of another file at once.
func link(to, at string) error {
	return errors.Join(os.Symlink(to, at+".next"), os.Rename(at+".next", at))
}

// over writes over a file. Who is slow must not see it between its two states: no content is shorter than the one before.
func over(path, content string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(content)
	return errors.Join(err, file.Close())
}

// TestEveryWayToChangeAFile changes a file as editors, people and mounted volumes do.
func TestEveryWayToChangeAFile(t *testing.T) {
	dir := t.TempDir()
	change := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	for _, first := range []string{"v1", "v2"} {
		change(os.Mkdir(filepath.Join(dir, first), 0o700), os.WriteFile(filepath.Join(dir, first, "file"), []byte(first), 0o600))
	}
	path := filepath.Join(dir, "file")
	change(link("v1", filepath.Join(dir, "now")), link("now/file", path))
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
	change(link("v2", filepath.Join(dir, "now")))
	wants("v2")
	// In the folder that the link leads to.
	change(over(filepath.Join(dir, "v2", "file"), "written"))
	wants("written")
	// A file instead of the link, by renaming.
	rename := func(content string) error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "new"), []byte(content), 0o600), os.Rename(filepath.Join(dir, "new"), path))
	}
	change(rename("renamed"))
	wants("renamed")
	// What is refused is refused once, whatever else happens in the folder.
	change(over(path, "refused"))
	wants("refused")
	for i := range 3 {
		change(os.WriteFile(filepath.Join(dir, fmt.Sprint("other", i)), nil, 0o600))
		time.Sleep(2 * settle)
	}
	change(os.Remove(path))
	time.Sleep(2 * settle)
	change(rename("back"))
	wants("back")
	// A link through a folder elsewhere, in which another link then changes.
	elsewhere := t.TempDir()
	change(link(filepath.Join(dir, "v1"), filepath.Join(elsewhere, "now")), link(filepath.Join(elsewhere, "now", "file"), path))
	wants("v1")
	change(link(filepath.Join(dir, "v2"), filepath.Join(elsewhere, "now")))
	wants("written")
	// The folder with the file is moved away, and another one comes.
	change(os.Rename(filepath.Join(dir, "v2"), filepath.Join(dir, "v3")))
	time.Sleep(2 * settle)
	change(
		os.Mkdir(filepath.Join(dir, "v4"), 0o700), os.WriteFile(filepath.Join(dir, "v4", "file"), []byte("moved"), 0o600),
		os.Rename(filepath.Join(dir, "v4"), filepath.Join(dir, "v2")),
	)
	wants("moved")
	change(over(filepath.Join(dir, "v2", "file"), "followed"))
	wants("followed")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(applied) > 0 {
		t.Errorf("applied once more: %q", <-applied)
	}
}
