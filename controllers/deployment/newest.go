// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package deployment

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/dump"

	"kogge.dev/kogge/internal/equal"
)

// Annotations that carry a rollout's bookkeeping, on Deployments and ReplicaSets.
const (
	revisionAnnotation = "deployment.kubernetes.io/revision"
	historyAnnotation  = "deployment.kubernetes.io/revision-history"
	desiredAnnotation  = "deployment.kubernetes.io/desired-replicas"
	maxAnnotation      = "deployment.kubernetes.io/max-replicas"
)

// ownAnnotations are not copied from a Deployment to its ReplicaSets.
var ownAnnotations = map[string]bool{
	corev1.LastAppliedConfigAnnotation: true, revisionAnnotation: true, historyAnnotation: true, desiredAnnotation: true,
	maxAnnotation: true, appsv1.DeprecatedRollbackTo: true,
}

// sameTemplate compares templates apart from the hash label that the controller adds.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	x, y := a.DeepCopy(), b.DeepCopy()
	delete(x.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	delete(y.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	return equal.Semantic(x, y)
}

// templateHash names a template; the collision count tells apart templates that hash alike.
func templateHash(template *corev1.PodTemplateSpec, collisions *int32) string {
	h := fnv.New32a()
	_, _ = fmt.Fprint(h, dump.ForHash(template))
	if collisions != nil {
		_, _ = fmt.Fprint(h, *collisions)
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
}

// revisionOf reads a ReplicaSet's revision, 0 without one.
func revisionOf(obj metav1.Object) int64 {
	n, err := strconv.ParseInt(obj.GetAnnotations()[revisionAnnotation], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// nextRevision is one above every old ReplicaSet's.
func (r *rollout) nextRevision() int64 {
	highest := int64(0)
	for _, rs := range r.old {
		highest = max(highest, revisionOf(rs))
	}
	return highest + 1
}

// ensureNewest makes the ReplicaSet of the current template when there is none, and keeps its annotations right. In a namespace that goes
// away it makes none.
func (r *rollout) ensureNewest(ctx context.Context) error {
	if r.newest != nil {
		return r.annotateNewest(ctx)
	}
	hash := templateHash(&r.d.Spec.Template, r.d.Status.CollisionCount)
	rs := r.newSet(hash)
	rs.Spec.Replicas = new(int32)
	*rs.Spec.Replicas = r.newestTarget(rs)
	r.annotate(rs, r.nextRevision())
	r.annotateReplicas(rs)
	created, err := r.setAPI.Create(ctx, rs)
	switch {
	case apierrors.IsAlreadyExists(err):
		return r.collision(ctx, rs, err)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	case err != nil:
		message := fmt.Sprintf("Failed to create new replica set %q: %v", rs.Name, err)
		r.Events.Event(r.d, corev1.EventTypeWarning, failedCreateReason, "%s", message)
		if r.d.Spec.ProgressDeadlineSeconds != nil {
			setCondition(&r.d.Status, newCondition(appsv1.DeploymentProgressing, corev1.ConditionFalse, failedCreateReason, message))
			if _, updateErr := r.api.UpdateStatus(ctx, r.d); updateErr != nil {
				r.Log.Debug("status not written", "object", r.d.Name, "err", updateErr)
			}
		}
		return err
	}
	r.newest = created.DeepCopy()
	if *created.Spec.Replicas > 0 {
		r.Events.Event(r.d, corev1.EventTypeNormal, "ScalingReplicaSet", "Scaled up replica set %s from 0 to %d", created.Name, *created.Spec.Replicas)
	}
	if r.d.Spec.ProgressDeadlineSeconds != nil {
		setCondition(&r.d.Status, newCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue, newSetReason, fmt.Sprintf("Created new replica set %q", created.Name)))
	}
	return r.annotateDeployment(ctx)
}

func (r *rollout) newSet(hash string) *appsv1.ReplicaSet {
	template := *r.d.Spec.Template.DeepCopy()
	template.Labels = withLabel(template.Labels, hash)
	selector := r.d.Spec.Selector.DeepCopy()
	selector.MatchLabels = withLabel(selector.MatchLabels, hash)
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: r.d.Name + "-" + hash, Namespace: r.d.Namespace, Labels: maps.Clone(template.Labels),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(r.d, kindDeployment)},
		},
		Spec: appsv1.ReplicaSetSpec{MinReadySeconds: r.d.Spec.MinReadySeconds, Selector: selector, Template: template},
	}
}

