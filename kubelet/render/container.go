// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/kubelet/pod"
)

// Container is what a container's configuration is rendered from.
type Container struct {
	Pod     *corev1.Pod
	Spec    *corev1.Container
	Attempt uint32
	// ImageRef is what the image resolved to.
	ImageRef  string
	ImageUser ImageUser
	// Env is the environment as Environment made it, sorted by name.
	Env []*runtimeapi.KeyValue
	// Mounts in the order of the specification, the kubelet's own files after them.
	Mounts []*runtimeapi.Mount
	// Devices are the raw block volumes.
	Devices []*runtimeapi.Device
	// CDIDevices are names of devices that the runtime knows how to inject.
	CDIDevices []string
	// Annotations are added to those that the kubelet makes.
	Annotations map[string]string
	// Users is the pod's user namespace, with whose ids mounts are seen; nil for the node's.
	Users *runtimeapi.UserNamespace
	// TargetID is the container whose processes an ephemeral container sees.
	TargetID string
	// ExtraGroups come from the pod's volumes.
	ExtraGroups []int64
	Resources   *runtimeapi.LinuxContainerResources
	// SeccompRoot holds localhost profiles; SeccompDefault confines containers that name no profile.
	SeccompRoot    string
	SeccompDefault bool
}

// Config renders the container's configuration.
func (s *Container) Config() (*runtimeapi.ContainerConfig, error) {
	security, err := s.security()
	if err != nil {
		return nil, err
	}
	values := make(map[string]string, len(s.Env))
	for _, e := range s.Env {
		values[e.Key] = string(e.Value)
	}
	c := s.Spec
	out := &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: c.Name, Attempt: s.Attempt},
		Image:    &runtimeapi.ImageSpec{Image: s.ImageRef, UserSpecifiedImage: c.Image},
		Command:  expandAll(c.Command, values), Args: expandAll(c.Args, values), WorkingDir: c.WorkingDir, Envs: s.Env, Mounts: s.Mounts, Devices: s.Devices,
		Labels: podLabels(s.Pod), Annotations: s.annotations(), LogPath: LogPath(c.Name, s.Attempt),
		Stdin: c.Stdin, StdinOnce: c.StdinOnce, Tty: c.TTY,
		Linux: &runtimeapi.LinuxContainerConfig{Resources: s.Resources, SecurityContext: security},
	}
	out.Labels[LabelContainerName] = c.Name
	for _, m := range out.Mounts {
		m.UidMappings, m.GidMappings = s.Users.GetUids(), s.Users.GetGids()
	}
	for _, name := range s.CDIDevices {
		out.CDIDevices = append(out.CDIDevices, &runtimeapi.CDIDevice{Name: name})
	}
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		if signal, ok := runtimeapi.Signal_value[string(*c.Lifecycle.StopSignal)]; ok {
			out.StopSignal = runtimeapi.Signal(signal)
		}
	}
	return out, nil
}

// LogPath is a container's log, relative to its pod's log directory.
func LogPath(name string, attempt uint32) string {
	return name + "/" + strconv.FormatUint(uint64(attempt), 10) + ".log"
}

// annotations carry what a kubelet that has lost the pod's specification needs to stop and report the container.
func (s *Container) annotations() map[string]string {
	c, out := s.Spec, map[string]string{}
	maps.Copy(out, s.Annotations)
	out[annotationHash] = pod.Hash(c)
	out[annotationRestartCount] = strconv.FormatUint(uint64(s.Attempt), 10)
	out[annotationMessagePath] = c.TerminationMessagePath
	out[annotationMessagePolicy] = string(c.TerminationMessagePolicy)
	if g := s.Pod.DeletionGracePeriodSeconds; g != nil {
		out[annotationDeletionGrace] = strconv.FormatInt(*g, 10)
	}
	if g := s.Pod.Spec.TerminationGracePeriodSeconds; g != nil {
		out[annotationGracePeriod] = strconv.FormatInt(*g, 10)
	}
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
		if data, err := json.Marshal(c.Lifecycle.PreStop); err == nil {
			out[annotationPreStop] = string(data)
		}
	}
	if len(c.Ports) > 0 {
		if data, err := json.Marshal(c.Ports); err == nil {
			out[annotationPorts] = string(data)
		}
	}
	return out
}

// Hash returns the specification's hash that a container was created with, or nothing.
func Hash(annotations map[string]string) string { return annotations[annotationHash] }

// TerminationMessage returns where the container leaves its last words, and whether the end of its log stands in for them.
func TerminationMessage(annotations map[string]string) (path string, fromLog bool) {
	return annotations[annotationMessagePath], annotations[annotationMessagePolicy] == string(corev1.TerminationMessageFallbackToLogsOnError)
}

// Orphan rebuilds as much of a pod as is needed to stop containers that the runtime holds and no source knows.
func Orphan(labels, annotations, sandboxAnnotations map[string]string) *corev1.Pod {
	p := &corev1.Pod{}
	p.Name, p.Namespace = labels[LabelPodName], labels[LabelPodNamespace]
	p.UID = uidOf(labels)
	p.Annotations = maps.Clone(sandboxAnnotations)
	if g, err := strconv.ParseInt(annotations[annotationGracePeriod], 10, 64); err == nil {
		p.Spec.TerminationGracePeriodSeconds = &g
	}
	if g, err := strconv.ParseInt(annotations[annotationDeletionGrace], 10, 64); err == nil {
		p.DeletionGracePeriodSeconds = &g
	}
	return p
}

// OrphanContainer rebuilds a container's specification from what it was created with.
func OrphanContainer(labels, annotations map[string]string) corev1.Container {
	c := corev1.Container{Name: labels[LabelContainerName], TerminationMessagePath: annotations[annotationMessagePath]}
	var hook corev1.LifecycleHandler
	if text := annotations[annotationPreStop]; text != "" && json.Unmarshal([]byte(text), &hook) == nil {
		c.Lifecycle = &corev1.Lifecycle{PreStop: &hook}
	}
	if text := annotations[annotationPorts]; text != "" {
		if err := json.Unmarshal([]byte(text), &c.Ports); err != nil {
			c.Ports = nil // only hooks by port name need them
		}
	}
	return c
}

func expandAll(list []string, values map[string]string) []string {
	var out []string
	for _, s := range list {
		out = append(out, Expand(s, func(name string) (string, bool) { v, ok := values[name]; return v, ok }))
	}
	return out
}

// Expand replaces $(NAME) by its value. "$$" stands for "$", so that "$$(NAME)" stays "$(NAME)"; references without a value, and
// anything else, stay as they are.
func Expand(s string, value func(string) (string, bool)) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		switch s[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(s[i+2:], ')')
			if end < 0 {
				b.WriteString("$(")
				i++
				continue
			}
			name := s[i+2 : i+2+end]
			if v, ok := value(name); ok {
				b.WriteString(v)
			} else {
				fmt.Fprintf(&b, "$(%s)", name)
			}
			i += 2 + end
		default:
			b.WriteByte('$')
		}
	}
	return b.String()
}
