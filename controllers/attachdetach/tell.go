// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package attachdetach

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
)

// tell writes what is attached into a node's status, and says so to the pods of what is new there.
func (c *controller) tell(ctx context.Context, node *corev1.Node, attached []corev1.AttachedVolume) error {
	if node == nil {
		return nil
	}
	byName := func(a, b corev1.AttachedVolume) int { return cmp.Compare(a.Name, b.Name) }
	slices.SortFunc(attached, byName)
	before := slices.Clone(node.Status.VolumesAttached)
	slices.SortFunc(before, byName)
	if slices.Equal(before, attached) {
		return nil
	}
	if attached == nil {
		attached = []corev1.AttachedVolume{}
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"volumesAttached": attached}})
	if err != nil {
		return err
	}
	if _, err := c.nodeAPI.Patch(ctx, "", node.Name, types.MergePatchType, patch, "status"); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("attached volumes of %s: %w", node.Name, err)
	}
	for _, w := range c.wishes(node.Name) {
		is := corev1.AttachedVolume{Name: uniqueName(w.pv.Spec.CSI)}
		if slices.Contains(attached, is) && !slices.Contains(before, is) {
			c.about(w, corev1.EventTypeNormal, "SuccessfulAttachVolume", "AttachVolume.Attach succeeded for volume %q ", w.pv.Name)
		}
	}
	return nil
}
