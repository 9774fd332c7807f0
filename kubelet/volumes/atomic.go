// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package volumes

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// file is one file of a content volume.
type file struct {
	data []byte
	mode os.FileMode
	// uid owns the file if it is not nil.
	uid *int64
}

const (
	dataLink    = "..data"
	newDataLink = "..data_tmp"
)

// writeAtomically replaces the content of dir by files, keyed by slash-separated relative paths, so that a reader sees either
// all old or all new files:
//
//	dir/..2026_11_20_12_00_00.123   the files
//	dir/..data -> ..2026_...        replaced by one rename
//	dir/name -> ..data/name         one link for each first path component
//
// prepare is applied to the new folder before it is shown. Unchanged content is left alone; the answer says whether it changed.
func writeAtomically(dir string, files map[string]file, prepare func(newDir string) error) (changed bool, err error) {
	for name := range files {
		if err := checkContentPath(name); err != nil {
			return false, err
		}
	}
	old, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	if old != "" && sameContent(filepath.Join(dir, old), files) {
		return false, ensureLinks(dir, files)
	}
	fresh, err := os.MkdirTemp(dir, time.Now().UTC().Format("..2006_01_02_15_04_05."))
	if err != nil {
		return false, err
	}
	shown := false
	defer func() {
		if !shown {
			err = errors.Join(err, os.RemoveAll(fresh))
		}
	}()
	if err := os.Chmod(fresh, 0o755); err != nil {
		return false, err
	}
	if err := writeFiles(fresh, files); err != nil {
		return false, err
	}
	if prepare != nil {
		if err := prepare(fresh); err != nil {
			return false, err
		}
	}
	temporary := filepath.Join(dir, newDataLink)
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	if err := os.Symlink(filepath.Base(fresh), temporary); err != nil {
		return false, err
	}
	if err := os.Rename(temporary, filepath.Join(dir, dataLink)); err != nil {
		return false, err
	}
	shown = true
	return true, errors.Join(ensureLinks(dir, files), removeStale(dir, filepath.Base(fresh)))
}

func checkContentPath(name string) error {
	switch {
	case name == "", path.IsAbs(name), len(name) > 4096:
		return fmt.Errorf("invalid path %q", name)
	case strings.HasPrefix(name, ".."), slices.Contains(strings.Split(name, "/"), ".."):
		return fmt.Errorf("invalid path %q: must not contain '..'", name)
	}
	return nil
}

func writeFiles(dir string, files map[string]file) error {
	for name, f := range files {
		full := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(full, f.data, f.mode); err != nil {
			return err
		}
		if err := os.Chmod(full, f.mode); err != nil { // the umask took bits away
			return err
		}
		if f.uid != nil {
			if err := os.Chown(full, int(*f.uid), -1); err != nil {
				return err
			}
		}
	}
	return nil
}

// sameContent reports whether a folder holds exactly these files. Modes may have been widened for the pod's group.
func sameContent(dir string, files map[string]file) bool {
	count := 0
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		want, ok := files[filepath.ToSlash(rel)]
		if !ok {
			return errDiffers
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&want.mode != want.mode.Perm() || info.Size() != int64(len(want.data)) {
			return errDiffers
		}
		have, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if !bytes.Equal(have, want.data) {
			return errDiffers
		}
		count++
		return nil
	})
	return err == nil && count == len(files)
}

var errDiffers = errors.New("content differs")

// ensureLinks makes the names that users see, and removes those of files that are gone.
func ensureLinks(dir string, files map[string]file) error {
	want := map[string]bool{}
	for name := range files {
		first, _, _ := strings.Cut(name, "/")
		want[first] = true
	}
	for name := range want {
		link := filepath.Join(dir, name)
		if _, err := os.Readlink(link); err == nil {
			continue
		}
		if err := os.Symlink(filepath.Join(dataLink, name), link); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") || want[e.Name()] || e.Type()&os.ModeSymlink == 0 {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// removeStale removes folders of former content, also those that an interrupted write left.
func removeStale(dir, current string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), "..2") && e.Name() != current {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
