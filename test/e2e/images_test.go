// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// boxImage holds Debian's static busybox (a shell, httpd and the rest) and our programs.
const boxImage = "kogge.test/box:1"

// box is what test images are made of: busybox and our programs, built once.
type box struct{ programs map[string][]byte }

func newBox(dir string) (*box, error) {
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return nil, fmt.Errorf("%w: apt-get install busybox-static", err)
	}
	b := &box{programs: map[string][]byte{"busybox": busybox}}
	for _, name := range []string{"probe", "hook"} {
		path := filepath.Join(dir, name)
		build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", path, "./"+name)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
		if b.programs[name], err = os.ReadFile(path); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// layer is a file system with the programs, and a page that says greeting.
func (b *box) layer(greeting string) ([]byte, error) {
	list, err := exec.Command("/bin/busybox", "--list").Output()
	if err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	file := func(name string, mode int64, content []byte) {
		_ = w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(content)), Typeflag: tar.TypeReg}) // into memory
		_, _ = w.Write(content)
	}
	for _, dir := range []string{"bin/", "tmp/", "etc/", "www/", "root/"} {
		_ = w.WriteHeader(&tar.Header{Name: dir, Mode: 0o1777, Typeflag: tar.TypeDir})
	}
	for name, program := range b.programs {
		file("bin/"+name, 0o755, program)
	}
	for applet := range strings.FieldsSeq(string(list)) {
		if applet != "busybox" {
			_ = w.WriteHeader(&tar.Header{Name: "bin/" + applet, Linkname: "busybox", Typeflag: tar.TypeSymlink})
		}
	}
	file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"))
	file("www/index.html", 0o644, []byte(greeting+"\n"))
	err = w.Close()
	return layer.Bytes(), err
}

// image is an image of one layer: its blobs by digest, and the descriptor of its manifest.
type image struct {
	layer    []byte
	config   []byte
	blobs    map[string][]byte
	manifest descriptor
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// newImage makes an image of a layer; it starts a shell unless it has a program of its own.
func newImage(layer []byte, entry string) *image {
	i := &image{layer: layer, blobs: map[string][]byte{}}
	put := func(mediaType string, content []byte) descriptor {
		sum := sha256.Sum256(content)
		digest := "sha256:" + hex.EncodeToString(sum[:])
		i.blobs[digest] = content
		return descriptor{MediaType: mediaType, Digest: digest, Size: len(content)}
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
	layers := []descriptor{put(oci+"layer.v1.tar+gzip", zipped.Bytes())}
	config := put(oci+"config.v1+json", i.config)
	i.manifest = put(oci+"manifest.v1+json", encode(map[string]any{
		"schemaVersion": 2, "mediaType": oci + "manifest.v1+json", "config": config, "layers": layers,
	}))
	return i
}

func encode(v any) []byte {
	text, _ := json.Marshal(v) // maps of strings and numbers
	return text
}

// writeOCI writes an OCI archive whose index names the image by one annotation.
func (i *image) writeOCI(path, annotation, name string) error {
	named := i.manifest
	named.Annotations = map[string]string{annotation: name}
	files := map[string][]byte{
		"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`),
		"index.json": encode(map[string]any{"schemaVersion": 2, "manifests": []descriptor{named}}),
	}
	for digest, content := range i.blobs {
		files["blobs/sha256/"+strings.TrimPrefix(digest, "sha256:")] = content
	}
	return writeTar(path, files)
}

// writeDocker writes an archive as docker save does.
func (i *image) writeDocker(path, name string) error {
	return writeTar(path, map[string][]byte{
		"manifest.json": encode([]any{map[string]any{"Config": "config.json", "RepoTags": []string{name}, "Layers": []string{"one/layer.tar"}}}),
		"config.json":   i.config, "one/layer.tar": i.layer,
	})
}

func writeTar(path string, files map[string][]byte) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		if _, err := w.Write(files[name]); err != nil {
			return err
		}
	}
	return w.Close()
}
