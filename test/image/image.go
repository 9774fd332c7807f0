// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package image makes container images of one layer for tests, and archives of them, without a registry or a build tool.
package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"runtime"
	"slices"
	"strings"
)

// The annotations by which an OCI archive names an image: containerd's for a full name, and the specification's.
const (
	ContainerdName = "io.containerd.image.name"
	RefName        = "org.opencontainers.image.ref.name"
)

// Image is an image of one layer. It does not change once it is made.
type Image struct {
	layer, config []byte
	// Blobs of the image by digest, its manifest among them.
	Blobs map[string][]byte
	// Manifest describes the manifest.
	Manifest Descriptor
}

// Descriptor is what the OCI image specification calls so.
type Descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// New makes an image of a layer (Busybox, Program). Its containers start the program entry, or a shell if that is empty.
func New(layer []byte, entry string) *Image {
	i := &Image{layer: layer, Blobs: map[string][]byte{}}
	put := func(mediaType string, content []byte) Descriptor {
		sum := sha256.Sum256(content)
		digest := "sha256:" + hex.EncodeToString(sum[:])
		i.Blobs[digest] = content
		return Descriptor{MediaType: mediaType, Digest: digest, Size: len(content)}
	}
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = w.Write(layer) // into memory
	_ = w.Close()
	plain := sha256.Sum256(layer)
	start := map[string]any{"Env": []string{"PATH=/bin"}, "Cmd": []string{"sh"}}
	if entry != "" {
		start = map[string]any{"Entrypoint": []string{entry}}
	}
	i.config = encode(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": start,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(plain[:])}},
	})
	const oci = "application/vnd.oci.image."
	layers := []Descriptor{put(oci+"layer.v1.tar+gzip", zipped.Bytes())}
	config := put(oci+"config.v1+json", i.config)
	i.Manifest = put(oci+"manifest.v1+json", encode(map[string]any{
		"schemaVersion": 2, "mediaType": oci + "manifest.v1+json", "config": config, "layers": layers,
	}))
	return i
}

func encode(v any) []byte {
	text, _ := json.Marshal(v) // maps of strings and numbers
	return text
}

// WriteOCI writes an OCI archive whose index names the image by one annotation.
func (i *Image) WriteOCI(file, annotation, name string) error {
	named := i.Manifest
	named.Annotations = map[string]string{annotation: name}
	files := map[string][]byte{
		"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`),
		"index.json": encode(map[string]any{"schemaVersion": 2, "manifests": []Descriptor{named}}),
	}
	for digest, content := range i.Blobs {
		files["blobs/sha256/"+strings.TrimPrefix(digest, "sha256:")] = content
	}
	return writeTar(file, files)
}

// WriteDocker writes an archive as docker save does.
func (i *Image) WriteDocker(file, name string) error {
	return writeTar(file, map[string][]byte{
		"manifest.json": encode([]any{map[string]any{"Config": "config.json", "RepoTags": []string{name}, "Layers": []string{"one/layer.tar"}}}),
		"config.json":   i.config, "one/layer.tar": i.layer,
	})
}

func writeTar(file string, files map[string][]byte) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := add(w, name, 0o644, files[name]); err != nil {
			return err
		}
	}
	return w.Close()
}

func add(w *tar.Writer, name string, mode int64, content []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

// Program is a layer with one program, at /name, and a place for its temporary files.
func Program(name string, content []byte) ([]byte, error) {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	err := errors.Join(
		w.WriteHeader(&tar.Header{Name: "tmp/", Mode: 0o1777, Typeflag: tar.TypeDir}),
		add(w, name, 0o755, content),
		w.Close())
	return layer.Bytes(), err
}

// Busybox is a layer with Debian's static busybox, all its applets in /bin, and these files by path; those in bin/ are programs.
func Busybox(ctx context.Context, files map[string][]byte) ([]byte, error) {
	const program = "/bin/busybox"
	busybox, err := os.ReadFile(program)
	if err != nil {
		return nil, fmt.Errorf("%w: apt-get install busybox-static", err)
	}
	list, err := exec.CommandContext(ctx, program, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list the applets of busybox: %w", err)
	}
	files = maps.Clone(files)
	if files == nil {
		files = map[string][]byte{}
	}
	files["bin/busybox"] = busybox
	files["etc/passwd"] = []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, dir := range []string{"bin/", "tmp/", "etc/", "www/", "root/"} {
		if err := w.WriteHeader(&tar.Header{Name: dir, Mode: 0o1777, Typeflag: tar.TypeDir}); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		mode := int64(0o644)
		if path.Dir(name) == "bin" {
			mode = 0o755
		}
		if err := add(w, name, mode, files[name]); err != nil {
			return nil, err
		}
	}
	for applet := range strings.FieldsSeq(string(list)) {
		if applet == "busybox" {
			continue
		}
		if err := w.WriteHeader(&tar.Header{Name: "bin/" + applet, Linkname: "busybox", Typeflag: tar.TypeSymlink}); err != nil {
			return nil, err
		}
	}
	err = w.Close()
	return layer.Bytes(), err
}
