// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kubelet/cgroups"
	"kogge.dev/kogge/kubelet/devices"
	"kogge.dev/kogge/kubelet/devices/claims"
	"kogge.dev/kogge/kubelet/images"
	"kogge.dev/kogge/kubelet/objects"
	"kogge.dev/kogge/kubelet/pod"
	"kogge.dev/kogge/kubelet/render"
	"kogge.dev/kogge/kubelet/userns"
	"kogge.dev/kogge/kubelet/volumes"
	"kogge.dev/kogge/rules/podrefs"
)

// Kubelet runs the pods of one node.
type Kubelet struct {
	config  Config
	log     *slog.Logger
	client  *client.Client // nil for a node without API server
	hostIPs []string
	started time.Time

	runtime    *runtimeView
	puller     *images.Puller
	volumes    *volumes.Volumes
	cgroups    *cgroups.Tree
	machine    machine
	plugins    *plugins
	claims     *claims.Claims
	devices    *devices.Devices
	users      *userns.Ranges
	configMaps *objects.Cache[*corev1.ConfigMap]
	secrets    *objects.Cache[*corev1.Secret]
	statics    *staticPods

	informers *client.Informers
	pods      *client.Informer[*corev1.Pod]
	services  *client.Informer[*corev1.Service]
	nodes     *client.Informer[*corev1.Node]
	classes   *client.Informer[*nodev1.RuntimeClass]

	status *nodeStatus
	prober *prober
	rates  rates

	mu      sync.Mutex
	ctx     context.Context //nolint:containedctx // lent by run: workers begin when pods come
	workers map[types.UID]*worker
	wg      sync.WaitGroup
	// features are what the runtime's handlers can do, read at start.
	features map[string]*runtimeapi.RuntimeHandlerFeatures
}

func newKubelet(c Config) *Kubelet {
	k := &Kubelet{
		config: c, log: c.Logger, client: c.Client, started: time.Now(), runtime: newRuntimeView(c.Runtime, c.Logger),
		workers: map[types.UID]*worker{}, features: map[string]*runtimeapi.RuntimeHandlerFeatures{},
	}
	for _, ip := range c.NodeIPs {
		k.hostIPs = append(k.hostIPs, ip.String())
	}
	parallel := 1
	if s := c.Settings; !*s.SerializeImagePulls {
		parallel = 16
		if s.MaxParallelImagePulls != nil {
			parallel = int(*s.MaxParallelImagePulls)
		}
	}
	k.puller = images.NewPuller(c.Runtime.Images, parallel, images.Verification{
		Policy: c.Settings.ImagePullCredentialsVerificationPolicy, Allowed: c.Settings.PreloadedImagesVerificationAllowlist,
		Dir: filepath.Join(c.Root, "image_manager"),
	})
	k.machine = readMachine()
	k.cgroups = cgroups.New(cgroups.Config{
		Root: c.CgroupRoot, Mount: c.CgroupMount, Off: !*c.Settings.CgroupsPerQOS, CPU: k.allocatableCPU(), Pids: *c.Settings.PodPidsLimit,
		Quota: *c.Settings.CPUCFSQuota, Period: c.Settings.CPUCFSQuotaPeriod.Microseconds(),
	})
	k.plugins = newPlugins(k)
	users := userns.Config{Pods: filepath.Join(c.Root, "pods"), Most: int(k.maxPods())}
	if u := c.Settings.UserNamespaces; u != nil && u.IDsPerPod != nil {
		users.Length = *u.IDsPerPod
	}
	k.users = userns.New(users)
	k.claims = k.newClaims()
	k.devices = devices.New(devices.Config{Root: c.Root, Resized: func() { k.status.poke() }, Changed: k.devicesChanged, Logger: c.Logger})
	k.statics = newStaticPods(k)
	k.prober = &prober{k: k}
	if k.client != nil {
		k.follow()
	}
	k.volumes = volumes.New(volumes.Config{
		Root: c.Root, NodeName: c.NodeName, Client: c.Client, ConfigMap: k.configMap, Secret: k.secret, Token: k.token(), Facts: k.facts,
		Driver: k.plugins.driver, MemoryCapacity: int64(k.machine.memory), Logger: c.Logger, Announce: k.announce, Released: k.volumeReleased,
	})
	k.status = newNodeStatus(k)
	return k
}

