// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/kubelet/devices/checkpoint"
)

// entry is one claim that drivers were told of, or are about to be.
type entry struct {
	uid  types.UID
	pods map[types.UID]bool
	// drivers has an entry for every driver of the allocation, also for those that add no device.
	drivers map[string][]Device
	// prepared is set once all drivers have answered in this kubelet's life; after a restart they are asked again.
	prepared bool
}

// Device is an allocated device as its driver described it.
type Device struct {
	PoolName   string
	DeviceName string
	ShareID    *types.UID
	// RequestNames are the requests that the device is for; none means all.
	RequestNames []string
	CDIDeviceIDs []string
}

// checkpointFile is upstream's name for it.
const checkpointFile = "dra_manager_state"

// The checkpoint's format is upstream's; its field names are part of it.
type (
	checkpointData struct {
		metav1.TypeMeta
		ClaimInfoStateList []claimState
	}
	claimState struct {
		ClaimUID    types.UID
		ClaimName   string
		Namespace   string
		PodUIDs     map[types.UID]struct{}
		DriverState map[string]driverState
	}
	driverState struct{ Devices []Device }
)

// Load reads the checkpoint. A broken one is an error: it names devices that may be in use.
// Drivers may register from now on, until ctx ends.
func (c *Claims) Load(ctx context.Context) error {
	c.mu.Lock()
	c.ctx = ctx
	c.mu.Unlock()
	var data checkpointData
	if err := checkpoint.Load(filepath.Join(c.config.Dir, checkpointFile), &data); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range data.ClaimInfoStateList {
		e := &entry{uid: s.ClaimUID, pods: map[types.UID]bool{}, drivers: map[string][]Device{}}
		for uid := range s.PodUIDs {
			e.pods[uid] = true
		}
		for name, d := range s.DriverState {
			e.drivers[name] = d.Devices
		}
		c.entries[types.NamespacedName{Namespace: s.Namespace, Name: s.ClaimName}] = e
	}
	return nil
}

// saveLocked writes the checkpoint.
func (c *Claims) saveLocked() error {
	data := checkpointData{TypeMeta: metav1.TypeMeta{Kind: "DRACheckpoint", APIVersion: "checkpoint.dra.kubelet.k8s.io/v1"}}
	for key, e := range c.entries {
		s := claimState{
			ClaimUID: e.uid, ClaimName: key.Name, Namespace: key.Namespace, PodUIDs: map[types.UID]struct{}{}, DriverState: map[string]driverState{},
		}
		for uid := range e.pods {
			s.PodUIDs[uid] = struct{}{}
		}
		for name, devices := range e.drivers {
			s.DriverState[name] = driverState{Devices: devices}
		}
		data.ClaimInfoStateList = append(data.ClaimInfoStateList, s)
	}
	return checkpoint.Save(filepath.Join(c.config.Dir, checkpointFile), data)
}
