// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package devices gives pods the devices that device plugins offer (kubelet/device-plugins v1beta1). A plugin registers for one
// extended resource, keeps a list of its devices up to date, and says what a container needs to see them. Which container has
// which devices outlives the kubelet in a checkpoint.
package devices

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	plugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// awayGrace is how long the devices of a plugin that is gone still count as capacity, so that an upgrade changes nothing.
const awayGrace = 5 * time.Minute

// Config of a node's devices.
type Config struct {
	// Root is the kubelet's folder; sockets lie in device-plugins below it.
	Root string
	// Resized is called when the number of devices of the node changed. It must not block.
	Resized func()
	// Changed is told of pods whose devices have another health now. It must not block.
	Changed func(pods []types.UID)
	Logger  *slog.Logger
}

// Devices is what a node knows of device plugins and of who has their devices. It is safe for concurrent use.
type Devices struct {
	config Config
	wg     sync.WaitGroup // what follows plugins
	// allocating serializes allocations: plugins are asked in between.
	allocating sync.Mutex

	mu     sync.Mutex
	stocks map[string]*stock // by resource
	given  map[types.UID]map[string]map[string]*grant
	ctx    context.Context //nolint:containedctx // lent by Load: plugins register and vanish at any time
}

// stock is what there is of one resource.
type stock struct {
	endpoint *endpoint // nil while no plugin is there
	options  *plugin.DevicePluginOptions
	devices  map[string]*plugin.Device
	away     time.Time // since when no plugin is there
}

// grant is what a container has of one resource.
type grant struct {
	ids      []string
	response *plugin.ContainerAllocateResponse
}

// New makes it; Load and Run follow.
func New(config Config) *Devices {
	return &Devices{config: config, stocks: map[string]*stock{}, given: map[types.UID]map[string]map[string]*grant{}}
}

// Capacity counts the devices per resource: all, and those that can be used. Resources whose plugin is gone for long have none.
func (d *Devices) Capacity() (all, usable corev1.ResourceList) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all, usable = corev1.ResourceList{}, corev1.ResourceList{}
	for name, s := range d.stocks {
		total, healthy := int64(len(s.devices)), int64(0)
		for id := range s.devices {
			if s.healthy(id) {
				healthy++
			}
		}
		if s.endpoint == nil && time.Since(s.away) >= awayGrace {
			total = 0
		}
		all[corev1.ResourceName(name)] = *resource.NewQuantity(total, resource.DecimalSI)
		usable[corev1.ResourceName(name)] = *resource.NewQuantity(healthy, resource.DecimalSI)
	}
	return all, usable
}

// healthy reports whether a device can be given to somebody.
func (s *stock) healthy(id string) bool {
	dev := s.devices[id]
	return s.endpoint != nil && dev != nil && dev.GetHealth() == plugin.Healthy
}

// ErrUnavailable is returned by Allocate when there are not enough devices: the pod can't run here.
var ErrUnavailable = errors.New("not available")

// Allocate gives every container of the pod the devices that it asks for. Containers that have theirs keep them, whether the
// plugin is there or not. It is idempotent.
func (d *Devices) Allocate(ctx context.Context, pod *corev1.Pod) error {
	if !d.concerns(pod) {
		return nil
	}
	d.allocating.Lock()
	defer d.allocating.Unlock()
	// What an init container had may be used again by those after it; a sidecar keeps its own.
	spare := map[string][]string{}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		kept := c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
		if err := d.allocate(ctx, pod, c, spare, kept); err != nil {
			return err
		}
	}
	for i := range pod.Spec.Containers {
		if err := d.allocate(ctx, pod, &pod.Spec.Containers[i], spare, true); err != nil {
			return err
		}
	}
	return d.save()
}

// concerns reports whether any container asks for a resource of a plugin.
func (d *Devices) concerns(pod *corev1.Pod) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			for name := range list[i].Resources.Limits {
				if d.stocks[string(name)] != nil {
					return true
				}
			}
		}
	}
	return false
}

