// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"kogge.dev/kogge/cni/ipam"
	"kogge.dev/kogge/hostnet"
)

// cniVersion is the version of the specification that the configuration asks for and results are made in.
const cniVersion = "1.1.0"

// Limits of one request.
const (
	maxRequest   = 4 << 20 // bytes
	requestLimit = 60 * time.Second
)

// codeNotReady is the specification's "plugin is not available"; codeTryAgain its "try again later".
const (
	codeNotReady = 50
	codeTryAgain = types.ErrTryAgainLater
)

// request is one call of the plugin; helpers/kogge-cni holds the other side.
type request struct {
	Command     string          `json:"command"`
	ContainerID string          `json:"containerID"`
	Netns       string          `json:"netns"`
	IfName      string          `json:"ifName"`
	Args        string          `json:"args"`
	Path        string          `json:"path"`
	Config      json.RawMessage `json:"config"`
}

// response is the answer: a result, which may be empty, or an error.
type response struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  *types.Error    `json:"error,omitempty"`
}

// netConf is the part of the network configuration that is read.
type netConf struct {
	CNIVersion    string    `json:"cniVersion"`
	DNS           types.DNS `json:"dns"`
	RuntimeConfig struct {
		PortMappings []portMapping `json:"portMappings"`
	} `json:"runtimeConfig"`
	PrevResult json.RawMessage `json:"prevResult"`
	// ValidAttachments is given to GC: what the runtime still has.
	ValidAttachments []types.GCAttachment `json:"cni.dev/valid-attachments"`
}

// serve answers one connection.
func (s *Server) serve(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(requestLimit)); err != nil {
		return
	}
	out := response{}
	data, err := io.ReadAll(io.LimitReader(conn, maxRequest))
	if err != nil {
		out.Error = types.NewError(types.ErrIOFailure, "read request", err.Error())
	} else {
		out.Result, out.Error = s.answer(ctx, data)
	}
	text, err := json.Marshal(out)
	if err != nil {
		s.config.Logger.Error("encode answer to plugin", "err", err)
		return
	}
	if _, err := conn.Write(text); err != nil {
		s.config.Logger.Warn("answer plugin", "err", err)
	}
}

// answer handles one request.
func (s *Server) answer(ctx context.Context, data []byte) (json.RawMessage, *types.Error) {
	var r request
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "decode request", err.Error())
	}
	var conf netConf
	if err := json.Unmarshal(r.Config, &conf); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "decode network configuration", err.Error())
	}
	began := time.Now()
	var result *types100.Result
	err := r.validate()
	if err == nil {
		s.mu.Lock()
		result, err = s.dispatchLocked(r, conf)
		s.mu.Unlock()
	}
	log := s.config.Logger.With("verb", r.Command, "container", r.ContainerID, "object", podName(r.Args), "duration", time.Since(began))
	if err != nil {
		log.WarnContext(ctx, "pod network request failed", "err", err)
		return nil, asError(err)
	}
	log.DebugContext(ctx, "pod network request done")
	return encodeResult(result, conf.CNIVersion)
}

// asError gives an error the form of the specification.
func asError(err error) *types.Error {
	if own, ok := errors.AsType[*types.Error](err); ok {
		return own
	}
	if errors.Is(err, ipam.ErrExhausted) {
		return types.NewError(codeTryAgain, err.Error(), "")
	}
	return types.NewError(types.ErrInternal, err.Error(), "")
}

// encodeResult writes a result in the version that the caller asked for.
func encodeResult(result *types100.Result, version string) (json.RawMessage, *types.Error) {
	if result == nil {
		return nil, nil
	}
	converted, err := result.GetAsVersion(version)
	if err != nil {
		return nil, types.NewError(types.ErrIncompatibleCNIVersion, err.Error(), "")
	}
	text, err := json.Marshal(converted)
	if err != nil {
		return nil, types.NewError(types.ErrInternal, "encode result", err.Error())
	}
	return text, nil
}

// validate refuses requests whose parts are missing or could leave their folder.
func (r request) validate() error {
	switch r.Command {
	case "GC", "STATUS":
		return nil
	case "ADD", "CHECK":
		if r.Netns == "" {
			return types.NewError(types.ErrInvalidEnvironmentVariables, "CNI_NETNS is empty", "")
		}
	case "DEL":
	default:
		return types.NewError(types.ErrInvalidEnvironmentVariables, fmt.Sprintf("unknown CNI_COMMAND %q", r.Command), "")
	}
	for name, value := range map[string]string{"CNI_CONTAINERID": r.ContainerID, "CNI_IFNAME": r.IfName} {
		if value == "" || len(value) > 128 || strings.ContainsAny(value, "/\x00 \t\n:") || strings.HasPrefix(value, ".") {
			return types.NewError(types.ErrInvalidEnvironmentVariables, fmt.Sprintf("%s %q is not usable", name, value), "")
		}
	}
	if len(r.IfName) > 15 {
		return types.NewError(types.ErrInvalidEnvironmentVariables, fmt.Sprintf("CNI_IFNAME %q is too long", r.IfName), "")
	}
	return nil
}

