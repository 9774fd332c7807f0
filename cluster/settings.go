// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/internal/nearest"
)

// The identity of a configuration file.
const (
	SettingsVersion = "kogge.dev/v1"
	SettingsKind    = "Config"
	// DefaultDataDir is where a cluster lives unless told otherwise.
	DefaultDataDir = "/var/lib/kogge"
)

// Values of network.plugin.
const (
	PluginKogge = "kogge"
	PluginNone  = "none"
)

// Settings is kogge's one configuration file. Every flag has a field here; flags win over the file. The zero value of
// a field means the default that its comment gives.
type Settings struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// DataDir holds everything that outlives a restart; default /var/lib/kogge. Another folder moves all paths into it.
	DataDir string          `json:"dataDir,omitempty"`
	API     APISettings     `json:"api"`
	Node    NodeSettings    `json:"node"`
	Network NetworkSettings `json:"network"`
	Store   StoreSettings   `json:"store"`
	Join    JoinSettings    `json:"join"`
	// Without names components that are left to others: of a server scheduler, controllers and cloud, of a node kubelet, proxy
	// and dns.
	Without []string `json:"without,omitempty"`
	// Kubelet is upstream's KubeletConfiguration (kubelet.config.k8s.io/v1beta1). What is unset in it comes from node and network.
	Kubelet *kubeletconfig.KubeletConfiguration `json:"kubelet,omitempty"`
	// Scheduler is upstream's KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1).
	Scheduler   json.RawMessage     `json:"scheduler,omitempty"`
	Controllers ControllersSettings `json:"controllers"`
	Proxy       ProxySettings       `json:"proxy"`
	DNS         DNSSettings         `json:"dns"`
	Serving     ServingSettings     `json:"serving"`
	// LogLevel is debug, info, warn or error; default info.
	LogLevel string `json:"logLevel,omitempty"`
}

// APISettings configure the API server.
type APISettings struct {
	// BindAddress is listened on; default all addresses.
	BindAddress string `json:"bindAddress,omitempty"`
	// Port; default 6443.
	Port int `json:"port,omitempty"`
	// AdvertiseAddress is where nodes and pods reach the API server; default the node's address.
	AdvertiseAddress string `json:"advertiseAddress,omitempty"`
	// SANs are more names and addresses for the serving certificate.
	SANs []string `json:"sans,omitempty"`
	// TLS bounds what clients may speak; default TLS 1.2 and up.
	TLS TLSSettings `json:"tls"`
	// Audit records requests; default none.
	Audit AuditSettings `json:"audit"`
	// Authentication recognises users of others; default the cluster's own only.
	Authentication AuthenticationSettings `json:"authentication"`
	// Authorization decides what users may do; default Node, then RBAC.
	Authorization AuthorizationSettings `json:"authorization"`
	// Admission decides which admission plugins judge requests; default those of kube-apiserver.
	Admission AdmissionSettings `json:"admission"`
	// Encryption keeps resources encrypted in the store; default none.
	Encryption EncryptionSettings `json:"encryption"`
	// RuntimeConfig turns versions of the API on that are served on request only; default none.
	RuntimeConfig RuntimeConfig `json:"runtimeConfig,omitempty"`
}

// NodeSettings configure this machine's node.
type NodeSettings struct {
	// Name; default the host's name in lower case.
	Name string `json:"name,omitempty"`
	// IP; default the address of the default route, or one that kogge makes where there is no network.
	IP string `json:"ip,omitempty"`
	// Labels and Taints ("key=value:NoSchedule") that the node registers with.
	Labels map[string]string `json:"labels,omitempty"`
	Taints []string          `json:"taints,omitempty"`
	// MaxPods; default 110.
	MaxPods int `json:"maxPods,omitempty"`
	// CRISocket of another runtime than the one inside; default none.
	CRISocket string `json:"criSocket,omitempty"`
}