// follow prepares what is read from the API server.
func (k *Kubelet) follow() {
	k.informers = client.NewInformers(k.client, k.log)
	k.pods = client.InformerFor[*corev1.Pod](k.informers, client.Selection{FieldSelector: "spec.nodeName=" + k.config.NodeName})
	k.services = client.InformerFor[*corev1.Service](k.informers)
	k.nodes = client.InformerFor[*corev1.Node](k.informers, client.Selection{FieldSelector: "metadata.name=" + k.config.NodeName})
	k.classes = client.InformerFor[*nodev1.RuntimeClass](k.informers)
	changed := func(_, _ string, owners []types.UID) {
		for _, uid := range owners {
			k.objectChanged(uid)
		}
	}
	k.configMaps = objects.New(client.Of[*corev1.ConfigMap](k.client), k.log, changed, func(o *corev1.ConfigMap) bool { return o.Immutable != nil && *o.Immutable })
	k.secrets = objects.New(client.Of[*corev1.Secret](k.client), k.log, changed, func(o *corev1.Secret) bool { return o.Immutable != nil && *o.Immutable })
}

func (k *Kubelet) run(ctx context.Context) error {
	if err := k.config.ensureDirs(); err != nil {
		return err
	}
	if err := k.cgroups.Setup(); err != nil {
		return err
	}
	if err := k.askRuntime(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k.mu.Lock()
	k.ctx = ctx
	k.mu.Unlock()
	failed := make(chan error, 1) // the first failure ends the kubelet; later ones are its echo
	spawn := func(name string, f func(context.Context) error) {
		k.wg.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				select {
				case failed <- fmt.Errorf("%s: %w", name, err):
				default:
				}
			}
		})
	}
	quiet := func(f func(context.Context)) func(context.Context) error {
		return func(ctx context.Context) error { f(ctx); return nil }
	}
	if err := errors.Join(k.claims.Load(ctx), k.users.Load()); err != nil {
		return err
	}
	if err := k.devices.Load(ctx); err != nil {
		return err
	}
	spawn("resource claims", quiet(k.claims.Run))
	spawn("device plugins", k.devices.Run)
	spawn("pod resources", k.servePodResources)
	spawn("static pods", k.statics.run)
	spawn("plugin registration", k.plugins.run)
	if k.client != nil {
		spawn("informers", k.informers.Run)
		spawn("config maps", quiet(k.configMaps.Run))
		spawn("secrets", quiet(k.secrets.Run))
		spawn("node status", quiet(k.status.run))
		spawn("node lease", quiet(k.renewLease))
	}
	spawn("pods", quiet(k.followPods))
	spawn("container events", quiet(func(ctx context.Context) { k.runtime.follow(ctx, k.runtimeChanged, k.relist) }))
	spawn("image garbage collection", quiet(k.collectImages))
	spawn("log rotation", quiet(k.rotateLogs))
	spawn("eviction", quiet(k.watchPressure))
	if k.config.ServerTLS != nil {
		spawn("health check", k.serveHealth)
		if *k.config.Settings.EnableServer {
			spawn("server", k.serve)
		}
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	cancel()
	k.wg.Wait()
	return err
}

// askRuntime learns the runtime's name and handlers.
func (k *Kubelet) askRuntime(ctx context.Context) error {
	v, err := k.config.Runtime.Containers.Version(ctx, &runtimeapi.VersionRequest{})
	if err != nil {
		return fmt.Errorf("ask container runtime: %w", err)
	}
	k.runtime.name = v.GetRuntimeName()
	k.status.runtimeVersion = v.GetRuntimeName() + "://" + v.GetRuntimeVersion()
	s, err := k.config.Runtime.Containers.Status(ctx, &runtimeapi.StatusRequest{})
	if err != nil {
		return fmt.Errorf("ask container runtime: %w", err)
	}
	for _, h := range s.GetRuntimeHandlers() {
		k.features[h.GetName()] = h.GetFeatures()
	}
	return nil
}

