// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
)

func uidOf(labels map[string]string) types.UID { return types.UID(labels[LabelPodUID]) }

// Facts are what the downward API tells beside the pod's own object.
type Facts struct {
	NodeName        string
	HostIPs, PodIPs []string
	// Allocatable are the node's resources, the limit of containers without one.
	Allocatable corev1.ResourceList
}

// Field returns the value of a field of the pod, as the downward API writes it.
func (f Facts) Field(p *corev1.Pod, path string) (string, error) {
	if name, subscript, ok := splitSubscript(path); ok {
		switch name {
		case "metadata.annotations":
			return p.Annotations[subscript], nil
		case "metadata.labels":
			return p.Labels[subscript], nil
		}
		return "", fmt.Errorf("fieldPath %q does not support subscript", path)
	}
	first := func(list []string) string {
		if len(list) == 0 {
			return ""
		}
		return list[0]
	}
	switch path {
	case "metadata.name":
		return p.Name, nil
	case "metadata.namespace":
		return p.Namespace, nil
	case "metadata.uid":
		return string(p.UID), nil
	case "metadata.labels":
		return formatMap(p.Labels), nil
	case "metadata.annotations":
		return formatMap(p.Annotations), nil
	case "spec.nodeName":
		return f.NodeName, nil
	case "spec.serviceAccountName":
		return p.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return first(f.HostIPs), nil
	case "status.hostIPs":
		return strings.Join(f.HostIPs, ","), nil
	case "status.podIP":
		return first(f.PodIPs), nil
	case "status.podIPs":
		return strings.Join(f.PodIPs, ","), nil
	}
	return "", fmt.Errorf("unsupported fieldPath: %v", path)
}

func splitSubscript(path string) (name, subscript string, ok bool) {
	if !strings.HasSuffix(path, "']") {
		return path, "", false
	}
	name, subscript, ok = strings.Cut(path[:len(path)-2], "['")
	return name, subscript, ok && name != ""
}

func formatMap(m map[string]string) string {
	lines := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		lines = append(lines, fmt.Sprintf("%s=%q", k, m[k]))
	}
	return strings.Join(lines, "\n")
}

// Resource returns a request or limit of a container, divided and rounded up.
func (f Facts) Resource(p *corev1.Pod, own *corev1.Container, ref *corev1.ResourceFieldSelector) (string, error) {
	c := own
	if ref.ContainerName != "" && (own == nil || ref.ContainerName != own.Name) {
		if c = findContainer(p, ref.ContainerName); c == nil {
			return "", fmt.Errorf("container %s not found", ref.ContainerName)
		}
	}
	if c == nil {
		return "", fmt.Errorf("resourceFieldRef %q names no container", ref.Resource)
	}
	kind, name, ok := strings.Cut(ref.Resource, ".")
	if !ok || kind != "limits" && kind != "requests" {
		return "", fmt.Errorf("unsupported container resource : %v", ref.Resource)
	}
	r := corev1.ResourceName(name)
	q, set := c.Resources.Limits[r]
	if kind == "requests" {
		q, set = c.Resources.Requests[r]
	}
	if !set && kind == "limits" && (r == corev1.ResourceCPU || r == corev1.ResourceMemory || r == corev1.ResourceEphemeralStorage) {
		q = f.Allocatable[r]
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if r == corev1.ResourceCPU {
		return strconv.FormatInt(int64(math.Ceil(float64(q.MilliValue())/float64(divisor.MilliValue()))), 10), nil
	}
	return strconv.FormatInt(int64(math.Ceil(float64(q.Value())/float64(divisor.Value()))), 10), nil
}

func findContainer(p *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}
