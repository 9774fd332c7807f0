// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package claims has the resource claims of a node's pods prepared by the drivers that their devices belong to (dynamic
// resource allocation, KEP-4381), and unprepared when the last pod is over. Drivers register over the plugin socket and are
// called by gRPC. Which claims are prepared, and for whom, outlives the kubelet in a checkpoint of upstream's format.
package claims

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
	dra "k8s.io/kubelet/pkg/apis/dra/v1"
)

// Config of a node's claims.
type Config struct {
	// Dir holds the checkpoint.
	Dir string
	// Claim reads a claim from the API server.
	Claim func(ctx context.Context, namespace, name string) (*resourcev1.ResourceClaim, error)
	// Wipe deletes the resource slices that a driver published for this node, or those of all drivers if it is empty. It may be
	// called again until it succeeds.
	Wipe func(ctx context.Context, driver string) error
	// Changed is told of pods whose devices have another health now. It must not block.
	Changed func(pods []types.UID)
	Logger  *slog.Logger
	// WipeDelay is how long a driver may be away before its slices are deleted; 30 s by default, as upstream.
	WipeDelay time.Duration
}

// Claims is what a node knows of its claims and drivers. It is safe for concurrent use.
type Claims struct {
	config Config
	wg     sync.WaitGroup // what follows drivers

	mu sync.Mutex
	// entries are the claims that drivers were or are about to be told of.
	entries map[types.NamespacedName]*entry
	// busy are the claims that an operation works on; freed is signalled when one is done.
	busy  map[types.NamespacedName]bool
	freed *sync.Cond
	// drivers by name, in the order in which they registered.
	drivers map[string][]*driver
	wipes   map[string]*time.Timer
	health  map[device]health
	ctx     context.Context //nolint:containedctx // lent by Load: drivers register and vanish at any time
}

// New makes it; Load and Run follow.
func New(config Config) *Claims {
	if config.WipeDelay == 0 {
		config.WipeDelay = 30 * time.Second
	}
	c := &Claims{
		config: config, entries: map[types.NamespacedName]*entry{}, busy: map[types.NamespacedName]bool{},
		drivers: map[string][]*driver{}, wipes: map[string]*time.Timer{}, health: map[device]health{},
	}
	c.freed = sync.NewCond(&c.mu)
	return c
}

// Run deletes what drivers published before this kubelet started, because none of them can be used until it registers again,
// and then waits for ctx to end.
func (c *Claims) Run(ctx context.Context) {
	c.wipe(ctx, "")
	<-ctx.Done()
	defer c.wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, timer := range c.wipes {
		timer.Stop()
	}
	for _, list := range c.drivers {
		for _, d := range list {
			d.close(c.config.Logger)
		}
	}
}

// user is one claim of a pod, checked and ready to be prepared.
type user struct {
	key     types.NamespacedName
	uid     types.UID
	drivers []string
}