func withLabel(labels map[string]string, hash string) map[string]string {
	out := maps.Clone(labels)
	if out == nil {
		out = map[string]string{}
	}
	out[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	return out
}

// collision handles a name that is taken: by our own earlier write, which the view has not shown yet, or by another
// template with the same hash, for which the collision count is raised.
func (r *rollout) collision(ctx context.Context, rs *appsv1.ReplicaSet, cause error) error {
	taken, err := r.setAPI.Get(ctx, rs.Namespace, rs.Name)
	if err != nil {
		return err
	}
	ref := metav1.GetControllerOf(taken)
	if ref != nil && ref.UID == r.d.UID && sameTemplate(&taken.Spec.Template, &r.d.Spec.Template) {
		r.newest = taken.DeepCopy()
		return r.annotateDeployment(ctx)
	}
	count := int32(1)
	if r.d.Status.CollisionCount != nil {
		count += *r.d.Status.CollisionCount
	}
	r.d.Status.CollisionCount = &count
	if _, err := r.api.UpdateStatus(ctx, r.d); err != nil {
		return err
	}
	return cause // try again under the next name
}

// annotate copies the Deployment's annotations to a ReplicaSet and raises its revision, and reports whether that changed anything.
func (r *rollout) annotate(rs *appsv1.ReplicaSet, revision int64) bool {
	before := maps.Clone(rs.Annotations)
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	for key, value := range r.d.Annotations {
		if !ownAnnotations[key] {
			rs.Annotations[key] = value
		}
	}
	if old := revisionOf(rs); old < revision {
		if old > 0 {
			history := rs.Annotations[historyAnnotation]
			if history != "" {
				history += ","
			}
			rs.Annotations[historyAnnotation] = trimHistory(history + strconv.FormatInt(old, 10))
		}
		rs.Annotations[revisionAnnotation] = strconv.FormatInt(revision, 10)
	}
	return !maps.Equal(before, rs.Annotations)
}

// annotateReplicas notes for how many replicas of the Deployment a ReplicaSet was sized. It is written only together
// with the size: a difference from spec.replicas is how a scaling is recognised.
func (r *rollout) annotateReplicas(rs *appsv1.ReplicaSet) {
	rs.Annotations[desiredAnnotation] = strconv.FormatInt(int64(*r.d.Spec.Replicas), 10)
	rs.Annotations[maxAnnotation] = strconv.FormatInt(int64(*r.d.Spec.Replicas+r.maxSurge()), 10)
}

// trimHistory bounds the text of past revisions, dropping the oldest.
func trimHistory(history string) string {
	const limit = 2000
	for len(history) > limit {
		_, rest, ok := strings.Cut(history, ",")
		if !ok {
			return ""
		}
		history = rest
	}
	return history
}

// annotateNewest brings the newest ReplicaSet's annotations and minReadySeconds up to date, then the Deployment's revision.
func (r *rollout) annotateNewest(ctx context.Context) error {
	if r.newest == nil {
		return nil
	}
	changed := r.annotate(r.newest, r.nextRevision())
	if r.newest.Spec.MinReadySeconds != r.d.Spec.MinReadySeconds {
		r.newest.Spec.MinReadySeconds, changed = r.d.Spec.MinReadySeconds, true
	}
	if changed {
		updated, err := r.setAPI.Update(ctx, r.newest)
		if err != nil {
			return err
		}
		r.newest = updated.DeepCopy()
	}
	if condition(r.d.Status.Conditions, appsv1.DeploymentProgressing) == nil && r.d.Spec.ProgressDeadlineSeconds != nil {
		setCondition(&r.d.Status, newCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue, foundSetReason,
			fmt.Sprintf("Found new replica set %q", r.newest.Name)))
	}
	return r.annotateDeployment(ctx)
}

// annotateDeployment copies the newest ReplicaSet's revision to the Deployment.
func (r *rollout) annotateDeployment(ctx context.Context) error {
	revision := r.newest.Annotations[revisionAnnotation]
	if r.d.Annotations[revisionAnnotation] == revision {
		return nil
	}
	status := r.d.Status
	if r.d.Annotations == nil {
		r.d.Annotations = map[string]string{}
	}
	r.d.Annotations[revisionAnnotation] = revision
	updated, err := r.api.UpdateStatus(ctx, r.d) // The generation counts what users change.
	if err != nil {
		return err
	}
	r.d = updated.DeepCopy()
	r.d.Status = status // what was decided in this reconcile is written with the status
	return nil
}

// annotatedReplicas reads one of the replica annotations.
func annotatedReplicas(rs *appsv1.ReplicaSet, annotation string) (int32, bool) {
	n, err := strconv.ParseInt(rs.Annotations[annotation], 10, 32)
	return int32(n), err == nil
}
