// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package kubelet runs the pods of one node: it follows the pods that the API server and the static manifest folder assign to
// the node, drives their life cycles over the container runtime interface, and reports pods and node back.
//
// The life cycle of a pod is decided by the pure core in kubelet/pod; this package holds what has effects. Each pod has one
// goroutine (worker.go) that owns its core. It is woken by API changes, runtime events, probe results, finished operations and
// the core's own timer, and by nothing else: an idle node runs no periodic work but lease renewal, node status and slow sampling.
package kubelet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cri"
)

// Recorder receives the events that the kubelet reports about pods, containers and its node. The object is a
// *corev1.ObjectReference, which names a container by its field path. Event must not block.
type Recorder interface {
	Event(obj runtime.Object, eventType, reason, message string)
}

// Config is all that a kubelet needs to know. The zero value of every optional field is its default.
type Config struct {
	// NodeName is the name of the node's API object. Required.
	NodeName string
	// NodeIPs are the node's own addresses, at most one of each family, the preferred family first. Required.
	NodeIPs []netip.Addr
	// Hostname is reported as address and label; the node's name by default.
	Hostname string
	// Labels are set on the node when it registers, beside the well-known ones.
	Labels map[string]string

	// Client reaches the API server as this node's user. Nil runs static pods only.
	Client *client.Client
	// Runtime is the container runtime. Required.
	Runtime *cri.Runtime
	// Recorder receives events; nil drops them.
	Recorder Recorder
	// Logger receives the log; nil discards it.
	Logger *slog.Logger

	// Settings are upstream's configuration file, with upstream's defaults for what is unset. Fields that this kubelet can't
	// honour are refused by New where ignoring them would break a promise.
	Settings kubeletconfig.KubeletConfiguration

	// Root holds pods' directories and plugins' sockets, /var/lib/kubelet by default.
	Root string
	// PodLogs holds containers' logs, /var/log/pods by default; ContainerLogs the legacy links to them, /var/log/containers.
	PodLogs, ContainerLogs string
	// CgroupRoot is the cgroup below which all that this kubelet makes lies, "/kogge/<node>" by default. It is never the root.
	CgroupRoot string
	// CgroupMount is where the cgroup hierarchies are mounted, /sys/fs/cgroup by default.
	CgroupMount string

	// ServerTLS holds the serving certificate (Certificates or GetCertificate). Nil turns the server off.
	ServerTLS *tls.Config
	// ClientCA verifies client certificates of the server's users; nil accepts none.
	ClientCA *x509.CertPool
	// Listener is where the server listens; nil means Settings.Address and Settings.Port.
	Listener net.Listener

	// Version is reported as nodeInfo.kubeletVersion, "v1.36.3" by default.
	Version string
	// Held tells that nothing is to be started, because the node is being taken down; nil means never.
	Held func() bool
	// OnRegistered is called once, after the node has an API object and a first lease.
	OnRegistered func()
}

// defaulted returns the configuration with every unset field filled in.
func (c Config) defaulted() Config {
	setDefault := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	setDefault(&c.Hostname, c.NodeName)
	setDefault(&c.Root, "/var/lib/kubelet")
	setDefault(&c.PodLogs, c.Settings.PodLogsDir)
	setDefault(&c.PodLogs, "/var/log/pods")
	setDefault(&c.ContainerLogs, "/var/log/containers")
	setDefault(&c.CgroupRoot, c.Settings.CgroupRoot)
	setDefault(&c.CgroupRoot, "/kogge/"+c.NodeName)
	setDefault(&c.CgroupMount, "/sys/fs/cgroup")
	setDefault(&c.Version, "v1.36.3")
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Recorder == nil {
		c.Recorder = discardRecorder{}
	}
	defaultSettings(&c.Settings)
	return c
}

func (c *Config) validate() error {
	var errs []error
	if c.NodeName == "" {
		errs = append(errs, errors.New("node name is empty"))
	}
	if len(c.NodeIPs) == 0 || len(c.NodeIPs) > 2 {
		errs = append(errs, fmt.Errorf("need one or two node addresses, got %d", len(c.NodeIPs)))
	}
	if c.Runtime == nil {
		errs = append(errs, errors.New("container runtime is missing"))
	}
	if clean := filepath.Clean(c.CgroupRoot); clean == "/" || !strings.HasPrefix(clean, "/") {
		errs = append(errs, fmt.Errorf("cgroup root %q: need an absolute path below the root", c.CgroupRoot))
	}
	for _, path := range []string{c.Root, c.PodLogs, c.ContainerLogs} {
		if !filepath.IsAbs(path) {
			errs = append(errs, fmt.Errorf("path %q is not absolute", path))
		}
	}
	errs = append(errs, validateSettings(&c.Settings))
	return errors.Join(errs...)
}

type discardRecorder struct{}

func (discardRecorder) Event(runtime.Object, string, string, string) {}

// ensureDirs makes the folders that outlive pods.
func (c *Config) ensureDirs() error {
	for _, dir := range []string{c.Root, filepath.Join(c.Root, "pods"), filepath.Join(c.Root, "plugins"), filepath.Join(c.Root, "plugins_registry")} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return fmt.Errorf("make kubelet folder: %w", err)
		}
	}
	for _, dir := range []string{c.PodLogs, c.ContainerLogs} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make log folder: %w", err)
		}
	}
	return nil
}

// New checks the configuration. It has no effects; Run has.
func New(config Config) (*Kubelet, error) {
	c := config.defaulted()
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("configure kubelet: %w", err)
	}
	return newKubelet(c), nil
}

// Run runs the node until ctx ends. Pods are left running: the next Run adopts them.
func (k *Kubelet) Run(ctx context.Context) error { return k.run(ctx) }
