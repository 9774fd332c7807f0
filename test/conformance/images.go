// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The Debian release and packages of the base that most images share: the programs that the suite calls in its pods.
const debian = "bookworm"

var packages = []string{
	"bash", "bash-static", "bind9-dnsutils", "busybox-static", "ca-certificates", "curl", "iperf", "iproute2", "iputils-ping",
	"netcat-openbsd", "nginx-light", "openssl", "perl", "procps", "util-linux",
}

const registry, testRegistry = "registry.k8s.io/", "registry.k8s.io/e2e-test-images/"

// recipe is this file: images are made anew when it changes.
//
//go:embed images.go
var recipe []byte

func (o options) layout() string { return o.scratch("images", "oci") }
func (o options) base() string   { return o.scratch("images", "base") }

// stampFile says what the layout was made of.
func (o options) stampFile() string { return o.scratch("images", "stamp") }

// makeImages makes the layout of all images, unless it is there and made of the same things.
func makeImages(ctx context.Context, o options) error {
	stamp, err := ingredients(o)
	if err != nil {
		return err
	}
	if have, err := os.ReadFile(o.stampFile()); err == nil && string(have) == stamp {
		return nil
	}
	began := time.Now()
	fmt.Fprintln(os.Stdout, "making the suite's images")
	if err := debootstrap(ctx, o); err != nil {
		return err
	}
	l, err := newLayout(o.layout())
	if err != nil {
		return err
	}
	if err := (&kitchen{o: o, layout: l}).all(ctx); err != nil {
		return err
	}
	if err := l.finish(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "%d images in %v\n", len(l.index.Manifests), time.Since(began).Round(time.Second))
	return os.WriteFile(o.stampFile(), []byte(stamp), 0o644)
}

