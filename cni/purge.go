// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"kogge.dev/kogge/ledger"
)

// runtimeCache is where libcni, inside any runtime, remembers results between ADD and DEL. It is the same for all of a
// host and cannot be configured through CRI.
const runtimeCache = "/var/lib/cni/results"

// Purge removes what the network of a node keeps in files: the attachments, and what the runtime remembers of those that
// it never detached because it was killed. Links, tables and files elsewhere are the ledger's. No server may run.
func Purge(config Config) error {
	kept := store{dir: filepath.Join(config.DataDir, "attachments")}
	attachments, err := kept.load()
	if err != nil {
		return err
	}
	for owner := range attachments {
		result := filepath.Join(runtimeCache, networkName+"-"+owner.ContainerID+"-"+owner.IfName)
		if err := os.Remove(result); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("purge pod network: %w", err)
		}
	}
	for _, path := range []string{config.DataDir, config.Socket} {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("purge pod network: %w", err)
		}
	}
	return nil
}

// recordCache records the folders of the runtime's cache that are not there yet; they go when they are empty.
func (s *Server) recordCache() error {
	var missing []string
	for dir := runtimeCache; dir != "/var/lib"; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
			missing = append([]string{dir}, missing...)
		}
	}
	for _, dir := range missing {
		if err := s.config.Ledger.Record(ledger.Entry{Kind: ledger.Folder, Name: dir}); err != nil {
			return err
		}
	}
	return nil
}
