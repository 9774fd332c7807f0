// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/client"
)

// Annotations of static pods and of the mirrors that show them in the API.
const (
	annotationMirror = "kubernetes.io/config.mirror"
	annotationHash   = "kubernetes.io/config.hash"
	annotationSource = "kubernetes.io/config.source"
	annotationSeen   = "kubernetes.io/config.seen"
)

func isMirror(p *corev1.Pod) bool {
	_, ok := p.Annotations[annotationMirror]
	return ok
}

// staticPods follows the manifest folder. Each manifest is one pod; a changed manifest is a new pod that starts once the old
// one is gone, because both have the same name.
type staticPods struct {
	k *Kubelet
	// ready is closed once the folder has been read for the first time.
	ready chan struct{}
	poke  chan struct{} // one slot: mirrors are to be checked

	mu sync.Mutex
	// wanted holds the manifests' pods by namespace and name; running those that have a worker.
	wanted  map[types.NamespacedName]*corev1.Pod
	running map[types.NamespacedName]types.UID
	mirrors map[types.NamespacedName]*corev1.Pod
}

func newStaticPods(k *Kubelet) *staticPods {
	return &staticPods{
		k: k, ready: make(chan struct{}), poke: make(chan struct{}, 1), wanted: map[types.NamespacedName]*corev1.Pod{},
		running: map[types.NamespacedName]types.UID{}, mirrors: map[types.NamespacedName]*corev1.Pod{},
	}
}

// settle is how long the folder must be quiet before it is read: editors write in several steps.
const settle = 50 * time.Millisecond

func (s *staticPods) run(ctx context.Context) error {
	dir := s.k.config.Settings.StaticPodPath
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch manifests: %w", err)
	}
	defer watcher.Close() //nolint:errcheck // only read
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make manifest folder: %w", err)
		}
	case err != nil:
		return fmt.Errorf("watch manifests: %w", err)
	case !info.IsDir():
		dir = filepath.Dir(dir) // a single manifest: watch its folder
	}
	if err := watcher.Add(dir); err != nil {
		return fmt.Errorf("watch manifests: %w", err)
	}
	s.read()
	close(s.ready)
	s.checkMirrors(ctx)
	var quiet, retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-watcher.Events:
			if !ok {
				return errors.New("watch of manifests ended")
			}
			quiet = time.After(settle)
		case err := <-watcher.Errors:
			s.k.log.Warn("watch of manifests lost events", "err", err)
			quiet = time.After(settle)
		case <-quiet:
			quiet = nil
			s.read()
			retry = s.checkMirrors(ctx)
		case <-s.poke:
			retry = s.checkMirrors(ctx)
		case <-retry:
			retry = s.checkMirrors(ctx)
		}
	}
}

// read makes the pods equal to the manifests.
func (s *staticPods) read() {
	path := s.k.config.Settings.StaticPodPath
	var files []string
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		files = []string{path}
	} else if entries, err := os.ReadDir(path); err == nil {
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), ".") {
				files = append(files, filepath.Join(path, e.Name()))
			}
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		s.k.log.Warn("manifest folder can't be read", "err", err)
		return
	}
	found := map[types.NamespacedName]*corev1.Pod{}
	for _, file := range files {
		p, err := s.load(file)
		if err != nil {
			s.k.log.Warn("manifest is not a pod", "file", file, "err", err)
			continue
		}
		if p == nil {
			continue
		}
		key := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
		if found[key] != nil {
			s.k.log.Warn("manifest repeats the name of another", "file", file, "object", key.String())
			continue
		}
		found[key] = p
	}
	s.apply(found)
}

// load reads one manifest; nil without error for something that is no regular file.
func (s *staticPods) load(file string) (*corev1.Pod, error) {
	info, err := os.Stat(file)
	if err != nil || !info.Mode().IsRegular() {
		return nil, nil //nolint:nilerr // it went away meanwhile
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	data, err = yaml.YAMLToJSON(data)
	if err != nil {
		return nil, err
	}
	p := &corev1.Pod{}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(p); err != nil {
		return nil, err
	}
	if p.Kind != "Pod" || p.APIVersion != "v1" {
		return nil, fmt.Errorf("kind %q of version %q, want Pod of v1", p.Kind, p.APIVersion)
	}
	if len(p.Spec.Containers) == 0 {
		return nil, errors.New("spec.containers: Required value")
	}
	sum := sha256.Sum256([]byte(s.k.config.NodeName + "\x00" + file + "\x00" + string(data)))
	hash := hex.EncodeToString(sum[:16])
	if p.UID == "" {
		p.UID = types.UID(hash)
	}
	if p.Name == "" {
		return nil, errors.New("metadata.name: Required value")
	}
	p.Name = strings.ToLower(p.Name + "-" + s.k.config.NodeName)
	if p.Namespace == "" {
		p.Namespace = corev1.NamespaceDefault
	}
	if problems := validation.IsDNS1123Subdomain(p.Name); len(problems) > 0 {
		return nil, fmt.Errorf("metadata.name %q: %s", p.Name, strings.Join(problems, "; "))
	}
	p.Spec.NodeName = s.k.config.NodeName
	if p.Annotations == nil {
		p.Annotations = map[string]string{}
	}
	p.Annotations[annotationHash], p.Annotations[annotationSource] = hash, "file"
	p.Annotations[annotationSeen] = time.Now().Format(time.RFC3339Nano)
	p.Status = corev1.PodStatus{Phase: corev1.PodPending}
	s.k.defaultPod(p)
	// A static pod tolerates what would evict it: nobody else could start it elsewhere.
	p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute})
	return p, nil
}

