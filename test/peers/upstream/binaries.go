// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package upstream builds upstream's programs from their Go modules and runs clusters of them.
package upstream

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
)

// Version is the release of Kubernetes that kogge is measured against.
const Version = "v1.36.3"

// BinariesVariable names the environment variable with a folder of upstream programs that are built already.
const BinariesVariable = "KOGGE_PEERS_BIN"

// Programs that can be built.
const (
	KubeAPIServer         = "kube-apiserver"
	KubeControllerManager = "kube-controller-manager"
	KubeScheduler         = "kube-scheduler"
	KubeProxy             = "kube-proxy"
	Kubelet               = "kubelet"
	Etcd                  = "etcd"
	CoreDNS               = "coredns"
)

// source says where a program comes from.
type source struct {
	// module names two files in modules/, which pin the versions.
	module string
	pkg    string
	// cgo programs need a C compiler.
	cgo bool
}

var sources = map[string]source{
	KubeAPIServer:         {module: "kubernetes", pkg: "k8s.io/kubernetes/cmd/kube-apiserver"},
	KubeControllerManager: {module: "kubernetes", pkg: "k8s.io/kubernetes/cmd/kube-controller-manager"},
	KubeScheduler:         {module: "kubernetes", pkg: "k8s.io/kubernetes/cmd/kube-scheduler"},
	KubeProxy:             {module: "kubernetes", pkg: "k8s.io/kubernetes/cmd/kube-proxy"},
	Kubelet:               {module: "kubernetes", pkg: "k8s.io/kubernetes/cmd/kubelet", cgo: true},
	Etcd:                  {module: "etcd", pkg: "go.etcd.io/etcd/server/v3"},
	CoreDNS:               {module: "coredns", pkg: "github.com/coredns/coredns"},
}

// modules are the go.mod and go.sum files that pin what is built. They have other names here because a folder with a go.mod
// can't be embedded; to change one, edit and tidy the copy in the scratch folder, and copy it back.
//
//go:embed modules
var modules embed.FS

// Binaries is a folder of upstream programs.
type Binaries string

// Path of a program.
func (b Binaries) Path(name string) string { return filepath.Join(string(b), name) }

// Build makes the programs named in the folder bin below dir and returns that folder, by its absolute path: programs are
// started in other folders. What is there already is kept: the versions are constants of this package, and a changed pin
// comes with an emptied scratch folder (make clean). Where the variable KOGGE_PEERS_BIN names a folder, its programs are
// used and nothing is built. Progress goes to out.
func Build(ctx context.Context, dir string, out io.Writer, names ...string) (Binaries, error) {
	if given := os.Getenv(BinariesVariable); given != "" {
		folder, err := filepath.Abs(given)
		if err != nil {
			return "", fmt.Errorf("folder from %s: %w", BinariesVariable, err)
		}
		for _, name := range names {
			if _, err := os.Stat(Binaries(folder).Path(name)); err != nil {
				return "", fmt.Errorf("upstream program %s (folder from %s): %w", name, BinariesVariable, err)
			}
		}
		return Binaries(folder), nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("build upstream: %w", err)
	}
	bin := Binaries(filepath.Join(dir, "bin"))
	if err := os.MkdirAll(string(bin), 0o755); err != nil {
		return "", fmt.Errorf("build upstream: %w", err)
	}
	for _, name := range names {
		_, err := os.Stat(bin.Path(name))
		if err == nil {
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("build upstream: %w", err)
		}
		fmt.Fprintf(out, "build upstream's %s\n", name)
		if err := build(ctx, dir, bin, name); err != nil {
			return "", fmt.Errorf("build upstream's %s: %w", name, err)
		}
	}
	return bin, nil
}

func build(ctx context.Context, dir string, bin Binaries, name string) error {
	from, known := sources[name]
	if !known {
		return errors.New("no source is known")
	}
	work := filepath.Join(dir, "modules", from.module)
	if err := unpack(from.module, work); err != nil {
		return err
	}
	temp := bin.Path("." + name) // a build that was cut short must not look complete
	const stamp = "-s -w -X k8s.io/component-base/version.gitVersion=" + Version +
		" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36"
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", stamp, "-o", temp, from.pkg)
	cgo := "CGO_ENABLED=0"
	if from.cgo {
		cgo = "CGO_ENABLED=1"
	}
	cmd.Dir, cmd.Env = work, append(os.Environ(), cgo, "GOFLAGS=-buildvcs=false", "GOWORK=off")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w\n%s", err, said.Bytes())
	}
	return os.Rename(temp, bin.Path(name))
}

// unpack writes the files that pin a module.
func unpack(module, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, ending := range []string{".mod", ".sum"} {
		text, err := modules.ReadFile(path.Join("modules", module+ending))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "go"+ending), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
