// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package userns gives each pod with a user namespace of its own (hostUsers: false, KEP-127) a range of the node's user and group
// ids that no other pod has. A pod's range lies in its folder, in upstream's format, so that it survives the kubelet.
package userns

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// DefaultLength is how many ids a pod gets: all of 16 bits.
const DefaultLength = 65536

// fileName is where a pod's range lies in its folder.
const fileName = "userns"

// Config of a node's ranges.
type Config struct {
	// Pods is the folder that has one folder per pod, by uid.
	Pods string
	// Length of a range, a multiple of 65536; DefaultLength if zero.
	Length int64
	// Most is how many pods there may be at a time.
	Most int
}

// Ranges knows which ids are whose. The first range begins at Length: the ids below are the node's own. It is safe for concurrent use.
type Ranges struct {
	config Config

	mu   sync.Mutex
	used map[types.UID]uint32 // number of the pod's range, from 1
}

// New makes it; Load follows.
func New(config Config) *Ranges {
	if config.Length == 0 {
		config.Length = DefaultLength
	}
	return &Ranges{config: config, used: map[types.UID]uint32{}}
}

// mappings is the file's format.
type mappings struct {
	UIDs []mapping `json:"uidMappings"`
	GIDs []mapping `json:"gidMappings"`
}

type mapping struct {
	Host      uint32 `json:"hostId"`
	Container uint32 `json:"containerId"`
	Length    uint32 `json:"length"`
}

// Load reads the ranges of all pods that have one. A file that can't be understood is an error: its ids may be in use.
func (r *Ranges) Load() error {
	files, err := filepath.Glob(filepath.Join(r.config.Pods, "*", fileName))
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read user namespace: %w", err)
		}
		var m mappings
		if err := json.Unmarshal(data, &m); err != nil {
			return fmt.Errorf("read user namespace %s: %w", file, err)
		}
		if len(m.UIDs) != 1 || len(m.GIDs) != 1 || m.UIDs[0] != m.GIDs[0] || int64(m.UIDs[0].Length) != r.config.Length ||
			int64(m.UIDs[0].Host)%r.config.Length != 0 {
			return fmt.Errorf("read user namespace %s: ids are not one range of %d; was userNamespaces.idsPerPod changed while pods run?", file, r.config.Length)
		}
		r.used[types.UID(filepath.Base(filepath.Dir(file)))] = uint32(int64(m.UIDs[0].Host) / r.config.Length)
	}
	return nil
}

// Of returns a pod's range, and takes one if it has none. The pod's folder must exist.
func (r *Ranges) Of(pod types.UID) (*runtimeapi.UserNamespace, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, ok := r.used[pod]
	if !ok {
		var err error
		if n, err = r.freeLocked(); err != nil {
			return nil, err
		}
		if err := r.write(pod, n); err != nil {
			return nil, err
		}
		r.used[pod] = n
	}
	one := &runtimeapi.IDMapping{HostId: n * uint32(r.config.Length), Length: uint32(r.config.Length)}
	return &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_POD, Uids: []*runtimeapi.IDMapping{one}, Gids: []*runtimeapi.IDMapping{one}}, nil
}

func (r *Ranges) freeLocked() (uint32, error) {
	taken := map[uint32]bool{}
	for _, n := range r.used {
		taken[n] = true
	}
	for n := uint32(1); int(n) <= r.config.Most && (int64(n)+1)*r.config.Length <= 1<<32; n++ {
		if !taken[n] {
			return n, nil
		}
	}
	return 0, errors.New("no range of ids is free for a user namespace")
}

func (r *Ranges) write(pod types.UID, n uint32) error {
	one := []mapping{{Host: n * uint32(r.config.Length), Length: uint32(r.config.Length)}}
	data, err := json.Marshal(mappings{UIDs: one, GIDs: one})
	if err != nil {
		return err
	}
	path := filepath.Join(r.config.Pods, string(pod), fileName)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return fmt.Errorf("write user namespace: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write user namespace: %w", err)
	}
	return nil
}

// Free gives a pod's range back. None of its processes may be left.
func (r *Ranges) Free(pod types.UID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.used[pod]; !ok {
		return nil
	}
	if err := os.Remove(filepath.Join(r.config.Pods, string(pod), fileName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("free user namespace: %w", err)
	}
	delete(r.used, pod)
	return nil
}