// followPods hands pods of the API server to workers, then cleans up what no source knows.
func (k *Kubelet) followPods(ctx context.Context) {
	if k.client != nil {
		for _, synced := range []<-chan struct{}{k.services.Synced(), k.nodes.Synced()} {
			select {
			case <-synced:
			case <-ctx.Done():
				return
			}
		}
		k.pods.Handle(client.Handler[*corev1.Pod]{
			Add:    k.apiUpdate,
			Update: func(_, p *corev1.Pod) { k.apiUpdate(p) },
			Delete: k.apiDelete,
		})
		k.nodes.Handle(client.Handler[*corev1.Node]{Update: k.nodeUpdated})
		select {
		case <-k.pods.Synced():
		case <-ctx.Done():
			return
		}
	}
	select {
	case <-k.statics.ready:
	case <-ctx.Done():
		return
	}
	for ctx.Err() == nil {
		err := k.adoptOrphans(ctx)
		if err == nil {
			return
		}
		k.log.Warn("orphaned pods can't be listed", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
	}
}

func (k *Kubelet) apiUpdate(p *corev1.Pod) {
	if isMirror(p) {
		k.statics.mirrorSeen(p)
		return
	}
	k.setPod(p, false)
}

func (k *Kubelet) apiDelete(p *corev1.Pod) {
	if isMirror(p) {
		k.statics.mirrorGone(p)
		return
	}
	if w := k.worker(p.UID); w != nil && p.DeletionTimestamp != nil {
		w.post(func() { w.machine.SetPod(p) }) // its grace may have been shortened by the deletion that removed it
	}
	k.removePod(p.UID)
}

// setPod gives a pod to its worker, which is started for a new one.
func (k *Kubelet) setPod(p *corev1.Pod, static bool) {
	k.mu.Lock()
	if k.ctx == nil || k.ctx.Err() != nil {
		k.mu.Unlock()
		return
	}
	w := k.workers[p.UID]
	if w != nil {
		k.mu.Unlock()
		w.update(p)
		return
	}
	if !static && isFinished(p) && p.DeletionTimestamp == nil && k.started.Before(time.Now()) && !k.podDirExists(p.UID) {
		// Over long ago, and nothing of it is left here: no worker until it is deleted.
		k.mu.Unlock()
		return
	}
	w = k.newWorker(k.ctx, p, static)
	k.workers[p.UID] = w
	reject := k.admitLocked(w, p)
	k.mu.Unlock()
	k.holdObjects(p)
	if reject != nil {
		w.event(p, "", corev1.EventTypeWarning, reject.Reason, reject.Message)
		w.machine.Terminate(*reject)
	}
	k.startWorker(w)
}

func (k *Kubelet) startWorker(w *worker) {
	k.mu.Lock()
	defer k.mu.Unlock()
	ctx := k.ctx
	k.wg.Go(func() { w.run(ctx) })
}

func (k *Kubelet) podDirExists(uid types.UID) bool {
	_, err := os.Stat(k.podDir(uid))
	return err == nil
}

// update gives the worker a newer version of its pod.
func (w *worker) update(p *corev1.Pod) {
	w.k.holdObjects(p)
	w.post(func() {
		old := w.machine.Pod()
		if old.ResourceVersion == p.ResourceVersion && p.ResourceVersion != "" {
			return
		}
		w.machine.SetPod(w.k.allocate(w, old, p))
		if downwardChanged(old, p) {
			w.refresh = time.Now()
		}
	})
}

func (k *Kubelet) removePod(uid types.UID) {
	if w := k.worker(uid); w != nil {
		w.reporter.mu.Lock()
		w.reporter.gone = true
		w.reporter.mu.Unlock()
		w.post(func() { w.machine.Remove() })
	}
}

func (k *Kubelet) worker(uid types.UID) *worker {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.workers[uid]
}

// all returns the workers as they are now.
func (k *Kubelet) all() []*worker {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]*worker, 0, len(k.workers))
	for _, w := range k.workers {
		out = append(out, w)
	}
	return out
}

