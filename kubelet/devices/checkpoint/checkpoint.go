// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package checkpoint keeps a small state of the kubelet in a file with a checksum.
package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// file is what is written: upstream's form, whose field names are part of it.
type file struct {
	Data     string // JSON
	Checksum uint32 // CRC-32 (IEEE) of Data
}

// Load reads what Save wrote; a file that is not there leaves into as it is. A broken one is an error: what it names may be in use.
func Load(path string, into any) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read checkpoint: %w", err)
	}
	var f file
	if err := json.Unmarshal(text, &f); err != nil {
		return fmt.Errorf("read checkpoint %s: %w", path, err)
	}
	if crc32.ChecksumIEEE([]byte(f.Data)) != f.Checksum {
		return fmt.Errorf("read checkpoint %s: it is corrupt; drain the node and remove the file", path)
	}
	if err := json.Unmarshal([]byte(f.Data), into); err != nil {
		return fmt.Errorf("read checkpoint %s: %w", path, err)
	}
	return nil
}

// Save replaces the file as a whole.
func Save(path string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("write checkpoint %s: %w", path, err)
	}
	outer, err := json.Marshal(file{Data: string(text), Checksum: crc32.ChecksumIEEE(text)})
	if err != nil {
		return fmt.Errorf("write checkpoint %s: %w", path, err)
	}
	fresh := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(fresh, outer, 0o600); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	return nil
}