// apply starts and ends pods so that found is what runs.
func (s *staticPods) apply(found map[types.NamespacedName]*corev1.Pod) {
	s.mu.Lock()
	var ended []types.UID
	var begun []*corev1.Pod
	for key, uid := range s.running {
		if p := found[key]; p == nil || p.UID != uid {
			ended = append(ended, uid)
		}
	}
	for key, p := range found {
		if _, ok := s.running[key]; !ok {
			s.running[key] = p.UID
			begun = append(begun, p)
		}
	}
	s.wanted = found
	s.mu.Unlock()
	for _, uid := range ended {
		s.k.removePod(uid)
	}
	for _, p := range begun {
		s.k.setPod(p, true)
	}
}

// forgotten is told that a pod is over; the next one of its name may start.
func (s *staticPods) forgotten(p *corev1.Pod) {
	key := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
	s.mu.Lock()
	if s.running[key] != p.UID {
		s.mu.Unlock()
		return
	}
	delete(s.running, key)
	next := s.wanted[key]
	if next != nil {
		s.running[key] = next.UID
	}
	s.mu.Unlock()
	if next != nil {
		s.k.setPod(next, true)
	}
	s.kick()
}

func (s *staticPods) kick() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

func (s *staticPods) mirrorSeen(p *corev1.Pod) {
	key := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
	s.mu.Lock()
	old := s.mirrors[key]
	s.mirrors[key] = p
	uid := s.running[key]
	s.mu.Unlock()
	if old == nil || old.UID != p.UID || p.DeletionTimestamp != nil {
		s.kick()
		if w := s.k.worker(uid); w != nil {
			w.reporter.again()
			w.post(func() {}) // reports to the new object
		}
	}
}

func (s *staticPods) mirrorGone(p *corev1.Pod) {
	key := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
	s.mu.Lock()
	if m := s.mirrors[key]; m != nil && m.UID == p.UID {
		delete(s.mirrors, key)
	}
	s.mu.Unlock()
	s.kick()
}

// mirrorOf returns the API object that shows a static pod.
func (k *Kubelet) mirrorOf(p *corev1.Pod) (*corev1.Pod, bool) {
	k.statics.mu.Lock()
	defer k.statics.mu.Unlock()
	m := k.statics.mirrors[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}]
	return m, m != nil && m.DeletionTimestamp == nil && m.Annotations[annotationMirror] == p.Annotations[annotationHash]
}

// checkMirrors makes the mirrors that are missing and deletes those that show nothing. A failure is tried again later.
func (s *staticPods) checkMirrors(ctx context.Context) (retry <-chan time.Time) {
	if s.k.client == nil {
		return nil
	}
	select {
	case <-s.k.pods.Synced():
	default:
		return time.After(time.Second) // existing mirrors are not known yet
	}
	s.mu.Lock()
	var missing, stale []*corev1.Pod
	for key, p := range s.wanted {
		if m := s.mirrors[key]; m == nil {
			missing = append(missing, p)
		} else if m.Annotations[annotationMirror] != p.Annotations[annotationHash] || m.DeletionTimestamp != nil {
			stale = append(stale, m)
		}
	}
	for key, m := range s.mirrors {
		if _, alive := s.running[key]; !alive && s.wanted[key] == nil {
			stale = append(stale, m)
		}
	}
	s.mu.Unlock()
	pods := client.Of[*corev1.Pod](s.k.client)
	zero, ok := int64(0), true
	for _, m := range stale {
		err := pods.Delete(ctx, m.Namespace, m.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero, Preconditions: &metav1.Preconditions{UID: &m.UID}})
		ok = s.tolerate("delete mirror pod", err) && ok
	}
	for _, p := range missing {
		_, err := pods.Create(ctx, s.mirror(p))
		ok = s.tolerate("create mirror pod", err) && ok
	}
	if !ok {
		return time.After(5 * time.Second)
	}
	return nil
}

func (s *staticPods) tolerate(what string, err error) bool {
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return true
	}
	s.k.log.Warn(what, "err", err) //nolint:sloglint // one of two constants
	return false
}

func (s *staticPods) mirror(p *corev1.Pod) *corev1.Pod {
	m := p.DeepCopy()
	m.UID, m.ResourceVersion, m.Status = "", "", corev1.PodStatus{}
	m.Annotations[annotationMirror] = p.Annotations[annotationHash]
	if node := s.k.node(); node != nil {
		yes := true
		m.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID, Controller: &yes}}
	}
	return m
}
