// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"kogge.dev/kogge/internal/pki"
	"kogge.dev/kogge/test/peers/access"
	"kogge.dev/kogge/test/peers/process"
)

// Config of a cluster. Binaries and Dir are required.
type Config struct {
	Binaries Binaries
	// Dir receives keys, kubeconfigs, logs and the data of etcd.
	Dir string
	// Address that the API server advertises; default 127.0.0.1, which does for everything but Endpoints of the Service
	// "kubernetes".
	Address netip.Addr
	// Port of the API server; default any that is free.
	Port int
	// ServiceCIDR; default 10.96.0.0/16.
	ServiceCIDR string
	// Flags are added to those of a component, by name (KubeAPIServer, Etcd, ...).
	Flags map[string][]string
	// Through is put before every program; see process.Config.
	Through []string
}

// Cluster is a set of upstream's programs with one PKI. It is not safe for concurrent use.
type Cluster struct {
	config  Config
	ca      *pki.Authority
	etcd    string             // the URL of etcd, once it has been started
	running []*process.Process // in the order of their start
	byName  map[string]*process.Process
}

// Admin is the name of the administrator's kubeconfig.
const Admin = "admin"

// users that kubeconfigs are written for, with their groups.
var users = map[string]pki.Leaf{
	Admin:                 {User: "admin", Groups: []string{"system:masters"}},
	KubeControllerManager: {User: "system:kube-controller-manager"},
	KubeScheduler:         {User: "system:kube-scheduler"},
	KubeProxy:             {User: "system:kube-proxy"},
}

