// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds"
)

// Claim decides which objects an owner controls, as every controller that selects by labels does: an orphan that
// matches is adopted, an owned one that no longer matches is released. Adoption first makes sure, by a fresh read, that
// the owner is still the one that is thought of and is not being deleted.
type Claim[T kinds.Object] struct {
	// Owner and Kind are the controller's object.
	Owner kinds.Object
	Kind  schema.GroupVersionKind
	// Selector of the objects; nothing matches a nil one.
	Selector labels.Selector
	// Objects is the client of what is claimed.
	Objects client.Resource[T]
	// Fresh reads the owner anew.
	Fresh func(ctx context.Context) (kinds.Object, error)
	// Adoptable further narrows what may be adopted; nil means all.
	Adoptable func(T) bool

	checked bool
	refusal error
}

// All returns those of the candidates that the owner controls now.
func (c *Claim[T]) All(ctx context.Context, candidates []T) ([]T, error) {
	var owned []T
	var errs []error
	for _, obj := range candidates {
		mine, err := c.one(ctx, obj)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if mine {
			owned = append(owned, obj)
		}
	}
	return owned, errors.Join(errs...)
}

func (c *Claim[T]) one(ctx context.Context, obj T) (bool, error) {
	matches := c.Selector != nil && c.Selector.Matches(labels.Set(obj.GetLabels()))
	ref := metav1.GetControllerOf(obj)
	switch {
	case ref != nil && ref.UID != c.Owner.GetUID():
		return false, nil
	case ref != nil && matches:
		return true, nil
	case ref != nil:
		if c.Owner.GetDeletionTimestamp() != nil {
			return false, nil
		}
		return false, c.release(ctx, obj)
	case !matches || c.Owner.GetDeletionTimestamp() != nil || obj.GetDeletionTimestamp() != nil:
		return false, nil
	case c.Adoptable != nil && !c.Adoptable(obj):
		return false, nil
	}
	err := c.adopt(ctx, obj)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// mayAdopt reads the owner anew, once per Claim.
func (c *Claim[T]) mayAdopt(ctx context.Context) error {
	if c.checked {
		return c.refusal
	}
	c.checked = true
	fresh, err := c.Fresh(ctx)
	switch {
	case err != nil:
		c.refusal = fmt.Errorf("adopt for %s: %w", c.Owner.GetName(), err)
	case fresh.GetUID() != c.Owner.GetUID():
		c.refusal = fmt.Errorf("adopt for %s: it was replaced meanwhile", c.Owner.GetName())
	case fresh.GetDeletionTimestamp() != nil:
		c.refusal = fmt.Errorf("adopt for %s: it is being deleted", c.Owner.GetName())
	}
	return c.refusal
}

func (c *Claim[T]) adopt(ctx context.Context, obj T) error {
	if err := c.mayAdopt(ctx); err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":             obj.GetUID(),
		"ownerReferences": []metav1.OwnerReference{*metav1.NewControllerRef(c.Owner, c.Kind)},
	}})
	if err != nil {
		return err
	}
	_, err = c.Objects.Patch(ctx, obj.GetNamespace(), obj.GetName(), types.StrategicMergePatchType, patch)
	return err
}

func (c *Claim[T]) release(ctx context.Context, obj T) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":             obj.GetUID(),
		"ownerReferences": []map[string]any{{"$patch": "delete", "uid": c.Owner.GetUID()}},
	}})
	if err != nil {
		return err
	}
	_, err = c.Objects.Patch(ctx, obj.GetNamespace(), obj.GetName(), types.StrategicMergePatchType, patch)
	if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) {
		return nil // gone, or owned by somebody else by now
	}
	return err
}

// OwnedBy returns the objects of the informer that owner controls or that nobody controls, in the owner's namespace:
// the candidates of a Claim. It needs the index that IndexControllers adds.
func OwnedBy[T kinds.Object](f *client.Informer[T], owner metav1.Object) []T {
	owned := f.ByIndex(controllerIndex, string(owner.GetUID()))
	return append(slices.Clone(owned), f.ByIndex(controllerIndex, orphansOf+owner.GetNamespace())...)
}

// Controlled returns only the objects that owner controls.
func Controlled[T kinds.Object](f *client.Informer[T], owner metav1.Object) []T {
	return f.ByIndex(controllerIndex, string(owner.GetUID()))
}

const (
	controllerIndex = "controller-uid"
	orphansOf       = "orphans of "
)

// IndexControllers makes OwnedBy and Controlled answer for an informer.
func IndexControllers[T kinds.Object](f *client.Informer[T]) {
	f.AddIndex(controllerIndex, func(obj T) []string {
		if ref := metav1.GetControllerOf(obj); ref != nil {
			return []string{string(ref.UID)}
		}
		return []string{orphansOf + obj.GetNamespace()}
	})
}

const nodeIndex = "node"

// IndexNodes makes OnNode answer for an informer.
func IndexNodes(f *client.Informer[*corev1.Pod]) {
	f.AddIndex(nodeIndex, func(pod *corev1.Pod) []string { return []string{pod.Spec.NodeName} })
}

// OnNode returns the pods that were bound to a node, in no order.
func OnNode(f *client.Informer[*corev1.Pod], node string) []*corev1.Pod {
	return f.ByIndex(nodeIndex, node)
}
