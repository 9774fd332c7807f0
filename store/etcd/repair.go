// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
)

// ErrInUse is returned by Open when another process has the data folder open.
var ErrInUse = errors.New("data folder is in use")

// frameBytes is the length field before each record of a WAL.
const frameBytes = 8

// repairWAL makes a WAL that a crash has torn readable. etcd itself cuts off a last record when the file ends in it, or when
// a whole disk sector of it was never written. But a file system may keep any prefix of what was being written, in a
// file that was filled with zeros ahead; then etcd sees a wrong checksum, and gives up. So:
//
//  1. Half-made segments (*.tmp) are removed. etcd would reuse them with what is in them.
//  2. If the last segment ends in a record that doesn't check, and nothing but zeros follows it, then that record was being
//     written, and nobody was told that it is safe: it is cut off.
//
// Anything else is damage, not a crash, and left to etcd to refuse.
func repairWAL(dir string) (err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var segments, halfMade []string
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".wal":
			segments = append(segments, e.Name())
		case ".tmp":
			halfMade = append(halfMade, e.Name())
		}
	}
	if len(segments) == 0 {
		return nil
	}
	slices.Sort(segments)
	whole := len(segments) - 1
	for _, name := range segments[:whole] { // etcd opens them all, and gives up on one that looks locked.
		f, err := lockFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if err := unlockFile(f); err != nil {
			return err
		}
	}
	last, err := lockFile(filepath.Join(dir, segments[whole]))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlockFile(last)) }()
	for _, name := range halfMade {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	offset, torn, err := findTorn(last)
	if err != nil || !torn {
		return err
	}
	if err := last.Truncate(offset); err != nil {
		return fmt.Errorf("cut off the torn record: %w", err)
	}
	return last.Sync()
}

// findTorn reads a segment to its end. If that is a torn record which etcd would not cut off, it returns its offset.
func findTorn(f *os.File) (offset int64, torn bool, err error) {
	decoder := wal.NewDecoder(fileutil.NewFileReader(f))
	var rec walpb.Record
	for {
		switch err := decoder.Decode(&rec); {
		case err == nil:
			if rec.GetType() == wal.CrcType {
				decoder.UpdateCRC(rec.GetCrc())
			}
		case endOfLog(err):
			return 0, false, nil
		default:
			offset := decoder.LastOffset()
			torn, err := onlyZerosAfterRecord(f, offset)
			return offset, torn, err
		}
	}
}

// endOfLog tells errors that are the end of a log, whole or torn as etcd knows it, from others.
func endOfLog(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// onlyZerosAfterRecord tells whether nothing was written behind the record at offset.
func onlyZerosAfterRecord(f *os.File, offset int64) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	rest := io.NewSectionReader(f, offset, info.Size()-offset)
	var frame [frameBytes]byte
	if _, err := io.ReadFull(rest, frame[:]); err != nil {
		return false, err
	}
	// The record's length is in the lower seven bytes; the eighth has the number of padding bytes, up to seven.
	var length int64
	for i := range frameBytes - 1 {
		length |= int64(frame[i]) << (8 * i)
	}
	if _, err := rest.Seek(frameBytes+length+int64(frame[7]&7), io.SeekStart); err != nil {
		return false, err
	}
	buf, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := rest.Read(buf)
		if !bytes.Equal(buf[:n], zeros[:n]) {
			return false, nil
		}
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// walDir is where etcd keeps the WAL below its data folder.
func walDir(dataDir string) string { return filepath.Join(dataDir, "member", "wal") }

// cleanURL makes a name usable as the host of a URL.
func cleanURL(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "-")) }
