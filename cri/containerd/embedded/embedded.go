// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package embedded carries the small programs that run beside kogge: containerd's shim, runc, the CNI plugin and pause.
// helpers/build makes them and puts them into this folder before kogge is built. In a fresh clone the folder holds no
// program; the package compiles all the same and Check says what to do.
package embedded

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Names of the programs.
const (
	Shim  = "shim"
	Runc  = "runc"
	CNI   = "kogge-cni"
	Pause = "pause"
)

// ErrNotBuilt is returned when this binary was built without its helpers, or with those of another architecture.
var ErrNotBuilt = errors.New("this binary carries no helper programs; run make build")

//go:embed *
var files embed.FS

// Check reports whether all programs are present and made for this architecture.
func Check() error {
	arch, err := files.ReadFile("GOARCH")
	if err != nil {
		return ErrNotBuilt
	}
	if got := strings.TrimSpace(string(arch)); got != runtime.GOARCH {
		return fmt.Errorf("helper programs are for %s, this binary for %s: %w", got, runtime.GOARCH, ErrNotBuilt)
	}
	for _, name := range []string{Shim, Runc, CNI, Pause} {
		if _, err := fs.Stat(files, name); err != nil {
			return fmt.Errorf("helper program %s: %w", name, ErrNotBuilt)
		}
	}
	return nil
}

// Digest identifies the set of programs: it changes when any of them does.
func Digest() string {
	data, err := files.ReadFile("DIGEST")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// Read returns the content of a program. It copies; for the large ones use Extract.
func Read(name string) ([]byte, error) {
	data, err := files.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("helper program %s: %w", name, ErrNotBuilt)
	}
	return data, nil
}

// Extract writes the program name to path, executable, unless a file of that content is there by the evidence of its
// stamp: a hidden file beside it (Stamp) that names the digest of the set it came from. The file appears whole or not at all,
// and a process that runs the old one keeps it.
func Extract(name, path string) error {
	stamp := Stamp(path)
	source, err := files.Open(name)
	if err != nil {
		return fmt.Errorf("helper program %s: %w", name, ErrNotBuilt)
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return fmt.Errorf("helper program %s: %w", name, err)
	}
	old, stampErr := os.ReadFile(stamp)
	there, statErr := os.Stat(path)
	if stampErr == nil && statErr == nil && string(old) == Digest() && there.Size() == info.Size() && there.Mode().Perm() == 0o755 {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("extract %s: %w", name, err)
	}
	if err := replace(source, path); err != nil {
		return fmt.Errorf("extract %s: %w", name, err)
	}
	if err := os.WriteFile(stamp, []byte(Digest()), 0o644); err != nil {
		return fmt.Errorf("extract %s: %w", name, err)
	}
	return nil
}

// Stamp names the file that Extract leaves beside path.
func Stamp(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".digest")
}

// replace writes source to path through a temporary file and a rename.
func replace(source io.Reader, path string) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	if _, err := io.Copy(tmp, source); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err := tmp.Chmod(0o755); err != nil {
		return errors.Join(err, tmp.Close())
	}
	// Without the sync a power cut could leave an empty program under its final name.
	if err := tmp.Sync(); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