func (s *Server) dispatchLocked(r request, conf netConf) (*types100.Result, error) {
	owner := ipam.Owner{ContainerID: r.ContainerID, IfName: r.IfName}
	switch r.Command {
	case "ADD":
		return s.addLocked(owner, r, conf)
	case "DEL":
		return nil, s.delLocked(owner)
	case "CHECK":
		return nil, s.checkLocked(owner, r)
	case "GC":
		return nil, s.gcLocked(conf)
	default: // STATUS
		return nil, s.readyLocked(codeNotReady)
	}
}

// readyLocked says whether pods can be added.
func (s *Server) readyLocked(code uint) error {
	if s.addresses == nil || s.applied == nil {
		return types.NewError(code, "the pod network of this node is not configured yet", "the node has no pod range")
	}
	return nil
}

// addLocked attaches a pod. The steps:
//
//  1. store which addresses and ports it has
//  2. make the veth pair and set up the far end
//  3. open the host ports
//
// A failure undoes what was done; a crash leaves the file of step 1, and the DEL that the runtime sends finds it.
func (s *Server) addLocked(owner ipam.Owner, r request, conf netConf) (_ *types100.Result, err error) {
	if err := s.readyLocked(codeTryAgain); err != nil {
		return nil, err
	}
	a, err := s.planLocked(owner, r, conf)
	if err != nil {
		return nil, err
	}
	assigned, err := s.addresses.Allocate(owner)
	if err != nil {
		return nil, err
	}
	for _, one := range assigned {
		a.Addresses = append(a.Addresses, one.Address.Addr())
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.removeLocked(owner, a))
		}
	}()
	if err := s.store.put(a); err != nil {
		return nil, err
	}
	s.attachments[owner] = a
	result, err := s.connect(a, assigned)
	if err != nil {
		return nil, fmt.Errorf("add pod network of %s: %w", a.Pod, err)
	}
	if len(a.Ports) > 0 {
		if err := s.applyLocked(); err != nil {
			return nil, err
		}
	}
	result.DNS = conf.DNS
	return result, nil
}

// planLocked makes the attachment, without addresses, and checks its ports. An earlier attachment of the same owner is
// replaced: the runtime tries again after a failure that it did not clean up.
func (s *Server) planLocked(owner ipam.Owner, r request, conf netConf) (attachment, error) {
	a := attachment{ContainerID: r.ContainerID, IfName: r.IfName, Netns: r.Netns, Pod: podName(r.Args), HostLink: hostLink(owner)}
	if old, ok := s.attachments[owner]; ok {
		if err := s.removeLocked(owner, old); err != nil {
			return a, err
		}
	}
	for _, m := range conf.RuntimeConfig.PortMappings {
		if m.HostPort == 0 {
			continue // a container port that asks for no host port
		}
		if err := validatePort(m); err != nil {
			return a, types.NewError(types.ErrInvalidNetworkConfig, err.Error(), "")
		}
		for _, other := range s.attachments {
			if slices.ContainsFunc(other.Ports, func(o portMapping) bool { return samePort(o, m) }) {
				return a, fmt.Errorf("host port %d/%s is taken by pod %s", m.HostPort, m.Protocol, other.Pod)
			}
		}
		a.Ports = append(a.Ports, m)
	}
	return a, nil
}

// samePort reports whether both mappings want the same port of the same address.
func samePort(a, b portMapping) bool {
	return a.HostPort == b.HostPort && strings.EqualFold(a.Protocol, b.Protocol) && a.HostIP == b.HostIP
}

// connect makes the link of a pod and describes it.
func (s *Server) connect(a attachment, assigned []ipam.Assignment) (*types100.Result, error) {
	ns, err := hostnet.Open(a.Netns)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	mac := podMAC(a.Addresses[0])
	err = s.host.CreateVeth(hostnet.Veth{
		Name: a.HostLink, PeerName: a.IfName, Peer: ns, PeerMAC: mac, MTU: s.mtu, Bridge: s.config.Bridge,
	})
	if err != nil {
		return nil, err
	}
	pod, err := hostnet.New(a.Netns)
	if err != nil {
		return nil, err
	}
	defer pod.Close()
	if err := setUpPod(pod, a.IfName, assigned); err != nil {
		return nil, err
	}
	near, err := s.host.Link(a.HostLink)
	if err != nil {
		return nil, err
	}
	result := &types100.Result{CNIVersion: cniVersion, Interfaces: []*types100.Interface{
		{Name: s.config.Bridge}, {Name: a.HostLink, Mac: near.MAC.String()}, {Name: a.IfName, Mac: mac.String(), Sandbox: a.Netns},
	}}
	for _, one := range assigned {
		address, gateway := one.Address, net.IP(one.Gateway.AsSlice())
		result.IPs = append(result.IPs, &types100.IPConfig{
			Interface: new(2), Gateway: gateway,
			Address: net.IPNet{IP: address.Addr().AsSlice(), Mask: net.CIDRMask(address.Bits(), address.Addr().BitLen())},
		})
		result.Routes = append(result.Routes, &types.Route{
			Dst: net.IPNet{IP: defaultPrefix(one.Gateway).Addr().AsSlice(), Mask: net.CIDRMask(0, address.Addr().BitLen())}, GW: gateway,
		})
	}
	return result, nil
}