func (d *Devices) allocate(ctx context.Context, pod *corev1.Pod, c *corev1.Container, spare map[string][]string, kept bool) error {
	for _, name := range slices.Sorted(maps.Keys(c.Resources.Limits)) {
		q := c.Resources.Limits[name]
		needed := int(q.Value())
		d.mu.Lock()
		s, has := d.stocks[string(name)], d.given[pod.UID][c.Name][string(name)]
		d.mu.Unlock()
		if s == nil || needed == 0 || byClaim(pod, c.Name, string(name)) {
			continue
		}
		if has == nil {
			var err error
			if has, err = d.take(ctx, s, pod.UID, string(name), needed, spare[string(name)]); err != nil {
				return err
			}
			d.give(pod.UID, c.Name, string(name), has)
		}
		mine := func(id string) bool { return slices.Contains(has.ids, id) }
		spare[string(name)] = slices.DeleteFunc(spare[string(name)], mine)
		if !kept {
			spare[string(name)] = append(spare[string(name)], has.ids...)
		}
	}
	return nil
}

// byClaim reports whether an extended resource is backed by a resource claim instead of a device plugin.
func byClaim(pod *corev1.Pod, container, name string) bool {
	s := pod.Status.ExtendedResourceClaimStatus
	return s != nil && slices.ContainsFunc(s.RequestMappings, func(m corev1.ContainerExtendedResourceRequest) bool {
		return m.ContainerName == container && m.ResourceName == name
	})
}

// take chooses devices and asks the plugin what a container needs to see them.
func (d *Devices) take(ctx context.Context, s *stock, pod types.UID, name string, needed int, spare []string) (*grant, error) {
	d.mu.Lock()
	endpoint, options := s.endpoint, s.options
	spare = slices.DeleteFunc(slices.Clone(spare), func(id string) bool { return !s.healthy(id) })
	free := d.freeLocked(name, s)
	total := 0
	for id := range s.devices {
		if s.healthy(id) {
			total++
		}
	}
	d.mu.Unlock()
	ids := spare[:min(len(spare), needed)]
	switch missing := needed - len(ids); {
	case endpoint == nil:
		return nil, fmt.Errorf("%w: cannot allocate unregistered device %s", ErrUnavailable, name)
	case total == 0:
		return nil, fmt.Errorf("%w: no healthy devices present; cannot allocate unhealthy devices %s", ErrUnavailable, name)
	case missing > len(free):
		return nil, fmt.Errorf("%w: requested number of devices unavailable for %s. Requested: %d, Available: %d", ErrUnavailable, name, missing, len(free))
	case missing > 0:
		preferred, err := endpoint.prefer(ctx, options, append(slices.Clone(free), ids...), ids, needed)
		if err != nil {
			return nil, err
		}
		for _, list := range [][]string{preferred, free} {
			for _, id := range list {
				if len(ids) < needed && slices.Contains(free, id) && !slices.Contains(ids, id) {
					ids = append(ids, id)
				}
			}
		}
	}
	response, err := endpoint.allocate(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("allocate %s for pod %s: %w", name, pod, err)
	}
	return &grant{ids: ids, response: response}, nil
}

// freeLocked lists the healthy devices that nobody has, in order.
func (d *Devices) freeLocked(name string, s *stock) []string {
	taken := map[string]bool{}
	for _, containers := range d.given {
		for _, resources := range containers {
			if g := resources[name]; g != nil {
				for _, id := range g.ids {
					taken[id] = true
				}
			}
		}
	}
	var out []string
	for _, id := range slices.Sorted(maps.Keys(s.devices)) {
		if s.healthy(id) && !taken[id] {
			out = append(out, id)
		}
	}
	return out
}

func (d *Devices) give(pod types.UID, container, name string, g *grant) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.given[pod] == nil {
		d.given[pod] = map[string]map[string]*grant{}
	}
	if d.given[pod][container] == nil {
		d.given[pod][container] = map[string]*grant{}
	}
	d.given[pod][container][name] = g
}