// ingredients is a digest of everything that images are made of.
func ingredients(o options) (string, error) {
	hash := sha256.New()
	hash.Write(recipe)
	for _, p := range programs {
		file, err := os.Open(filepath.Join(o.bin, p.name))
		if err != nil {
			return "", err
		}
		_, err = io.Copy(hash, file)
		file.Close()
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// debootstrap makes the Debian base. It takes a minute, so it stays until its packages change.
func debootstrap(ctx context.Context, o options) error {
	wanted := debian + " " + strings.Join(packages, ",")
	marker := o.base() + ".packages"
	if have, err := os.ReadFile(marker); err == nil && string(have) == wanted {
		return nil
	}
	if err := os.RemoveAll(o.base()); err != nil {
		return err
	}
	if err := os.MkdirAll(o.base(), 0o755); err != nil {
		return err
	}
	if err := command(ctx, "/", "debootstrap", "--variant=minbase", "--include="+strings.Join(packages, ","), debian, o.base()); err != nil {
		return fmt.Errorf("make the base of the images: %w", err)
	}
	for _, junk := range []string{"var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"} {
		if err := os.RemoveAll(filepath.Join(o.base(), junk)); err != nil {
			return err
		}
	}
	return os.WriteFile(marker, []byte(wanted), 0o644)
}

// kitchen makes images.
type kitchen struct {
	o          options
	layout     *layout
	base, busy descriptor
	// module is the folder of the suite's module, which holds some files of the images.
	module string
	err    error
}

// all makes every image that the conformance tests name. The first error ends it.
func (k *kitchen) all(ctx context.Context) error {
	var err error
	if k.module, err = output(ctx, k.o.list(""), "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"); err != nil {
		return err
	}
	k.module = strings.TrimSpace(k.module)
	k.base, err = k.layout.blob(typeLayer, func(w io.Writer) error {
		archive := exec.CommandContext(ctx, "tar", "-C", k.o.base(), "--numeric-owner", "--exclude=./dev/*", "-c", ".")
		archive.Stdout, archive.Stderr = w, os.Stderr
		return archive.Run()
	})
	if err != nil {
		return fmt.Errorf("pack the base of the images: %w", err)
	}
	k.busy = k.busybox(ctx)
	agnhost := k.layer(k.agnhost()...)

	for _, tag := range []string{"1.37.0-1", "1.36.1-1"} {
		k.image(testRegistry+"busybox:"+tag, imageConfig{Cmd: []string{"sh"}}, k.busy)
	}
	serve := imageConfig{Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"}}
	for _, name := range []string{testRegistry + "agnhost:2.63.0", testRegistry + "agnhost:2.55", "gcr.io/k8s-authenticated-test/agnhost:2.6"} {
		k.image(name, serve, k.base, agnhost)
	}
	for _, pet := range []string{"nautilus", "kitten"} {
		k.image(testRegistry+pet+":1.8", imageConfig{Entrypoint: []string{"/agnhost"}, Cmd: []string{"test-webserver"}}, k.base, agnhost, k.pet(pet))
	}
	for _, tag := range []string{"1.15-4", "1.27-0"} {
		welcome := k.layer(entry{"var/www/html/index.html", 0o644, []byte("<h1>Welcome to nginx!</h1>\n")})
		k.image(testRegistry+"nginx:"+tag, imageConfig{Cmd: []string{"nginx", "-g", "daemon off;"}}, k.base, welcome)
	}
	for _, plain := range []string{"perl:5.26", "glibc-dns-testing:2.0.0", "ipc-utils:1.4"} {
		k.image(testRegistry+plain, imageConfig{Cmd: []string{"bash"}}, k.base)
	}
	k.image(testRegistry+"nonroot:1.5", imageConfig{User: "1234", Cmd: []string{"sleep", "3600"}}, k.base)
	k.image(testRegistry+"nonewprivs:1.4", imageConfig{Entrypoint: []string{"/nnp"}}, k.busy, k.layer(entry{"nnp", 0o755 | fs.ModeSetuid, k.program("nonewprivs")}))
	k.image(testRegistry+"sample-apiserver:1.29.2", imageConfig{Entrypoint: []string{"/sample-apiserver"}}, k.one("sample-apiserver", "sample-apiserver"))
	k.image(registry+"etcd:3.6.8-0", imageConfig{Cmd: []string{"etcd"}}, k.busy, k.one("usr/local/bin/etcd", "etcd"))
	k.image(testRegistry+"regression-issue-74839:1.4", imageConfig{Entrypoint: []string{"/regression-issue-74839"}}, k.one("regression-issue-74839", "regression-issue-74839"))
	k.image(testRegistry+"resource-consumer:1.14", imageConfig{Entrypoint: []string{"/consumer"}}, k.base, k.one("consumer", "resource-consumer"))
	return k.err
}

// shell is busybox's own, whose messages some tests read. Debian's drops variables whose names are no identifiers, which the
// official image's hands on, and which other tests are about: bash takes its place where there are any.
const shell = `#!/bin/bash
while IFS= read -r -d '' variable; do
  [[ ${variable%%=*} =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] || exec -a /bin/sh /bin/bash "$@"
done </proc/self/environ
exec -a /bin/sh /bin/busybox "$@"
`

// busybox is the layer of an image with busybox and a shell.
func (k *kitchen) busybox(ctx context.Context) descriptor {
	folder := func(path string, mode fs.FileMode) entry { return entry{path, fs.ModeDir | mode, nil} }
	box := filepath.Join(k.o.base(), "bin/busybox")
	entries := []entry{
		folder("tmp", 0o777|fs.ModeSticky), folder("root", 0o700), folder("home", 0o755), folder("var/www", 0o755),
		{"etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\nnobody:x:65534:65534::/home:/bin/false\n")},
		{"etc/group", 0o644, []byte("root:x:0:\nwww-data:x:33:\nnobody:x:65534:\n")},
		{"etc/shadow", 0o600, []byte("root:*:10933:0:99999:7:::\n")},
		{"etc/localtime", 0o644, nil},
		{"bin/busybox", 0o755, k.read(box)},
		{"bin/bash", 0o755, k.read(filepath.Join(k.o.base(), "bin/bash-static"))},
		{"bin/sh", 0o755, []byte(shell)},
		{"usr/bin/env", 0o777 | fs.ModeSymlink, []byte("../../bin/busybox")},
	}
	applets, err := exec.CommandContext(ctx, box, "--list").Output()
	k.keep(err)
	for name := range strings.FieldsSeq(string(applets)) {
		if !slices.Contains([]string{"busybox", "bash", "sh"}, name) {
			entries = append(entries, entry{"bin/" + name, 0o777 | fs.ModeSymlink, []byte("busybox")})
		}
	}
	return k.layer(entries...)
}

// agnhost are the files over the base of the image that most tests use.
func (k *kitchen) agnhost() []entry {
	users := string(k.read(filepath.Join(k.o.base(), "etc/passwd"))) + "user-defined-in-image:x:1000:1000::/home/user:/bin/sh\n"
	groups := string(k.read(filepath.Join(k.o.base(), "etc/group"))) +
		"user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n"
	link := func(path, target string) entry { return entry{path, 0o777 | fs.ModeSymlink, []byte(target)} }
	return []entry{
		{"agnhost", 0o755, k.program("agnhost")},
		link("agnhost-2", "agnhost"), link("usr/local/bin/iperf", "/usr/bin/iperf"),
		{"uploads", 0o777 | fs.ModeDir, nil},
		{"etc/passwd", 0o644, []byte(users)},
		{"etc/group", 0o644, []byte(groups)},
		{"localhost.crt", 0o644, k.file("agnhost/porter/localhost.crt")},
		{"localhost.key", 0o644, k.file("agnhost/porter/localhost.key")},
	}
}

// pet is the layer of a web server's pages. A test of image volumes looks for the name of the distribution that the official
// image stands on.
func (k *kitchen) pet(name string) descriptor {
	return k.layer(
		entry{"data.json", 0o644, k.file(name + "/html/data.json")}, entry{name + ".jpg", 0o644, k.file(name + "/html/" + name + ".jpg")},
		entry{"etc/os-release", 0o644, []byte("PRETTY_NAME=\"Debian, in place of Alpine Linux\"\n")})
}

// one is a layer of one program.
func (k *kitchen) one(path, program string) descriptor {
	return k.layer(entry{path, 0o755, k.program(program)})
}

func (k *kitchen) program(name string) []byte { return k.read(filepath.Join(k.o.bin, name)) }

// file reads a file of the suite's own images.
func (k *kitchen) file(name string) []byte {
	return k.read(filepath.Join(k.module, "test/images", name))
}

func (k *kitchen) read(path string) []byte {
	data, err := os.ReadFile(path)
	k.keep(err)
	return data
}

func (k *kitchen) layer(entries ...entry) descriptor {
	d, err := k.layout.layer(entries...)
	k.keep(err)
	return d
}

func (k *kitchen) image(name string, config imageConfig, layers ...descriptor) {
	if k.err == nil {
		k.keep(k.layout.image(name, config, layers...))
	}
}

// keep remembers the first error.
func (k *kitchen) keep(err error) {
	if k.err == nil {
		k.err = err
	}
}