// NetworkSettings configure addresses. Each list holds one range, or an IPv4 and an IPv6 one.
type NetworkSettings struct {
	// PodCIDRs; default 10.244.0.0/16. Each node gets a /24 (or /64) of it.
	PodCIDRs []string `json:"podCIDRs,omitempty"`
	// ServiceCIDRs; default 10.96.0.0/16. The first address is the API server's Service, the tenth DNS.
	ServiceCIDRs []string `json:"serviceCIDRs,omitempty"`
	// Domain of the cluster; default cluster.local.
	Domain string `json:"domain,omitempty"`
	// Plugin gives pods their network: "kogge", the one inside with NetworkPolicy, or "none", whatever the folder of CNI
	// configurations names. Default kogge.
	Plugin string `json:"plugin,omitempty"`
}

// StoreSettings configure the store.
type StoreSettings struct {
	// Endpoints of an external etcd; default none, the one inside is used.
	Endpoints []string `json:"endpoints,omitempty"`
	// CAFile, CertFile and KeyFile for the external etcd.
	CAFile   string `json:"caFile,omitempty"`
	CertFile string `json:"certFile,omitempty"`
	KeyFile  string `json:"keyFile,omitempty"`
}

// JoinSettings say how an agent joins a cluster.
type JoinSettings struct {
	// Server is the URL of an API server of the cluster.
	Server string `json:"server,omitempty"`
	// Token is a bootstrap token, id.secret.
	Token string `json:"token,omitempty"`
	// Kubeconfig is the identity of a component that runs alone (kogge run COMPONENT).
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// NetworkKubeconfig is the identity under which the pod network, NetworkPolicy and local volumes beside a kubelet that runs
	// alone read the cluster: a node may not read what they need.
	NetworkKubeconfig string `json:"networkKubeconfig,omitempty"`
}

// LoadSettings reads a configuration file strictly: unknown fields are errors that name the nearest known one.
func LoadSettings(path string) (Settings, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Settings{}, fmt.Errorf("read configuration: %w", err)
	}
	s, err := ParseSettings(text)
	if err != nil {
		return Settings{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	return s, nil
}

// ParseSettings is LoadSettings for a text.
func ParseSettings(text []byte) (Settings, error) {
	var s Settings
	raw, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return s, err
	}
	if bytes.Equal(raw, []byte("null")) {
		return s, errors.New("the file is empty")
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil {
		return s, explainDecode(err)
	}
	if s.APIVersion != SettingsVersion || s.Kind != SettingsKind {
		return s, fmt.Errorf("apiVersion and kind are %q, %q; want %q, %q", s.APIVersion, s.Kind, SettingsVersion, SettingsKind)
	}
	return s, s.Validate()
}

// explainDecode adds the nearest known field to an error about an unknown one.
func explainDecode(err error) error {
	_, rest, unknown := strings.Cut(err.Error(), `unknown field "`)
	if !unknown {
		return err
	}
	name := strings.TrimSuffix(rest, `"`)
	if meant := nearest.To(name, fieldNames(reflect.TypeFor[Settings]())); meant != "" {
		return fmt.Errorf("unknown field %q; did you mean %q?", name, meant)
	}
	return fmt.Errorf("unknown field %q", name)
}

// fieldNames lists the fields of a structure and of those below it.
func fieldNames(t reflect.Type) []string {
	var names []string
	for f := range t.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
		below := f.Type
		if below.Kind() == reflect.Pointer {
			below = below.Elem()
		}
		if below.Kind() == reflect.Struct {
			names = append(names, fieldNames(below)...)
		}
	}
	return names
}

// followLinks returns where a path leads, whose last parts need not exist: the kernel names mounts by where they are, and whoever looks for
// them by another name would not find them.
func followLinks(path string) (string, error) {
	leads, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return leads, err
	}
	parent, err := followLinks(filepath.Dir(path))
	return filepath.Join(parent, filepath.Base(path)), err
}