// forget ends a worker whose pod is over.
func (k *Kubelet) forget(w *worker, p *corev1.Pod) {
	if err := k.removePodFiles(p); err != nil {
		w.log.Warn("files of a removed pod remain", "err", err)
	}
	k.releaseObjects(w.uid)
	k.volumes.Forget(w.uid)
	k.prober.metrics.forget(string(w.uid))
	k.mu.Lock()
	delete(k.workers, w.uid)
	k.mu.Unlock()
	k.statics.forgotten(p)
	k.podsChanged()
}

// runtimeChanged is told that something of a pod changed in the runtime.
func (k *Kubelet) runtimeChanged(uid types.UID) {
	if w := k.worker(uid); w != nil {
		w.markDirty()
	}
}

// relist makes every worker look at the runtime again.
func (k *Kubelet) relist() {
	for _, w := range k.all() {
		w.markDirty()
	}
}

// objectChanged is told that an object changed that a pod refers to.
func (k *Kubelet) objectChanged(uid types.UID) {
	if w := k.worker(uid); w != nil {
		w.post(func() {
			w.machine.Retry()
			if w.machine.Stage() == pod.Syncing {
				w.refresh = time.Now()
			}
		})
	}
}

// podsChanged is told that a pod took or gave back resources of the node.
func (k *Kubelet) podsChanged() {
	for _, w := range k.all() {
		w.post(func() { w.reconsiderResize() })
	}
}

// holdObjects follows the config maps and secrets that a pod refers to.
func (k *Kubelet) holdObjects(p *corev1.Pod) {
	if k.client == nil || isFinished(p) {
		return
	}
	k.configMaps.Hold(p.UID, p.Namespace, podrefs.Of(p, podrefs.ConfigMaps))
	k.secrets.Hold(p.UID, p.Namespace, podrefs.Of(p, podrefs.Secrets))
}

func (k *Kubelet) releaseObjects(uid types.UID) {
	if k.client != nil {
		k.configMaps.Release(uid)
		k.secrets.Release(uid)
	}
}

func isFinished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func (k *Kubelet) configMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	if k.client == nil {
		return nil, fmt.Errorf("no API server to read config map %s/%s from", namespace, name)
	}
	return k.configMaps.Get(ctx, namespace, name)
}

func (k *Kubelet) secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	if k.client == nil {
		return nil, fmt.Errorf("no API server to read secret %s/%s from", namespace, name)
	}
	return k.secrets.Get(ctx, namespace, name)
}

func (k *Kubelet) token() func(context.Context, string, string, *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	if k.client == nil {
		return nil
	}
	accounts := client.Of[*corev1.ServiceAccount](k.client)
	return func(ctx context.Context, namespace, account string, r *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
		answer, err := accounts.Post(ctx, namespace, account, "token", r)
		if err != nil {
			return nil, err
		}
		t, ok := answer.(*authenticationv1.TokenRequest)
		if !ok {
			return nil, fmt.Errorf("token request answered by a %T", answer)
		}
		return t, nil
	}
}

// facts are what the downward API tells of a pod now.
func (k *Kubelet) facts(p *corev1.Pod) render.Facts {
	f := render.Facts{NodeName: k.config.NodeName, HostIPs: k.hostIPs, Allocatable: k.allocatable()}
	if w := k.worker(p.UID); w != nil {
		for _, ip := range w.view.Load().status.PodIPs {
			f.PodIPs = append(f.PodIPs, ip.IP)
		}
	}
	return f
}
