// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// boxImage holds Debian's static busybox (a shell, httpd and the rest) and our probe.
const boxImage = "kogge.test/box:1"

// writeImages assembles the test image as an OCI archive.
func writeImages(path string) error {
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return fmt.Errorf("%w: apt-get install busybox-static", err)
	}
	list, err := exec.Command("/bin/busybox", "--list").Output()
	if err != nil {
		return err
	}
	asker := path + ".probe"
	build := exec.Command("go", "build", "-o", asker, "./probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build probe: %w\n%s", err, out)
	}
	probe, err := os.ReadFile(asker)
	if err != nil {
		return err
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
	file("bin/busybox", 0o755, program)
	file("bin/probe", 0o755, probe)
	for _, applet := range strings.Fields(string(list)) {
		if applet != "busybox" {
			_ = w.WriteHeader(&tar.Header{Name: "bin/" + applet, Linkname: "busybox", Typeflag: tar.TypeSymlink})
		}
	}
	file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"))
	file("www/index.html", 0o644, []byte("hello from the box\n"))
	if err := w.Close(); err != nil {
		return err
	}
	return writeArchive(path, boxImage, layer.Bytes())
}

// writeArchive writes an image of one layer.
func writeArchive(path, name string, layer []byte) error {
	blobs := map[string][]byte{}
	put := func(content []byte) map[string]any {
		sum := sha256.Sum256(content)
		digest := hex.EncodeToString(sum[:])
		blobs[digest] = content
		return map[string]any{"digest": "sha256:" + digest, "size": len(content)}
	}
	encode := func(v any) []byte {
		text, _ := json.Marshal(v) // maps of strings and numbers
		return text
	}
	l := put(layer)
	l["mediaType"] = "application/vnd.oci.image.layer.v1.tar"
	c := put(encode(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Env": []string{"PATH=/bin"}, "Cmd": []string{"sh"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{l["digest"]}},
	}))
	c["mediaType"] = "application/vnd.oci.image.config.v1+json"
	m := put(encode(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": c, "layers": []any{l},
	}))
	m["mediaType"] = "application/vnd.oci.image.manifest.v1+json"
	m["annotations"] = map[string]string{"io.containerd.image.name": name}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	file := func(name string, content []byte) error {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		_, err := w.Write(content)
		return err
	}
	for digest, content := range blobs {
		if err := file("blobs/sha256/"+digest, content); err != nil {
			return err
		}
	}
	if err := file("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	if err := file("index.json", encode(map[string]any{"schemaVersion": 2, "manifests": []any{m}})); err != nil {
		return err
	}
	return w.Close()
}