// Complete fills in the defaults that do not depend on the network.
func (s *Settings) Complete() error {
	s.APIVersion, s.Kind = SettingsVersion, SettingsKind
	if s.DataDir == "" {
		s.DataDir = DefaultDataDir
	}
	var err error
	if s.DataDir, err = filepath.Abs(s.DataDir); err == nil {
		s.DataDir, err = followLinks(s.DataDir)
	}
	if err != nil {
		return fmt.Errorf("dataDir: %w", err)
	}
	if s.API.Port == 0 {
		s.API.Port = 6443
	}
	if s.Node.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("node.name: %w", err)
		}
		s.Node.Name = strings.ToLower(host)
	}
	if s.Node.MaxPods == 0 {
		s.Node.MaxPods = 110
	}
	if len(s.Network.PodCIDRs) == 0 {
		s.Network.PodCIDRs = []string{"10.244.0.0/16"}
	}
	if len(s.Network.ServiceCIDRs) == 0 {
		s.Network.ServiceCIDRs = []string{"10.96.0.0/16"}
	}
	if s.Network.Domain == "" {
		s.Network.Domain = "cluster.local"
	}
	if s.Network.Plugin == "" {
		s.Network.Plugin = PluginKogge
	}
	if s.LogLevel == "" {
		s.LogLevel = "info"
	}
	return s.Validate()
}

// Validate checks every field that is set, and names the field in what it says.
func (s *Settings) Validate() error {
	var errs []error
	refuse := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf(field+": "+format, args...))
	}
	if s.API.Port < 0 || s.API.Port > 65535 {
		refuse("api.port", "%d is not a port", s.API.Port)
	}
	for field, address := range map[string]string{
		"api.bindAddress": s.API.BindAddress, "api.advertiseAddress": s.API.AdvertiseAddress, "node.ip": s.Node.IP,
		"dns.address": s.DNS.Address,
	} {
		if address != "" && net.ParseIP(address) == nil {
			refuse(field, "%q is not an IP address", address)
		}
	}
	if s.Network.Domain != "" {
		for _, problem := range validation.IsDNS1123Subdomain(s.Network.Domain) {
			refuse("network.domain", "%q: %s", s.Network.Domain, problem)
		}
	}
	if s.Join.Server != "" && !isURL(s.Join.Server, "https") {
		refuse("join.server", "%q is not a URL like https://10.0.0.1:6443", s.Join.Server)
	}
	for _, endpoint := range s.Store.Endpoints {
		if !isURL(endpoint, "http", "https") {
			refuse("store.endpoints", "%q is not a URL like https://10.0.0.1:2379", endpoint)
		}
	}
	errs = append(errs, s.Node.validate(), s.API.TLS.validate(), s.API.Audit.validate(), s.API.Authentication.validate(), s.API.RuntimeConfig.validate())
	errs = append(errs, s.validateComponents())
	errs = append(errs, checkRanges("network.podCIDRs", s.Network.PodCIDRs), checkRanges("network.serviceCIDRs", s.Network.ServiceCIDRs))
	switch s.LogLevel {
	case "", "debug", "info", "warn", "error":
	default:
		refuse("logLevel", "%q is not debug, info, warn or error", s.LogLevel)
	}
	return errors.Join(errs...)
}

// validate checks what the node is to register with.
func (n *NodeSettings) validate() error {
	var errs []error
	if n.Name != "" {
		for _, problem := range validation.IsDNS1123Subdomain(n.Name) {
			errs = append(errs, fmt.Errorf("node.name: %q: %s", n.Name, problem))
		}
	}
	if n.MaxPods < 0 {
		errs = append(errs, fmt.Errorf("node.maxPods: %d is negative", n.MaxPods))
	}
	_, err := parseTaints(n.Taints)
	errs = append(errs, err)
	for key, value := range n.Labels {
		for _, problem := range append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...) {
			errs = append(errs, fmt.Errorf("node.labels: %s=%s: %s", key, value, problem))
		}
	}
	return errors.Join(errs...)
}

func isURL(text string, schemes ...string) bool {
	u, err := url.Parse(text)
	return err == nil && slices.Contains(schemes, u.Scheme) && u.Host != ""
}

// checkRanges wants one range, or one of each family.
func checkRanges(field string, ranges []string) error {
	families := map[bool]int{}
	for _, text := range ranges {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return fmt.Errorf("%s: %q is not an address range like 10.244.0.0/16", field, text)
		}
		if prefix.Masked() != prefix {
			return fmt.Errorf("%s: %q has host bits set; want %s", field, text, prefix.Masked())
		}
		families[prefix.Addr().Is4()]++
	}
	if families[true] > 1 || families[false] > 1 {
		return fmt.Errorf("%s: %v holds two ranges of one address family", field, ranges)
	}
	return nil
}
