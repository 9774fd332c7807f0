// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"kogge.dev/kogge/test/peers/bench/cell"
)

// pauseImage does nothing until it is told to end: upstream's sandbox, and the workload on both sides.
const pauseImage = "bench.test/pause:1"

// pauseArchive writes the image as an OCI archive. Its program is the one that kogge's own sandboxes run.
func (r *round) pauseArchive() (string, error) {
	program, err := os.ReadFile(filepath.Join(filepath.Dir(r.kogge), "..", "cri", "containerd", "embedded", "pause"))
	if err != nil {
		return "", fmt.Errorf("%w (make helpers builds it)", err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := add(w, "pause", 0o755, program); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	path := filepath.Join(cell.Dir, "pause.tar")
	return path, writeImage(path, pauseImage, layer.Bytes(), "/pause")
}

func add(w *tar.Writer, name string, mode int64, content []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

// writeImage writes an image of one layer (OCI image layout 1.0, with containerd's annotation for its name).
func writeImage(path, name string, layer []byte, entrypoint string) error {
	blobs := map[string][]byte{}
	put := func(kind string, content []byte) object {
		sum := sha256.Sum256(content)
		digest := hex.EncodeToString(sum[:])
		blobs[digest] = content
		return object{"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + digest, "size": len(content)}
	}
	l := put("layer.v1.tar", layer)
	c := put("config.v1+json", encode(object{
		"architecture": runtime.GOARCH, "os": "linux", "config": object{"Entrypoint": []string{entrypoint}},
		"rootfs": object{"type": "layers", "diff_ids": []any{l["digest"]}},
	}))
	m := put("manifest.v1+json", encode(object{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": c, "layers": []any{l},
	}))
	m["annotations"] = object{"io.containerd.image.name": name}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	for digest, content := range blobs {
		if err := add(w, "blobs/sha256/"+digest, 0o644, content); err != nil {
			return err
		}
	}
	if err := add(w, "oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	if err := add(w, "index.json", 0o644, encode(object{"schemaVersion": 2, "manifests": []any{m}})); err != nil {
		return err
	}
	return w.Close()
}
