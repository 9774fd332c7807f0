// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
)

// Paths are where a node keeps and looks for things.
type Paths struct {
	// Data survives a reboot, Run does not.
	Data, Run string
	// Cgroup is the node's own below every hierarchy, less the node's name.
	Cgroup string
	// Kubelet, PodLogs, ContainerLogs, Manifests, CNIConf and CNIBin are the folders that charts, CSI and CNI drivers know.
	Kubelet, PodLogs, ContainerLogs, Manifests, CNIConf, CNIBin string
}

// hold is the file whose presence tells the node's kubelet to start nothing.
func (p Paths) hold() string { return filepath.Join(p.Run, "hold") }

// Hold keeps the node's kubelet from starting containers, for a node that is being taken down while it runs: what is stopped would come
// back. A node that does not run stays as it is.
func (p Paths) Hold() error {
	if err := os.WriteFile(p.hold(), nil, 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keep the node from starting containers: %w", err)
	}
	return nil
}

// Release ends Hold.
func (p Paths) Release() error {
	if err := os.Remove(p.hold()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("let the node start containers again: %w", err)
	}
	return nil
}

func (p Paths) held() bool {
	_, err := os.Stat(p.hold())
	return err == nil
}

// longestRun bounds the run folder's path: containerd puts unix sockets into it, whose paths the kernel bounds.
const longestRun = 80

// PathsOf returns the paths that belong to a data folder. The default data folder goes with the paths that foreign software
// expects; any other one holds them all.
func PathsOf(dataDir, defaultDir string) Paths {
	if dataDir == defaultDir {
		return Paths{
			Data: dataDir, Run: "/run/kogge", Cgroup: "/kogge/",
			Kubelet: "/var/lib/kubelet", PodLogs: "/var/log/pods", ContainerLogs: "/var/log/containers",
			Manifests: "/etc/kubernetes/manifests", CNIConf: "/etc/cni/net.d", CNIBin: "/opt/cni/bin",
		}
	}
	in := func(parts ...string) string { return filepath.Join(append([]string{dataDir}, parts...)...) }
	// Cgroups are the machine's, whatever the folder and the network namespace: nodes of one name must not share one.
	h := fnv.New64a()
	_, _ = h.Write([]byte(dataDir))
	p := Paths{
		Data: dataDir, Run: in("run"), Cgroup: fmt.Sprintf("/kogge/%016x-", h.Sum64()),
		Kubelet: in("kubelet"), PodLogs: in("log", "pods"), ContainerLogs: in("log", "containers"),
		Manifests: in("manifests"), CNIConf: in("cni", "net.d"), CNIBin: in("cni", "bin"),
	}
	if len(p.Run) > longestRun {
		p.Run = fmt.Sprintf("/run/kogge-%016x", h.Sum64())
	}
	return p
}
