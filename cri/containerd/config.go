// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	"kogge.dev/kogge/cri/containerd/embedded"
)

// DefaultPauseImage names the image that holds a pod's namespaces. The name is upstream's, the content is ours.
const DefaultPauseImage = "registry.k8s.io/pause:3.10.2"

// maxSocketDir is containerd's bound for the folder of shim sockets, in bytes: a hashed name and the kernel's 108 bytes
// for a socket path leave no more.
const maxSocketDir = 42

// maxSocketPath is the kernel's bound for the path of a unix socket, in bytes, less the ".ttrpc" that follows.
const maxSocketPath = 107 - len(".ttrpc")

// Config says where one node's containerd lives. Everything in it is particular to one node, so that several nodes can
// share a machine.
type Config struct {
	// DataDir is the absolute path of the folder that survives a reboot: images, snapshots, programs, the log.
	DataDir string
	// RunDir is the absolute path of the folder that does not: sockets, the process record, bundles, network
	// namespaces. At most 84 bytes.
	RunDir string
	// NodeName is the node's name.
	NodeName string
	// CgroupRoot is the cgroup that holds everything of this node; default "/kogge/<NodeName>". containerd and its
	// shims live in its child "runtime".
	CgroupRoot string
	// PauseImage is the image of the sandbox container; default DefaultPauseImage. Any name is given our content
	// unless an image of that name is already there.
	PauseImage string
	// CNIConfDir is watched for network configurations; default /etc/cni/net.d.
	CNIConfDir string
	// CNIBinDirs are searched for CNI plugins; default /opt/cni/bin.
	CNIBinDirs []string
	// RegistryConfigPath is a certs.d folder of registry hosts; default <DataDir>/certs.d.
	RegistryConfigPath string
	// StreamAddress is where exec, attach and port-forward are served, on a free port; default 127.0.0.1 of the
	// node's network namespace.
	StreamAddress string
	// NetNS is the path of the network namespace in which containerd starts, and which host-network pods inherit;
	// empty for the namespace of this process.
	NetNS string
	// LogLevel is containerd's own level (debug, info, warn, error); default warn. It logs to <DataDir>/containerd.log.
	LogLevel string
	// Command is the argument vector that reaches Main, less the arguments of Main; default is this executable and
	// Verb.
	Command []string
	// Logger receives what the supervisor does; default discards.
	Logger *slog.Logger

	// programs names the set of helper programs, a folder of binDir; default embedded.Digest().
	programs string
}

// Verb is the hidden first argument of the kogge binary after which it calls Main with the arguments that follow.
const Verb = "containerd-child"

// Socket is the path of containerd's gRPC socket, which serves CRI.
func (c Config) Socket() string { return filepath.Join(c.RunDir, "containerd.sock") }

// LogFile is the path of containerd's own log.
func (c Config) LogFile() string { return filepath.Join(c.DataDir, "containerd.log") }

// Outside lists the folders outside DataDir and RunDir that this containerd uses, for the ledger.
func (c Config) Outside() []string {
	if dir := c.shimSocketDir(); !strings.HasPrefix(dir, c.RunDir+"/") {
		return []string{dir}
	}
	return nil
}

func (c Config) root() string       { return filepath.Join(c.DataDir, "root") }
func (c Config) state() string      { return filepath.Join(c.RunDir, "state") }
func (c Config) binDir() string     { return filepath.Join(c.DataDir, "bin") }
func (c Config) programDir() string { return filepath.Join(c.binDir(), c.programs) }
func (c Config) configFile() string { return filepath.Join(c.RunDir, "config.toml") }
func (c Config) recordFile() string { return filepath.Join(c.RunDir, "containerd.pid") }

// shimPath has the name that containerd derives from the runtime's type and looks for in PATH: it does so for every
// container of a sandbox when it finds them again after a restart.
func (c Config) shimPath() string { return filepath.Join(c.programDir(), "containerd-shim-runc-v2") }
func (c Config) runcPath() string { return filepath.Join(c.programDir(), "runc") }

// shimSocketDir is inside RunDir where that is short enough, else a folder of /run named after RunDir.
func (c Config) shimSocketDir() string {
	if dir := filepath.Join(c.RunDir, "s"); len(dir) <= maxSocketDir {
		return dir
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(c.RunDir))
	return fmt.Sprintf("/run/kogge-s/%016x", h.Sum64())
}