// Prepare has all claims of a pod prepared. It is idempotent; errors are shown to the user.
func (c *Claims) Prepare(ctx context.Context, pod *corev1.Pod) error {
	users, err := c.usersOf(ctx, pod)
	if err != nil || len(users) == 0 {
		return err
	}
	keys := make([]types.NamespacedName, 0, len(users))
	for _, u := range users {
		keys = append(keys, u.key)
	}
	defer c.hold(keys)()
	open, err := c.enter(pod.UID, users)
	if err != nil {
		return err
	}
	results := map[types.UID]map[string][]Device{}
	for name, batch := range open {
		devices, err := c.prepare(ctx, name, batch)
		if err != nil {
			return err
		}
		for uid, list := range devices {
			if results[uid] == nil {
				results[uid] = map[string][]Device{}
			}
			results[uid][name] = list
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range users {
		e := c.entries[u.key]
		if devices, ok := results[u.uid]; ok && e != nil {
			e.drivers, e.prepared = devices, true
		}
	}
	return c.saveLocked()
}

// usersOf checks the claims of a pod without any effect, so that a pod which fails here can go without a driver's help.
func (c *Claims) usersOf(ctx context.Context, pod *corev1.Pod) ([]user, error) {
	var out []user
	for _, entry := range entriesOf(pod) {
		name, mustOwn, err := resourceclaim.Name(pod, &entry)
		if err != nil {
			return nil, err
		}
		if name == nil {
			continue // not needed
		}
		claim, err := c.config.Claim(ctx, pod.Namespace, *name)
		if err != nil {
			return nil, fmt.Errorf("fetch ResourceClaim %s: %w", *name, err)
		}
		if mustOwn {
			if err := resourceclaim.IsForPod(pod, claim, false); err != nil {
				return nil, err
			}
		}
		if !resourceclaim.IsReservedForPod(pod, claim, false) {
			return nil, fmt.Errorf("pod %s (%s) is not allowed to use ResourceClaim %s (%s)", pod.Name, pod.UID, *name, claim.UID)
		}
		if claim.Status.Allocation == nil {
			return nil, fmt.Errorf("ResourceClaim %s: not allocated", claim.Name)
		}
		u := user{key: types.NamespacedName{Namespace: claim.Namespace, Name: claim.Name}, uid: claim.UID}
		for _, r := range claim.Status.Allocation.Devices.Results {
			if slices.Contains(u.drivers, r.Driver) {
				continue
			}
			if _, err := c.driver(r.Driver); err != nil {
				return nil, err
			}
			u.drivers = append(u.drivers, r.Driver)
		}
		out = append(out, u)
	}
	return out, nil
}

// entriesOf lists a pod's claims, the one for its extended resources included.
func entriesOf(pod *corev1.Pod) []corev1.PodResourceClaim {
	out := slices.Clone(pod.Spec.ResourceClaims)
	if extended := pod.Status.ExtendedResourceClaimStatus; extended != nil {
		out = append(out, corev1.PodResourceClaim{ResourceClaimName: &extended.ResourceClaimName})
	}
	return out
}

// enter notes that the pod uses the claims, before any driver is told, and returns by driver what is not prepared yet.
func (c *Claims) enter(pod types.UID, users []user) (map[string][]*dra.Claim, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	open := map[string][]*dra.Claim{}
	for _, u := range users {
		e := c.entries[u.key]
		if e == nil {
			e = &entry{uid: u.uid, pods: map[types.UID]bool{}, drivers: map[string][]Device{}}
			for _, name := range u.drivers {
				e.drivers[name] = nil
			}
			c.entries[u.key] = e
		}
		if e.uid != u.uid {
			return nil, fmt.Errorf("old ResourceClaim with same name %s and different UID %s still exists (previous pod force-deleted?!)", u.key.Name, e.uid)
		}
		e.pods[pod] = true
		if e.prepared {
			continue
		}
		for _, name := range u.drivers {
			open[name] = append(open[name], &dra.Claim{Namespace: u.key.Namespace, Name: u.key.Name, Uid: string(u.uid)})
		}
	}
	return open, c.saveLocked()
}

// prepare calls one driver for several claims. All must succeed.
func (c *Claims) prepare(ctx context.Context, name string, batch []*dra.Claim) (map[types.UID][]Device, error) {
	d, err := c.driver(name)
	if err != nil {
		return nil, err
	}
	answer, err := d.prepare(ctx, &dra.NodePrepareResourcesRequest{Claims: batch})
	if err != nil {
		return nil, fmt.Errorf("NodePrepareResources: %w", err)
	}
	out := map[types.UID][]Device{}
	for _, claim := range batch {
		result, ok := answer.GetClaims()[claim.GetUid()]
		switch {
		case !ok:
			return nil, fmt.Errorf("NodePrepareResources skipped ResourceClaim %s", claim.GetName())
		case result.GetError() != "":
			return nil, fmt.Errorf("NodePrepareResources failed for ResourceClaim %s: %s", claim.GetName(), result.GetError())
		}
		out[types.UID(claim.GetUid())] = devicesOf(result.GetDevices())
	}
	return out, nil
}

func devicesOf(list []*dra.Device) []Device {
	var out []Device
	for _, d := range list {
		out = append(out, Device{
			PoolName: d.GetPoolName(), DeviceName: d.GetDeviceName(), ShareID: (*types.UID)(d.ShareId),
			RequestNames: d.GetRequestNames(), CDIDeviceIDs: d.GetCdiDeviceIds(),
		})
	}
	return out
}

// Unprepare ends a pod's use of its claims; those that nobody else uses are unprepared. It is idempotent and needs nothing
// but the pod's uid, so that it also works for pods that no source knows any more.
func (c *Claims) Unprepare(ctx context.Context, pod types.UID) error {
	c.mu.Lock()
	var keys []types.NamespacedName
	for key, e := range c.entries {
		if e.pods[pod] {
			keys = append(keys, key)
		}
	}
	c.mu.Unlock()
	if len(keys) == 0 {
		return nil
	}
	defer c.hold(keys)()
	c.mu.Lock()
	var last []types.NamespacedName
	open := map[string][]*dra.Claim{}
	for _, key := range keys {
		e := c.entries[key]
		switch {
		case e == nil || !e.pods[pod]:
			continue
		case len(e.pods) > 1:
			delete(e.pods, pod)
			continue
		}
		last = append(last, key)
		for name := range e.drivers {
			open[name] = append(open[name], &dra.Claim{Namespace: key.Namespace, Name: key.Name, Uid: string(e.uid)})
		}
	}
	c.mu.Unlock()
	for name, batch := range open {
		if err := c.unprepare(ctx, name, batch); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range last {
		delete(c.entries, key)
	}
	return c.saveLocked()
}

func (c *Claims) unprepare(ctx context.Context, name string, batch []*dra.Claim) error {
	d, err := c.driver(name)
	if err != nil {
		return err
	}
	answer, err := d.unprepare(ctx, &dra.NodeUnprepareResourcesRequest{Claims: batch})
	if err != nil {
		return fmt.Errorf("NodeUnprepareResources: %w", err)
	}
	for _, claim := range batch {
		result, ok := answer.GetClaims()[claim.GetUid()]
		switch {
		case !ok:
			return fmt.Errorf("NodeUnprepareResources skipped ResourceClaim %s", claim.GetName())
		case result.GetError() != "":
			return fmt.Errorf("NodeUnprepareResources failed for ResourceClaim %s: %s", claim.GetName(), result.GetError())
		}
	}
	return nil
}

// Pods lists all pods that claims are noted for.
func (c *Claims) Pods() []types.UID {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := map[types.UID]bool{}
	var out []types.UID
	for _, e := range c.entries {
		for uid := range e.pods {
			if !seen[uid] {
				seen[uid] = true
				out = append(out, uid)
			}
		}
	}
	return out
}

// hold waits until nobody works on any of the claims and keeps others off until the returned function is called.
func (c *Claims) hold(keys []types.NamespacedName) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for slices.ContainsFunc(keys, func(key types.NamespacedName) bool { return c.busy[key] }) {
		c.freed.Wait()
	}
	for _, key := range keys {
		c.busy[key] = true
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, key := range keys {
			delete(c.busy, key)
		}
		c.freed.Broadcast()
	}
}

// errNotPrepared is returned for a claim that Prepare was not called for.
var errNotPrepared = errors.New("not prepared on this node")
