// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
	drahealth "k8s.io/kubelet/pkg/apis/dra-health/v1alpha1"
)

// staleAfter is how long a report of a device's health holds, unless the driver says otherwise; upstream's value.
const staleAfter = 30 * time.Second

// longestMessage bounds a driver's words in a pod's status, in bytes.
const longestMessage = corev1.ResourceHealthMessageMaxLength

// device names a device of the node.
type device struct{ driver, pool, name string }

// health is what a driver said of a device.
type health struct {
	state   corev1.ResourceHealthStatus
	message string
	until   time.Time // afterwards it is unknown
}

// watchHealth follows the health of a driver's devices (KEP-4680). Drivers need not offer that.
func (c *Claims) watchHealth(ctx context.Context, d *driver) {
	for ctx.Err() == nil {
		stream, err := drahealth.NewDRAResourceHealthClient(d.conn).NodeWatchResources(ctx, &drahealth.NodeWatchResourcesRequest{}, grpc.WaitForReady(true))
		for err == nil {
			var answer *drahealth.NodeWatchResourcesResponse
			if answer, err = stream.Recv(); err == nil {
				c.reported(d.name, answer.GetDevices())
			}
		}
		c.mu.Lock()
		maps.DeleteFunc(c.health, func(k device, _ health) bool { return k.driver == d.name })
		c.mu.Unlock()
		if status.Code(err) == codes.Unimplemented {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Second):
		}
	}
}

// reported takes in a driver's report and tells the pods that it is about.
func (c *Claims) reported(driver string, devices []*drahealth.DeviceHealth) {
	c.mu.Lock()
	changed := map[device]bool{}
	for _, d := range devices {
		key := device{driver, d.GetDevice().GetPoolName(), d.GetDevice().GetDeviceName()}
		next := health{state: corev1.ResourceHealthStatusUnknown, message: shorten(d.GetMessage()), until: time.Now().Add(staleAfter)}
		switch d.GetHealth() {
		case drahealth.HealthStatus_HEALTHY:
			next.state = corev1.ResourceHealthStatusHealthy
		case drahealth.HealthStatus_UNHEALTHY:
			next.state = corev1.ResourceHealthStatusUnhealthy
		case drahealth.HealthStatus_UNKNOWN:
		}
		if s := d.GetHealthCheckTimeoutSeconds(); s > 0 {
			next.until = time.Now().Add(time.Duration(s) * time.Second)
		}
		old := c.health[key]
		changed[key] = old.state != next.state || old.message != next.message
		c.health[key] = next
	}
	pods := map[types.UID]bool{}
	for _, e := range c.entries {
		for _, d := range e.drivers[driver] {
			if changed[device{driver, d.PoolName, d.DeviceName}] {
				maps.Copy(pods, e.pods)
			}
		}
	}
	c.mu.Unlock()
	if len(pods) > 0 && c.config.Changed != nil {
		c.config.Changed(slices.Collect(maps.Keys(pods)))
	}
}

func shorten(message string) string {
	if len(message) <= longestMessage {
		return message
	}
	return message[:longestMessage-3] + "..."
}

// Health returns the health of the devices that a container uses, one entry per claim and request, as the pod's status shows
// it; nil for a container without claims.
func (c *Claims) Health(pod *corev1.Pod, container *corev1.Container) []corev1.ResourceStatus {
	var out []corev1.ResourceStatus
	for _, ref := range container.Resources.Claims {
		i := slices.IndexFunc(pod.Spec.ResourceClaims, func(e corev1.PodResourceClaim) bool { return e.Name == ref.Name })
		if i < 0 {
			continue
		}
		name, _, err := resourceclaim.Name(pod, &pod.Spec.ResourceClaims[i])
		if err != nil || name == nil {
			continue
		}
		shown := corev1.ResourceStatus{Name: corev1.ResourceName("claim:" + ref.Name)}
		if ref.Request != "" {
			shown.Name += corev1.ResourceName("/" + ref.Request)
		}
		shown.Resources = c.healthOf(types.NamespacedName{Namespace: pod.Namespace, Name: *name}, ref.Request)
		if len(shown.Resources) > 0 {
			out = append(out, shown)
		}
	}
	return out
}

func (c *Claims) healthOf(key types.NamespacedName, request string) []corev1.ResourceHealth {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[key]
	if e == nil {
		return nil
	}
	var out []corev1.ResourceHealth
	for _, driver := range sortedKeys(e.drivers) {
		for _, d := range e.drivers[driver] {
			if !d.shows(request) {
				continue
			}
			one := corev1.ResourceHealth{
				ResourceID: corev1.ResourceID(driver + "/" + d.PoolName + "/" + d.DeviceName), Health: corev1.ResourceHealthStatusUnknown,
			}
			if len(d.CDIDeviceIDs) > 0 {
				one.ResourceID = corev1.ResourceID(d.CDIDeviceIDs[0])
			}
			if h, ok := c.health[device{driver, d.PoolName, d.DeviceName}]; ok && time.Now().Before(h.until) {
				one.Health = h.state
				if h.message != "" {
					one.Message = &h.message
				}
			}
			if !slices.ContainsFunc(out, func(o corev1.ResourceHealth) bool { return o.ResourceID == one.ResourceID }) {
				out = append(out, one)
			}
		}
	}
	return out
}