// Free takes the devices of a pod back.
func (d *Devices) Free(pod types.UID) error {
	d.mu.Lock()
	_, had := d.given[pod]
	delete(d.given, pod)
	d.mu.Unlock()
	if !had {
		return nil
	}
	return d.save()
}

// Pods lists the pods that have devices.
func (d *Devices) Pods() []types.UID {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.given))
}

// Start readies a container's devices, where their plugins want to know of every start, and returns what the container needs
// to see them: one response for all its resources.
func (d *Devices) Start(ctx context.Context, pod types.UID, container string) (*plugin.ContainerAllocateResponse, error) {
	out := &plugin.ContainerAllocateResponse{Envs: map[string]string{}, Annotations: map[string]string{}}
	d.mu.Lock()
	grants := maps.Clone(d.given[pod][container])
	d.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(grants)) {
		g := grants[name]
		d.mu.Lock()
		s := d.stocks[name]
		var endpoint *endpoint
		if s != nil {
			endpoint = s.endpoint
		}
		starts := s != nil && s.options.GetPreStartRequired()
		d.mu.Unlock()
		if starts {
			if endpoint == nil {
				return nil, fmt.Errorf("device plugin of %s is not there to ready its devices", name)
			}
			if err := endpoint.start(ctx, g.ids); err != nil {
				return nil, err
			}
		}
		// The first to name an environment variable or annotation wins.
		r := proto.CloneOf(g.response)
		for k, v := range r.GetEnvs() {
			if _, ok := out.Envs[k]; !ok {
				out.Envs[k] = v
			}
		}
		for k, v := range r.GetAnnotations() {
			if _, ok := out.Annotations[k]; !ok {
				out.Annotations[k] = v
			}
		}
		out.Mounts, out.Devices = append(out.Mounts, r.GetMounts()...), append(out.Devices, r.GetDevices()...)
		out.CdiDevices = append(out.CdiDevices, r.GetCdiDevices()...)
	}
	return out, nil
}

// Given lists the devices that a container has, by resource, as far as their plugins tell of them.
func (d *Devices) Given(pod types.UID, container string) map[string][]*plugin.Device {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string][]*plugin.Device{}
	for name, g := range d.given[pod][container] {
		for _, id := range g.ids {
			known := &plugin.Device{ID: id}
			if s := d.stocks[name]; s != nil && s.devices[id] != nil {
				known = s.devices[id]
			}
			out[name] = append(out[name], known)
		}
	}
	return out
}

// Usable lists the devices that can be given to pods, whether they are or not, by resource.
func (d *Devices) Usable() map[string][]*plugin.Device {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string][]*plugin.Device{}
	for name, s := range d.stocks {
		for _, id := range slices.Sorted(maps.Keys(s.devices)) {
			if s.healthy(id) {
				out[name] = append(out[name], s.devices[id])
			}
		}
	}
	return out
}

// Health returns the health of a container's devices, as the pod's status shows it (KEP-4680).
func (d *Devices) Health(pod types.UID, container string) []corev1.ResourceStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []corev1.ResourceStatus
	grants := d.given[pod][container]
	for _, name := range slices.Sorted(maps.Keys(grants)) {
		one := corev1.ResourceStatus{Name: corev1.ResourceName(name)}
		for _, id := range grants[name].ids {
			h := corev1.ResourceHealth{ResourceID: corev1.ResourceID(id), Health: corev1.ResourceHealthStatusUnknown}
			if s := d.stocks[name]; s != nil && s.devices[id] != nil {
				h.Health = corev1.ResourceHealthStatusUnhealthy
				if s.healthy(id) {
					h.Health = corev1.ResourceHealthStatusHealthy
				}
			}
			one.Resources = append(one.Resources, h)
		}
		out = append(out, one)
	}
	return out
}

// Has reports whether a pod has any device.
func (d *Devices) Has(pod types.UID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.given[pod]) > 0
}