// withDefaults fills in what is empty.
func (c Config) withDefaults() (Config, error) {
	if c.CgroupRoot == "" {
		c.CgroupRoot = "/kogge/" + c.NodeName
	}
	if c.PauseImage == "" {
		c.PauseImage = DefaultPauseImage
	}
	if c.CNIConfDir == "" {
		c.CNIConfDir = "/etc/cni/net.d"
	}
	if len(c.CNIBinDirs) == 0 {
		c.CNIBinDirs = []string{"/opt/cni/bin"}
	}
	if c.RegistryConfigPath == "" {
		c.RegistryConfigPath = filepath.Join(c.DataDir, "certs.d")
	}
	if c.StreamAddress == "" {
		c.StreamAddress = "127.0.0.1"
	}
	if c.LogLevel == "" {
		c.LogLevel = "warn"
	}
	if c.programs == "" {
		c.programs = embedded.Digest()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if len(c.Command) == 0 {
		exe, err := os.Executable()
		if err != nil {
			return c, fmt.Errorf("find own executable: %w", err)
		}
		c.Command = []string{exe, Verb}
	}
	return c, c.validate()
}

// validate reports every setting that cannot work.
func (c Config) validate() error {
	var errs []error
	for _, dir := range []struct{ name, path string }{{"DataDir", c.DataDir}, {"RunDir", c.RunDir}} {
		if !filepath.IsAbs(dir.path) || filepath.Clean(dir.path) != dir.path {
			errs = append(errs, fmt.Errorf("containerd %s %q: need a clean absolute path", dir.name, dir.path))
		}
	}
	if c.DataDir == c.RunDir {
		errs = append(errs, fmt.Errorf("containerd DataDir and RunDir are both %q", c.DataDir))
	}
	if n := len(c.Socket()); n > maxSocketPath {
		errs = append(errs, fmt.Errorf("containerd RunDir %q: socket path has %d bytes, at most %d fit", c.RunDir, n, maxSocketPath))
	}
	if c.NodeName == "" {
		errs = append(errs, errors.New("containerd NodeName is empty"))
	}
	if !strings.HasPrefix(c.CgroupRoot, "/") || c.CgroupRoot == "/" {
		errs = append(errs, fmt.Errorf("containerd CgroupRoot %q: need an absolute path below the root", c.CgroupRoot))
	}
	return errors.Join(errs...)
}

// toml is containerd's configuration. Comments name the settings that keep two containerds on one machine apart.
const tomlText = `# Written by kogge at every start of containerd; changes are lost.
version = 4
root = {{quote .Root}}
state = {{quote .State}}
temp = {{quote .Temp}}
required_plugins = ["io.containerd.grpc.v1.cri"]

[debug]
  level = {{quote .LogLevel}}

[plugins."io.containerd.server.v1.grpc"]
  address = {{quote .Socket}}
[plugins."io.containerd.server.v1.ttrpc"]
  address = {{quote .TTRPC}}

# Shim sockets would otherwise lie in /run/containerd/s, whoever owns them.
[plugins."io.containerd.shim.v1.manager"]
  socket_dir = {{quote .ShimSocketDir}}
  env = ["GOMAXPROCS=2"]

# Garbage collection looks whether it is due at an interval of 5 ms divided by this: 5 s here, four times a second else.
# Removed images are collected at once.
[plugins."io.containerd.gc.v1.scheduler"]
  pause_threshold = 0.001

[plugins."io.containerd.grpc.v1.cri"]
  disable_tcp_service = true
  stream_server_address = {{quote .StreamAddress}}
  stream_server_port = "0"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = {{quote .Snapshotter}}
  # Seconds. The size of snapshots is sampled; the kubelet reads the file system itself.
  stats_collect_period = 60
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = {{quote .PauseImage}}
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = {{quote .RegistryConfigPath}}

[plugins."io.containerd.transfer.v1.local"]
  config_path = {{quote .RegistryConfigPath}}
  [[plugins."io.containerd.transfer.v1.local".unpack_config]]
    platform = {{quote .Platform}}
    snapshotter = {{quote .Snapshotter}}
    differ = "walking"

[plugins."io.containerd.cri.v1.runtime"]
  # Without CAP_SYS_RESOURCE no process may lower its score, and every pod would fail.
  restrict_oom_score_adj = {{.RestrictOOM}}
  netns_mounts_under_state_dir = true
  # CPU rates are computed by their readers from the counters, so that an idle node does not sample each second.
  stats_collect_period = "15s"
  stats_retention_period = "2m"
  enable_criu = false
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = [{{range $i, $d := .CNIBinDirs}}{{if $i}}, {{end}}{{quote $d}}{{end}}]
    conf_dir = {{quote .CNIConfDir}}
    # Brings "lo" up without a plugin program.
    use_internal_loopback = true
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      runtime_path = {{quote .ShimPath}}
      sandboxer = "podsandbox"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        BinaryName = {{quote .RuncPath}}
        # runc's state would otherwise lie in /run/containerd/runc, whoever owns it.
        Root = {{quote .RuncRoot}}
        SystemdCgroup = false
`

// tomlFields are the values of tomlText.
type tomlFields struct {
	Root, State, Temp, Socket, TTRPC, LogLevel  string
	ShimSocketDir, ShimPath, RuncPath, RuncRoot string
	StreamAddress, PauseImage                   string
	RegistryConfigPath, CNIConfDir              string
	Snapshotter, Platform                       string
	CNIBinDirs                                  []string
	RestrictOOM                                 bool
}

// toml renders the configuration for host.
func (c Config) toml(host hostFacts) ([]byte, error) {
	t, err := template.New("config.toml").Funcs(template.FuncMap{"quote": strconv.Quote}).Parse(tomlText)
	if err != nil {
		return nil, fmt.Errorf("parse containerd configuration: %w", err)
	}
	var out bytes.Buffer
	err = t.Execute(&out, tomlFields{
		Root: c.root(), State: c.state(), Temp: filepath.Join(c.root(), "tmp"), Socket: c.Socket(), TTRPC: c.Socket() + ".ttrpc",
		LogLevel: c.LogLevel, ShimSocketDir: c.shimSocketDir(), ShimPath: c.shimPath(), RuncPath: c.runcPath(),
		RuncRoot: filepath.Join(c.RunDir, "runc"), StreamAddress: c.StreamAddress, PauseImage: c.PauseImage,
		RegistryConfigPath: c.RegistryConfigPath, CNIConfDir: c.CNIConfDir, Snapshotter: host.snapshotter,
		Platform: host.platform, CNIBinDirs: c.CNIBinDirs, RestrictOOM: host.restrictOOM,
	})
	if err != nil {
		return nil, fmt.Errorf("render containerd configuration: %w", err)
	}
	return out.Bytes(), nil
}
