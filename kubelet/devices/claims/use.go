// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
)

// use is what a container takes of one claim.
type use struct {
	claim string // the claim's name
	// requests are those of the claim's requests that the container sees; an empty name stands for all.
	requests []string
}

// usesOf lists what a container takes, in the order of the pod's claims.
func usesOf(pod *corev1.Pod, container *corev1.Container) ([]use, error) {
	var out []use
	for i := range pod.Spec.ResourceClaims {
		entry := &pod.Spec.ResourceClaims[i]
		var requests []string
		for _, c := range container.Resources.Claims {
			if c.Name == entry.Name {
				requests = append(requests, c.Request)
			}
		}
		if len(requests) == 0 {
			continue
		}
		name, _, err := resourceclaim.Name(pod, entry)
		if err != nil {
			return nil, err
		}
		if name != nil {
			out = append(out, use{*name, requests})
		}
	}
	if extended := pod.Status.ExtendedResourceClaimStatus; extended != nil {
		var requests []string
		for _, m := range extended.RequestMappings {
			if q, ok := container.Resources.Requests[corev1.ResourceName(m.ResourceName)]; ok && !q.IsZero() && m.ContainerName == container.Name {
				requests = append(requests, m.RequestName)
			}
		}
		if len(requests) > 0 {
			out = append(out, use{extended.ResourceClaimName, requests})
		}
	}
	return out, nil
}

// shows reports whether a device is for a request; an empty request stands for all.
func (d *Device) shows(request string) bool {
	return request == "" || len(d.RequestNames) == 0 || slices.Contains(d.RequestNames, resourceclaim.BaseRequestRef(request))
}

// Use is one device of a claim that a container uses.
type Use struct {
	Claim  types.NamespacedName
	Driver string
	Device
}

// Of lists the devices that a container uses, each as often as it asks for it.
func (c *Claims) Of(pod *corev1.Pod, container *corev1.Container) ([]Use, error) {
	uses, err := usesOf(pod, container)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Use
	for _, u := range uses {
		key := types.NamespacedName{Namespace: pod.Namespace, Name: u.claim}
		e := c.entries[key]
		if e == nil {
			return nil, fmt.Errorf("ResourceClaim %s: %w", u.claim, errNotPrepared)
		}
		for _, request := range u.requests {
			for _, name := range sortedKeys(e.drivers) {
				for _, d := range e.drivers[name] {
					if d.shows(request) {
						out = append(out, Use{Claim: key, Driver: name, Device: d})
					}
				}
			}
		}
	}
	return out, nil
}

// CDI lists the names of the devices that the runtime injects into a container.
func (c *Claims) CDI(pod *corev1.Pod, container *corev1.Container) ([]string, error) {
	uses, err := c.Of(pod, container)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, u := range uses {
		for _, id := range u.CDIDeviceIDs {
			if !slices.Contains(out, id) {
				out = append(out, id)
			}
		}
	}
	return out, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
