// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package render turns a pod specification into what the container runtime is asked for: the sandbox's and containers'
// configuration, environments, resolver and hosts files. It reads nothing but its arguments, so that the same pod always renders
// the same.
package render

import (
	"fmt"
	"maps"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Labels and annotations by which the kubelet finds its containers again, after a restart too.
const (
	LabelPodName       = "io.kubernetes.pod.name"
	LabelPodNamespace  = "io.kubernetes.pod.namespace"
	LabelPodUID        = "io.kubernetes.pod.uid"
	LabelContainerName = "io.kubernetes.container.name"

	annotationHash             = "io.kubernetes.container.hash"
	annotationRestartCount     = "io.kubernetes.container.restartCount"
	annotationMessagePath      = "io.kubernetes.container.terminationMessagePath"
	annotationMessagePolicy    = "io.kubernetes.container.terminationMessagePolicy"
	annotationPreStop          = "io.kubernetes.container.preStopHandler"
	annotationPorts            = "io.kubernetes.container.ports"
	annotationGracePeriod      = "io.kubernetes.pod.terminationGracePeriod"
	annotationDeletionGrace    = "io.kubernetes.pod.deletionGracePeriod"
	annotationAppArmorPrefix   = "container.apparmor.security.beta.kubernetes.io/"
	maxKernelHostname          = 64
	defaultTerminationLogMode  = 0o666
	hostsFileMode              = 0o644
	terminationMessageMaxBytes = 4096
)

// Sandbox is what a sandbox's configuration is rendered from.
type Sandbox struct {
	// Users is the pod's user namespace; nil for the node's.
	Users   *runtimeapi.UserNamespace
	Pod     *corev1.Pod
	Attempt uint32
	// LogDirectory is the pod's, see LogDirectory.
	LogDirectory string
	// CgroupParent is the pod's cgroup; empty lets the runtime choose.
	CgroupParent string
	DNS          *runtimeapi.DNSConfig
	// ClusterDomain completes the pod's domain.
	ClusterDomain string
	// Overhead and Resources are the pod's, for runtimes that size a virtual machine.
	Overhead, Resources *runtimeapi.LinuxContainerResources
}

// Config renders the sandbox's configuration.
func (s Sandbox) Config() (*runtimeapi.PodSandboxConfig, error) {
	p := s.Pod
	out := &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: p.Name, Namespace: p.Namespace, Uid: string(p.UID), Attempt: s.Attempt},
		Labels:   maps.Clone(p.Labels), Annotations: maps.Clone(p.Annotations), DnsConfig: s.DNS, LogDirectory: s.LogDirectory,
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	maps.Copy(out.Labels, podLabels(p))
	if !p.Spec.HostNetwork {
		name, domain, err := HostnameAndDomain(p, s.ClusterDomain)
		if err != nil {
			return nil, err
		}
		if out.Hostname, err = kernelHostname(p, name, domain); err != nil {
			return nil, err
		}
		out.PortMappings = portMappings(p)
	}
	linux, err := s.linux()
	if err != nil {
		return nil, err
	}
	out.Linux = linux
	return out, nil
}

func podLabels(p *corev1.Pod) map[string]string {
	return map[string]string{LabelPodName: p.Name, LabelPodNamespace: p.Namespace, LabelPodUID: string(p.UID)}
}

// LogDirectory is where a pod's logs lie below root.
func LogDirectory(root string, p *corev1.Pod) string {
	return filepath.Join(root, fmt.Sprintf("%s_%s_%s", p.Namespace, p.Name, p.UID))
}

func (s Sandbox) linux() (*runtimeapi.LinuxPodSandboxConfig, error) {
	p := s.Pod
	security := &runtimeapi.LinuxSandboxSecurityContext{
		NamespaceOptions: namespaces(p, s.Users), Privileged: anyPrivileged(p),
		Seccomp: &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
	}
	out := &runtimeapi.LinuxPodSandboxConfig{
		CgroupParent: s.CgroupParent, SecurityContext: security, Sysctls: map[string]string{}, Overhead: s.Overhead, Resources: s.Resources,
	}
	sc := p.Spec.SecurityContext
	if sc == nil {
		return out, nil
	}
	for _, c := range sc.Sysctls {
		out.Sysctls[c.Name] = c.Value
	}
	if sc.RunAsUser != nil {
		security.RunAsUser = &runtimeapi.Int64Value{Value: *sc.RunAsUser}
	}
	if sc.RunAsGroup != nil {
		security.RunAsGroup = &runtimeapi.Int64Value{Value: *sc.RunAsGroup}
	}
	var err error
	security.SupplementalGroups, security.SupplementalGroupsPolicy, err = groups(sc)
	if err != nil {
		return nil, err
	}
	security.SelinuxOptions = selinux(sc.SELinuxOptions)
	return out, nil
}

