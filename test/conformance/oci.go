// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Media types and annotations of the OCI image specification, and containerd's annotation for a full name.
const (
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar"
	annotateName = "io.containerd.image.name"
)

// layout is a folder of images as the OCI image layout specification has it.
type layout struct {
	dir   string
	index index
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	Manifests     []descriptor `json:"manifests"`
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

// imageConfig is what a container of an image gets by default.
type imageConfig struct {
	User       string   `json:"User,omitempty"`
	Env        []string `json:"Env,omitempty"`
	Entrypoint []string `json:"Entrypoint,omitempty"`
	Cmd        []string `json:"Cmd,omitempty"`
}

// newLayout starts an empty layout in a folder.
func newLayout(dir string) (*layout, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	return &layout{dir: dir, index: index{SchemaVersion: 2}}, os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755)
}

// openLayout reads the index of a finished layout.
func openLayout(dir string) (*layout, error) {
	text, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return nil, err
	}
	l := &layout{dir: dir}
	return l, json.Unmarshal(text, &l.index)
}

// blob stores a stream by its digest.
func (l *layout) blob(mediaType string, write func(io.Writer) error) (descriptor, error) {
	file, err := os.CreateTemp(l.dir, "blob-")
	if err != nil {
		return descriptor{}, err
	}
	defer func() { _ = os.Remove(file.Name()) }() // gone after the rename
	hash := sha256.New()
	if err := errors.Join(write(io.MultiWriter(file, hash)), file.Close()); err != nil {
		return descriptor{}, err
	}
	info, err := os.Stat(file.Name())
	if err != nil {
		return descriptor{}, err
	}
	sum := hex.EncodeToString(hash.Sum(nil))
	d := descriptor{MediaType: mediaType, Digest: "sha256:" + sum, Size: info.Size()}
	return d, os.Rename(file.Name(), filepath.Join(l.dir, "blobs", "sha256", sum))
}

func (l *layout) json(mediaType string, value any) (descriptor, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return descriptor{}, err
	}
	return l.blob(mediaType, func(w io.Writer) error { _, err := w.Write(text); return err })
}

// entry is one file of a layer: a folder, a symbolic link, or bytes.
type entry struct {
	path string
	// mode has the kind (fs.ModeDir, fs.ModeSymlink) and the permissions, with fs.ModeSetuid and fs.ModeSticky.
	mode fs.FileMode
	// data is the content, or the target of a link.
	data []byte
}

// layer stores a layer of few files, all owned by root.
func (l *layout) layer(entries ...entry) (descriptor, error) {
	return l.blob(typeLayer, func(w io.Writer) error {
		archive := tar.NewWriter(w)
		for _, e := range entries {
			info := &tar.Header{Name: e.path, Mode: int64(e.mode.Perm()), Typeflag: tar.TypeReg, Size: int64(len(e.data))}
			if e.mode&fs.ModeSetuid != 0 {
				info.Mode |= 0o4000
			}
			if e.mode&fs.ModeSticky != 0 {
				info.Mode |= 0o1000
			}
			content := e.data
			switch e.mode.Type() {
			case fs.ModeDir:
				info.Typeflag, info.Size, content = tar.TypeDir, 0, nil
			case fs.ModeSymlink:
				info.Typeflag, info.Linkname, info.Size, content = tar.TypeSymlink, string(e.data), 0, nil
			default: // a plain file
			}
			if err := archive.WriteHeader(info); err != nil {
				return fmt.Errorf("layer file %s: %w", e.path, err)
			}
			if _, err := io.Copy(archive, bytes.NewReader(content)); err != nil {
				return fmt.Errorf("layer file %s: %w", e.path, err)
			}
		}
		return archive.Close()
	})
}

// image adds an image under its full name.
func (l *layout) image(name string, config imageConfig, layers ...descriptor) error {
	config.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, config.Env...)
	var ids []string
	for _, layer := range layers {
		ids = append(ids, layer.Digest) // layers are not compressed
	}
	c, err := l.json(typeConfig, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": config, "rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	})
	if err != nil {
		return fmt.Errorf("image %s: %w", name, err)
	}
	m, err := l.json(typeManifest, manifest{SchemaVersion: 2, MediaType: typeManifest, Config: c, Layers: layers})
	if err != nil {
		return fmt.Errorf("image %s: %w", name, err)
	}
	m.Annotations = map[string]string{annotateName: name}
	l.index.Manifests = append(l.index.Manifests, m)
	return nil
}

// finish writes what makes the folder a layout.
func (l *layout) finish() error {
	text, err := json.Marshal(l.index)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(l.dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644),
		os.WriteFile(filepath.Join(l.dir, "index.json"), text, 0o644))
}

// ServeHTTP answers pulls by the OCI distribution specification. Which registry a client means is in the parameter ns, as
// containerd sends it to a mirror.
func (l *layout) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	if path == "" {
		return // the version check
	}
	if _, digest, ok := strings.Cut(path, "/blobs/"); ok {
		w.Header().Set("Content-Type", "application/octet-stream")
		l.serve(w, r, digest)
		return
	}
	repository, reference, ok := strings.Cut(path, "/manifests/")
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", typeManifest)
	name := r.URL.Query().Get("ns") + "/" + repository + ":" + reference
	for _, m := range l.index.Manifests {
		if m.Annotations[annotateName] == name || m.Digest == reference {
			w.Header().Set("Docker-Content-Digest", m.Digest)
			l.serve(w, r, m.Digest)
			return
		}
	}
	http.NotFound(w, r)
}

func (l *layout) serve(w http.ResponseWriter, r *http.Request, digest string) {
	sum, ok := strings.CutPrefix(digest, "sha256:")
	if _, err := hex.DecodeString(sum); !ok || err != nil || len(sum) != hex.EncodedLen(sha256.Size) {
		http.NotFound(w, r)
		return
	}
	http.ServeFile(w, r, filepath.Join(l.dir, "blobs", "sha256", sum))
}