// setUpPod gives the far end its addresses and default routes, and brings loopback up.
func setUpPod(pod *hostnet.Host, ifName string, assigned []ipam.Assignment) error {
	if err := pod.SetUp("lo"); err != nil {
		return err
	}
	if err := pod.SetUp(ifName); err != nil {
		return err
	}
	for _, one := range assigned {
		if err := pod.EnsureAddress(ifName, one.Address); err != nil {
			return err
		}
	}
	for _, one := range assigned {
		if err := pod.EnsureRoute(hostnet.Route{Dst: defaultPrefix(one.Gateway), Via: one.Gateway, Dev: ifName}); err != nil {
			return err
		}
	}
	return nil
}

// defaultPrefix is the prefix of the default route of an address's family.
func defaultPrefix(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// delLocked detaches a pod. What does not exist is gone already.
func (s *Server) delLocked(owner ipam.Owner) error {
	a, ok := s.attachments[owner]
	if !ok {
		return s.host.DeleteLink(hostLink(owner))
	}
	return s.removeLocked(owner, a)
}

// removeLocked removes all that an attachment has; its file goes last.
func (s *Server) removeLocked(owner ipam.Owner, a attachment) error {
	delete(s.attachments, owner)
	// Put back on failure, so that the next DEL tries again.
	fail := func(err error) error {
		s.attachments[owner] = a
		return err
	}
	if len(a.Ports) > 0 && s.applied != nil {
		if err := s.applyLocked(); err != nil {
			return fail(err)
		}
	}
	if err := s.host.DeleteLink(a.HostLink); err != nil {
		return fail(err)
	}
	if err := s.store.remove(owner); err != nil {
		return fail(err)
	}
	if s.addresses != nil {
		s.addresses.Release(owner)
	}
	return nil
}

// checkLocked verifies that the pod still has what ADD gave it.
func (s *Server) checkLocked(owner ipam.Owner, r request) error {
	a, ok := s.attachments[owner]
	if !ok {
		return types.NewError(types.ErrUnknownContainer, fmt.Sprintf("container %s has no attachment %s", r.ContainerID, r.IfName), "")
	}
	link, err := s.host.Link(a.HostLink)
	if err != nil {
		return err
	}
	bridge, err := s.host.Link(s.config.Bridge)
	if err != nil {
		return err
	}
	if link.Master != bridge.Index || !link.Up {
		return fmt.Errorf("link %s is not a port of %s that is up", a.HostLink, s.config.Bridge)
	}
	pod, err := hostnet.New(r.Netns)
	if err != nil {
		return err
	}
	defer pod.Close()
	have, err := pod.Addresses(a.IfName)
	if err != nil {
		return err
	}
	for _, want := range a.Addresses {
		if !slices.ContainsFunc(have, func(p netip.Prefix) bool { return p.Addr() == want }) {
			return fmt.Errorf("interface %s lacks address %s", a.IfName, want)
		}
	}
	return nil
}

// gcLocked removes the attachments that the runtime does not list.
func (s *Server) gcLocked(conf netConf) error {
	valid := map[ipam.Owner]bool{}
	for _, v := range conf.ValidAttachments {
		valid[ipam.Owner{ContainerID: v.ContainerID, IfName: v.IfName}] = true
	}
	var errs []error
	for owner, a := range s.attachments {
		if !valid[owner] {
			errs = append(errs, s.removeLocked(owner, a))
		}
	}
	return errors.Join(errs...)
}

// podName reads "namespace/name" from CNI_ARGS, as Kubernetes runtimes fill it.
func podName(args string) string {
	var namespace, name string
	for pair := range strings.SplitSeq(args, ";") {
		key, value, _ := strings.Cut(pair, "=")
		switch key {
		case "K8S_POD_NAMESPACE":
			namespace = value
		case "K8S_POD_NAME":
			name = value
		}
	}
	if name == "" {
		return ""
	}
	return namespace + "/" + name
}
