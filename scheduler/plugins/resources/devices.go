// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package resources

import "kogge.dev/kogge/scheduler/core"

// DevicesName is the name of the plugin.
const DevicesName = "DynamicResources"

// Devices keeps pods with resource claims pending: allocating devices is not built yet, and a pod that ran without the
// devices that it was promised would be worse.
type Devices struct{}

// Name implements core.Plugin.
func (Devices) Name() string { return DevicesName }

// Filter implements core.FilterPlugin.
func (Devices) Filter(_ *core.Snapshot, pod *core.Pod) (core.Filter, *core.Status) {
	if len(pod.Spec.ResourceClaims) == 0 {
		return nil, nil
	}
	return nil, core.RefuseForGood(DevicesName, "this scheduler does not allocate resource claims")
}

// Hints implements core.Waker: nothing helps.
func (Devices) Hints() []core.Hint { return nil }