// New makes the PKI of a cluster. Nothing runs yet.
func New(ctx context.Context, config Config) (*Cluster, error) {
	if config.Binaries == "" || config.Dir == "" {
		return nil, errors.New("upstream cluster: binaries and folder are required")
	}
	if !config.Address.IsValid() {
		config.Address = netip.MustParseAddr("127.0.0.1")
	}
	if config.ServiceCIDR == "" {
		config.ServiceCIDR = "10.96.0.0/16"
	}
	var err error
	if config.Dir, err = filepath.Abs(config.Dir); err != nil {
		return nil, err
	}
	if config.Port == 0 {
		if config.Port, err = process.FreePort(ctx); err != nil {
			return nil, err
		}
	}
	c := &Cluster{config: config, byName: map[string]*process.Process{}}
	if err := c.issue(); err != nil {
		return nil, fmt.Errorf("keys of the upstream cluster: %w", err)
	}
	for name, leaf := range users {
		if err := c.WriteKubeconfig(name, leaf); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Cluster) keys() string            { return filepath.Join(c.config.Dir, "pki") }
func (c *Cluster) key(name string) string  { return filepath.Join(c.keys(), name+".key") }
func (c *Cluster) cert(name string) string { return filepath.Join(c.keys(), name+".crt") }

// issue makes the authorities and the certificates that the API server is started with.
func (c *Cluster) issue() error {
	prefix, err := netip.ParsePrefix(c.config.ServiceCIDR)
	if err != nil {
		return err
	}
	if c.ca, err = pki.OpenAuthority(c.keys(), "ca", "kubernetes"); err != nil {
		return err
	}
	front, err := pki.OpenAuthority(c.keys(), "front-proxy-ca", "front-proxy-ca")
	if err != nil {
		return err
	}
	if _, err := front.Ensure(pki.Leaf{Name: "front-proxy-client", User: "front-proxy-client"}); err != nil {
		return err
	}
	if _, err := pki.SigningKey(c.keys(), "sa"); err != nil {
		return err
	}
	if _, err := c.ca.Ensure(pki.Leaf{Name: "apiserver-kubelet-client", User: "kube-apiserver-kubelet-client", Groups: []string{"system:masters"}}); err != nil {
		return err
	}
	_, err = c.ca.Ensure(pki.Leaf{
		Name: "apiserver", User: "kube-apiserver",
		DNS: []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"},
		IPs: []net.IP{c.config.Address.AsSlice(), prefix.Masked().Addr().Next().AsSlice(), net.IPv4(127, 0, 0, 1)},
	})
	return err
}

// Server is the URL of the API server.
func (c *Cluster) Server() string {
	return "https://" + net.JoinHostPort(c.config.Address.String(), strconv.Itoa(c.config.Port))
}

// Kubeconfig is the path of the kubeconfig that was written under a name; Admin always is there.
func (c *Cluster) Kubeconfig(name string) string {
	return filepath.Join(c.config.Dir, name+".kubeconfig")
}

// WriteKubeconfig issues a client certificate and writes a kubeconfig with it. The leaf's own name is not used.
func (c *Cluster) WriteKubeconfig(name string, leaf pki.Leaf) error {
	leaf.Name = "client-" + name
	if _, err := c.ca.Ensure(leaf); err != nil {
		return err
	}
	return c.Access(name).WriteKubeconfig(c.Kubeconfig(name))
}

// Access is the identity of the kubeconfig that was written under a name.
func (c *Cluster) Access(name string) access.Access {
	return access.Access{Server: c.Server(), CA: c.cert("ca"), Cert: c.cert("client-" + name), Key: c.key("client-" + name)}
}

// StartControlPlane starts etcd and the API server, waits until it is ready, and starts the others named (KubeScheduler,
// KubeControllerManager). On error everything that runs is stopped.
func (c *Cluster) StartControlPlane(ctx context.Context, others ...string) error {
	for _, name := range append([]string{Etcd, KubeAPIServer}, others...) {
		if err := c.Start(ctx, name); err != nil {
			return errors.Join(err, c.Stop())
		}
	}
	return nil
}

// Start starts a component with the flags that a cluster needs and those of the configuration. It waits for the API server to
// be ready, not for others.
func (c *Cluster) Start(ctx context.Context, name string) error {
	flags, err := c.Flags(ctx, name)
	if err != nil {
		return err
	}
	return c.StartWith(ctx, name, flags...)
}

// Flags are those that a component needs in this cluster: for callers that start programs themselves.
func (c *Cluster) Flags(ctx context.Context, name string) ([]string, error) {
	switch name {
	case Etcd:
		return c.etcdFlags(ctx)
	case KubeAPIServer:
		return c.apiserverFlags(), nil
	case KubeControllerManager:
		return append(c.clientFlags(name),
			"--service-account-private-key-file="+c.key("sa"), "--root-ca-file="+c.cert("ca"), "--use-service-account-credentials",
			"--cluster-signing-cert-file="+c.cert("ca"), "--cluster-signing-key-file="+c.key("ca")), nil
	case KubeScheduler:
		return c.clientFlags(name), nil
	}
	return nil, nil
}

// StartWith starts a component with exactly these flags and those of the configuration: kubelet, kube-proxy, and what needs
// other flags than Start gives.
func (c *Cluster) StartWith(ctx context.Context, name string, flags ...string) error {
	if _, there := c.byName[name]; there {
		return fmt.Errorf("upstream's %s runs already", name)
	}
	p, err := process.Start(process.Config{
		Path: c.config.Binaries.Path(name), Args: append(flags, c.config.Flags[name]...), Through: c.config.Through, Dir: c.config.Dir,
		Log: filepath.Join(c.config.Dir, "log", name+".log"),
	})
	if err != nil {
		return err
	}
	c.running, c.byName[name] = append(c.running, p), p
	if name == KubeAPIServer {
		return p.Await(ctx, c.ready)
	}
	return nil
}

// Process of a component that was started; nil otherwise.
func (c *Cluster) Process(name string) *process.Process { return c.byName[name] }

// Stop ends everything, the youngest first.
func (c *Cluster) Stop() error {
	var errs []error
	for _, p := range slices.Backward(c.running) {
		errs = append(errs, p.Stop())
	}
	c.running, c.byName = nil, map[string]*process.Process{}
	return errors.Join(errs...)
}

// ready asks /readyz as nobody, which anonymous users may.
func (c *Cluster) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Server()+"/readyz", nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: c.trust(), DisableKeepAlives: true}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz answers %s", res.Status)
	}
	return nil
}

// CA is the authority that signs the cluster's certificates.
func (c *Cluster) CA() *x509.Certificate { return c.ca.Cert }
