// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package pvbinder brings PersistentVolumeClaims and PersistentVolumes together, asks provisioners for volumes that are
// missing, and says what becomes of volumes whose claims are gone.
//
// A binding is two references and two annotations, written in this order, so that a crash at any point leaves something
// that the next look completes:
//
//	volume.spec.claimRef ─▶ volume.status.phase ─▶ claim.spec.volumeName, bind-completed ─▶ claim.status
package pvbinder

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/volumes"
)

// Indexes that the loop keeps.
const (
	volumesByClass = "pvbinder free volumes by class" // volumes without a claim; the value has a prefix, as a class may be empty
	volumesByClaim = "pvbinder volumes by claim"
	unboundClaims  = "pvbinder unbound claims by class"
	podsByClaim    = "pods by claim"
)

type controller struct {
	reconcile.Scope
	loop     *reconcile.Loop
	claims   *client.Informer[*corev1.PersistentVolumeClaim]
	volumes  *client.Informer[*corev1.PersistentVolume]
	classes  *client.Informer[*storagev1.StorageClass]
	pods     *client.Informer[*corev1.Pod]
	claimAPI client.Resource[*corev1.PersistentVolumeClaim]
	pvAPI    client.Resource[*corev1.PersistentVolume]
}

// New makes the loop. Its keys are those of claims and, without a namespace, of volumes.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope:    scope,
		claims:   client.InformerFor[*corev1.PersistentVolumeClaim](scope.Informers),
		volumes:  client.InformerFor[*corev1.PersistentVolume](scope.Informers),
		classes:  client.InformerFor[*storagev1.StorageClass](scope.Informers),
		pods:     client.InformerFor[*corev1.Pod](scope.Informers),
		claimAPI: client.Of[*corev1.PersistentVolumeClaim](scope.Client),
		pvAPI:    client.Of[*corev1.PersistentVolume](scope.Client),
	}
	c.volumes.AddIndex(volumesByClass, func(pv *corev1.PersistentVolume) []string {
		if pv.Spec.ClaimRef != nil {
			return nil
		}
		return []string{classKey(volumes.VolumeClass(pv))}
	})
	c.volumes.AddIndex(volumesByClaim, func(pv *corev1.PersistentVolume) []string {
		if pv.Spec.ClaimRef == nil {
			return nil
		}
		return []string{claimOf(pv).String()}
	})
	c.claims.AddIndex(unboundClaims, func(claim *corev1.PersistentVolumeClaim) []string {
		if metav1.HasAnnotation(claim.ObjectMeta, volumes.BindCompleted) {
			return nil
		}
		if !volumes.NamesClass(claim) {
			return []string{classKey(""), anyClass}
		}
		return []string{classKey(volumes.ClaimClass(claim))}
	})
	c.pods.AddIndex(podsByClaim, func(pod *corev1.Pod) []string {
		var names []string
		for _, key := range volumes.ClaimsOf(pod) {
			names = append(names, key.String())
		}
		return names
	})
	c.loop = reconcile.New(reconcile.Config{
		Name: "persistent-volume-binder", Log: scope.Log, Workers: 4, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	reconcile.On(c.loop, c.claims, c.wokenByClaim)
	reconcile.On(c.loop, c.volumes, c.wokenByVolume)
	reconcile.On(c.loop, c.classes, c.wokenByClass)
	return c.loop
}

// anyClass is the index value of claims that take whatever is the default.
const anyClass = "default"

func classKey(class string) string { return "class/" + class }

func claimOf(pv *corev1.PersistentVolume) reconcile.Key {
	return reconcile.Key{Namespace: pv.Spec.ClaimRef.Namespace, Name: pv.Spec.ClaimRef.Name}
}

func (c *controller) wokenByClaim(claim *corev1.PersistentVolumeClaim) []reconcile.Key {
	keys := []reconcile.Key{reconcile.KeyOf(claim)}
	if claim.Spec.VolumeName != "" {
		keys = append(keys, reconcile.Key{Name: claim.Spec.VolumeName})
	}
	for _, pv := range c.volumes.ByIndex(volumesByClaim, reconcile.KeyOf(claim).String()) {
		keys = append(keys, reconcile.KeyOf(pv))
	}
	return keys
}

// wokenByVolume also wakes the claims that could take a volume that became free.
func (c *controller) wokenByVolume(pv *corev1.PersistentVolume) []reconcile.Key {
	keys := []reconcile.Key{reconcile.KeyOf(pv)}
	if pv.Spec.ClaimRef != nil {
		return append(keys, claimOf(pv))
	}
	if pv.Status.Phase != corev1.VolumeAvailable {
		return keys
	}
	for _, claim := range c.claims.ByIndex(unboundClaims, classKey(volumes.VolumeClass(pv))) {
		keys = append(keys, reconcile.KeyOf(claim))
	}
	return keys
}

func (c *controller) wokenByClass(class *storagev1.StorageClass) []reconcile.Key {
	var keys []reconcile.Key
	for _, value := range []string{classKey(class.Name), anyClass} {
		for _, claim := range c.claims.ByIndex(unboundClaims, value) {
			keys = append(keys, reconcile.KeyOf(claim))
		}
	}
	return keys
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	if key.Namespace == "" {
		pv, ok := c.volumes.Get("", key.Name)
		if !ok {
			return nil
		}
		return client.IgnoreNotFound(c.volume(ctx, pv))
	}
	claim, ok := c.claims.Get(key.Namespace, key.Name)
	if !ok {
		return nil
	}
	if !metav1.HasAnnotation(claim.ObjectMeta, volumes.BindCompleted) {
		return client.IgnoreNotFound(c.unbound(ctx, claim))
	}
	return client.IgnoreNotFound(c.bound(ctx, claim))
}

// unbound looks for a volume for a claim that never had one.
func (c *controller) unbound(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	if claim.Spec.VolumeName != "" {
		return c.requested(ctx, claim)
	}
	class, err := c.class(ctx, volumes.ClaimClass(claim))
	if err != nil {
		return err
	}
	waits := volumes.Waits(class)
	candidates := c.volumes.ByIndex(volumesByClaim, reconcile.KeyOf(claim).String())
	candidates = append(candidates, c.volumes.ByIndex(volumesByClass, classKey(volumes.ClaimClass(claim)))...)
	if pv := (volumes.Search{Claim: claim, Reserved: waits}).Best(candidates); pv != nil {
		return c.bind(ctx, pv, claim)
	}
	if assigned, err := c.assignDefault(ctx, claim); assigned || err != nil {
		return err
	}
	switch {
	case waits && claim.Annotations[volumes.SelectedNode] == "":
		c.tellWaiting(claim)
	case volumes.ClaimClass(claim) != "":
		if err := c.provision(ctx, claim, class); err != nil {
			return err
		}
	default:
		c.Events.Event(claim, corev1.EventTypeNormal, "FailedBinding",
			"no persistent volumes available for this claim and no storage class is set")
	}
	_, err = c.claimStatus(ctx, claim, corev1.ClaimPending, nil)
	return err
}

// class returns a class, nil when there is none. What a view that lags does not show may say that its claims wait for a pod.
func (c *controller) class(ctx context.Context, name string) (*storagev1.StorageClass, error) {
	known, ok := c.classes.Get("", name)
	if ok || name == "" {
		return known, nil
	}
	asked, err := client.Of[*storagev1.StorageClass](c.Client).Get(ctx, "", name)
	return asked, client.IgnoreNotFound(err)
}

// requested binds a claim to the volume that it names.
func (c *controller) requested(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	pv, ok := c.volumes.Get("", claim.Spec.VolumeName)
	switch {
	case !ok:
	case pv.Spec.ClaimRef == nil:
		err := satisfies(pv, claim)
		if err == nil {
			return c.bind(ctx, pv, claim)
		}
		c.Events.Event(claim, corev1.EventTypeWarning, "VolumeMismatch", "Cannot bind to requested volume %q: %s", pv.Name, err)
	case volumes.IsFor(pv, claim):
		return c.bind(ctx, pv, claim)
	default:
		c.Events.Event(claim, corev1.EventTypeWarning, "FailedBinding", "volume %q already bound to a different claim.", pv.Name)
	}
	_, err := c.claimStatus(ctx, claim, corev1.ClaimPending, nil)
	return err
}

func satisfies(pv *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) error {
	if pv.DeletionTimestamp != nil {
		return fmt.Errorf("the volume is marked for deletion %q", pv.Name)
	}
	return volumes.Satisfies(pv, claim)
}

// bound checks that a claim still has its volume.
func (c *controller) bound(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	if claim.Spec.VolumeName == "" {
		return c.lose(ctx, claim, "ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
	}
	pv, ok := c.volumes.Get("", claim.Spec.VolumeName)
	if !ok && claim.Status.Phase != corev1.ClaimLost {
		// Losing a claim can't be undone: a view that lags must not cause it.
		var err error
		pv, err = c.pvAPI.Get(ctx, "", claim.Spec.VolumeName)
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		ok = err == nil
	}
	switch {
	case !ok:
		return c.lose(ctx, claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
	case pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID == claim.UID || volumes.IsFor(pv, claim):
		return c.bind(ctx, pv, claim)
	}
	return c.lose(ctx, claim, "ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
}

func (c *controller) lose(ctx context.Context, claim *corev1.PersistentVolumeClaim, reason, message string) error {
	changed, err := c.claimStatus(ctx, claim, corev1.ClaimLost, nil)
	if changed && err == nil && claim.Status.Phase != corev1.ClaimLost {
		c.Events.Event(claim, corev1.EventTypeWarning, reason, "%s", message)
	}
	return err
}

// tellWaiting says what a claim waits for whose class binds at the first use.
func (c *controller) tellWaiting(claim *corev1.PersistentVolumeClaim) {
	var names []string
	for _, pod := range c.pods.ByIndex(podsByClaim, reconcile.KeyOf(claim).String()) {
		if pod.Spec.NodeName == "" && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			names = append(names, pod.Name)
		}
	}
	switch len(names) {
	case 0:
		c.Events.Event(claim, corev1.EventTypeNormal, "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
	case 1:
		c.Events.Event(claim, corev1.EventTypeNormal, "WaitForPodScheduled", "waiting for pod %s to be scheduled", names[0])
	default:
		c.Events.Event(claim, corev1.EventTypeNormal, "WaitForPodScheduled", "waiting for pods %s to be scheduled", strings.Join(names, ","))
	}
}

// assignDefault gives a claim that named no class the default one, which may have been made later than the claim.
func (c *controller) assignDefault(ctx context.Context, claim *corev1.PersistentVolumeClaim) (bool, error) {
	if volumes.NamesClass(claim) {
		return false, nil
	}
	class := volumes.Default(c.classes.List(""))
	if class == nil {
		return false, nil
	}
	next := claim.DeepCopy()
	next.Spec.StorageClassName = &class.Name
	if _, err := c.claimAPI.Update(ctx, next); err != nil {
		return false, fmt.Errorf("give claim %s the default class: %w", reconcile.KeyOf(claim), err)
	}
	return true, nil
}