// namespaces says which namespaces the pod shares with the node, or its containers with each other.
func namespaces(p *corev1.Pod, users *runtimeapi.UserNamespace) *runtimeapi.NamespaceOption {
	out := &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER, UsernsOptions: users}
	if p.Spec.HostNetwork {
		out.Network = runtimeapi.NamespaceMode_NODE
	}
	if p.Spec.HostIPC {
		out.Ipc = runtimeapi.NamespaceMode_NODE
	}
	if p.Spec.HostPID {
		out.Pid = runtimeapi.NamespaceMode_NODE
	} else if p.Spec.ShareProcessNamespace != nil && *p.Spec.ShareProcessNamespace {
		out.Pid = runtimeapi.NamespaceMode_POD
	}
	return out
}

func anyPrivileged(p *corev1.Pod) bool {
	privileged := func(sc *corev1.SecurityContext) bool { return sc != nil && sc.Privileged != nil && *sc.Privileged }
	for i := range p.Spec.InitContainers {
		if privileged(p.Spec.InitContainers[i].SecurityContext) {
			return true
		}
	}
	for i := range p.Spec.Containers {
		if privileged(p.Spec.Containers[i].SecurityContext) {
			return true
		}
	}
	for i := range p.Spec.EphemeralContainers {
		if privileged(p.Spec.EphemeralContainers[i].SecurityContext) {
			return true
		}
	}
	return false
}

func portMappings(p *corev1.Pod) []*runtimeapi.PortMapping {
	var out []*runtimeapi.PortMapping
	add := func(c *corev1.Container) {
		for _, port := range c.Ports {
			if port.HostPort <= 0 {
				continue
			}
			protocol := runtimeapi.Protocol_TCP
			switch port.Protocol {
			case corev1.ProtocolUDP:
				protocol = runtimeapi.Protocol_UDP
			case corev1.ProtocolSCTP:
				protocol = runtimeapi.Protocol_SCTP
			case corev1.ProtocolTCP:
			}
			out = append(out, &runtimeapi.PortMapping{HostIp: port.HostIP, HostPort: port.HostPort, ContainerPort: port.ContainerPort, Protocol: protocol})
		}
	}
	for i := range p.Spec.InitContainers {
		if policy := p.Spec.InitContainers[i].RestartPolicy; policy != nil && *policy == corev1.ContainerRestartPolicyAlways {
			add(&p.Spec.InitContainers[i])
		}
	}
	for i := range p.Spec.Containers {
		add(&p.Spec.Containers[i])
	}
	return out
}

// HostnameAndDomain returns the pod's host name and its domain, which is empty without a subdomain.
func HostnameAndDomain(p *corev1.Pod, clusterDomain string) (hostname, domain string, err error) {
	if override := p.Spec.HostnameOverride; override != nil {
		return *override, "", nil
	}
	hostname = p.Name
	if p.Spec.Hostname != "" {
		hostname = p.Spec.Hostname
	}
	// The kernel's limit for one label; names that end badly after the cut are trimmed.
	const longest = 63
	if len(hostname) > longest {
		hostname = strings.TrimRight(hostname[:longest], "-.")
	}
	if hostname == "" {
		return "", "", fmt.Errorf("pod %s has no usable host name", p.Name)
	}
	if p.Spec.Subdomain != "" {
		domain = fmt.Sprintf("%s.%s.svc.%s", p.Spec.Subdomain, p.Namespace, clusterDomain)
	}
	return hostname, domain, nil
}

// kernelHostname is what the pod's UTS namespace is named.
func kernelHostname(p *corev1.Pod, hostname, domain string) (string, error) {
	if p.Spec.SetHostnameAsFQDN == nil || !*p.Spec.SetHostnameAsFQDN || domain == "" {
		return hostname, nil
	}
	full := hostname + "." + domain
	if len(full) > maxKernelHostname {
		return "", fmt.Errorf("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (%d characters is the max, %d characters requested)",
			full, maxKernelHostname, len(full))
	}
	return full, nil
}
