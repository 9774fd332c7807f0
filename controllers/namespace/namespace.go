// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package namespace empties namespaces that are being deleted: pods first, since other objects guard them, then everything else,
// and says in the namespace's conditions what still stands in the way.
package namespace

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/internal/equal"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/reconcile"
)

// lookAgain is how soon a namespace with content that is going away is looked at once more. Nothing tells when the last
// object of every kind is gone, so this is a sampling, only while a namespace terminates.
const lookAgain = 500 * time.Millisecond

type controller struct {
	reconcile.Scope
	namespaces *client.Informer[*corev1.Namespace]
	crds       *client.Informer[*apiextensionsv1.CustomResourceDefinition]
	services   *client.Informer[*apiregistrationv1.APIService]
	api        client.Resource[*corev1.Namespace]
}

// New makes the loop.
func New(scope reconcile.Scope) *reconcile.Loop {
	c := &controller{
		Scope: scope, namespaces: client.InformerFor[*corev1.Namespace](scope.Informers),
		crds:     reconcile.Definitions(scope.Informers),
		services: reconcile.APIServices(scope.Informers),
		api:      client.Of[*corev1.Namespace](scope.Client),
	}
	loop := reconcile.New(reconcile.Config{
		Name: "namespace-controller", Log: scope.Log, Workers: 10, Informers: scope.Informers, Reconcile: c.reconcile,
	})
	reconcile.Self(loop, c.namespaces)
	c.services.Handle(client.Handler[*apiregistrationv1.APIService]{
		Update: func(_, svc *apiregistrationv1.APIService) { c.wake(loop, svc) },
		Delete: func(svc *apiregistrationv1.APIService) { c.wake(loop, svc) },
	})
	return loop
}

// wake looks again at the namespaces that may wait for another server.
func (c *controller) wake(loop *reconcile.Loop, svc *apiregistrationv1.APIService) {
	if svc.Spec.Service == nil {
		return
	}
	for ns := range c.namespaces.All() {
		if ns.DeletionTimestamp != nil {
			loop.Enqueue(reconcile.KeyOf(ns))
		}
	}
}

func (c *controller) reconcile(ctx context.Context, key reconcile.Key) error {
	known, ok := c.namespaces.Get("", key.Name)
	if !ok || known.DeletionTimestamp == nil {
		return nil
	}
	ns, err := c.api.Get(ctx, "", key.Name)
	if apierrors.IsNotFound(err) || (err == nil && ns.UID != known.UID) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(ns.Spec.Finalizers) == 0 {
		return nil
	}
	views := c.views()
	rest := c.empty(ctx, ns)
	if err := c.report(ctx, ns, rest); err != nil {
		return err
	}
	switch {
	case rest.err != nil:
		return rest.err
	case len(rest.undiscovered) > 0:
		return errors.New(rest.discoveryFailure())
	case rest.total() > 0:
		return reconcile.After(max(lookAgain, rest.grace))
	}
	late, err := c.late(ctx)
	if err != nil {
		return err
	}
	if late || c.views() != views {
		return reconcile.After(lookAgain)
	}
	return c.finalize(ctx, ns)
}

// views tells the states of the views apart by which it was decided what may be in a namespace.
func (c *controller) views() [2]string {
	return [2]string{c.crds.ResourceVersion(), c.services.ResourceVersion()}
}

// late reports whether the views lack definitions, or other servers, of which there may be objects.
func (c *controller) late(ctx context.Context) (bool, error) {
	definitions, err := differs(ctx, c.crds, client.Of[*apiextensionsv1.CustomResourceDefinition](c.Client))
	if definitions || err != nil {
		return definitions, err
	}
	return differs(ctx, c.services, client.Of[*apiregistrationv1.APIService](c.Client))
}

// differs reports whether a view lacks what there is now.
func differs[T kinds.Object](ctx context.Context, view *client.Informer[T], api client.Resource[T]) (bool, error) {
	now, err := client.MetadataOf(api).List(ctx, "", metav1.ListOptions{})
	if err != nil {
		return false, fmt.Errorf("list %s: %w", api.GVR().Resource, err)
	}
	return slices.ContainsFunc(now.Items, func(obj *metav1.PartialObjectMetadata) bool {
		known, ok := view.Get(obj.Namespace, obj.Name)
		return !ok || known.GetResourceVersion() != obj.ResourceVersion
	}), nil
}

// remainder is what is left in a namespace after one pass.
type remainder struct {
	// objects counts what is left by resource, finalizers by finalizer.
	objects    map[schema.GroupVersionResource]int
	finalizers map[string]int
	grace      time.Duration
	// undiscovered says of each group-version of another server that did not tell what it serves why not.
	undiscovered []string
	err          error
}

func (r *remainder) discoveryFailure() string {
	return fmt.Sprintf("Discovery failed for some groups, %d failing: unable to retrieve the complete list of server APIs: %s",
		len(r.undiscovered), strings.Join(r.undiscovered, ", "))
}

func (r *remainder) total() int {
	n := 0
	for _, count := range r.objects {
		n += count
	}
	return n
}

// empty deletes everything once and counts what is left.
func (c *controller) empty(ctx context.Context, ns *corev1.Namespace) *remainder {
	r := &remainder{objects: map[schema.GroupVersionResource]int{}, finalizers: map[string]int{}}
	var errs []error
	all := c.resources()
	remote, undiscovered := c.remoteResources(ctx)
	all, r.undiscovered = append(all, remote...), undiscovered
	pods := all[0]
	errs = append(errs, c.clear(ctx, ns.Name, pods, r))
	if r.total() > 0 {
		// Pods may need their secrets, leases or volumes to finish: everything else waits for them.
		r.grace = c.podGrace(ctx, ns.Name)
		r.err = errors.Join(errs...)
		return r
	}
	for _, resource := range all[1:] {
		errs = append(errs, c.clear(ctx, ns.Name, resource, r))
	}
	r.err = errors.Join(errs...)
	return r
}

// resources lists every namespaced resource that can be deleted, pods first.
func (c *controller) resources() []client.Resource[kinds.Object] {
	var out []client.Resource[kinds.Object]
	for _, kind := range c.Client.Catalog().All() {
		if !kind.Namespaced || !kind.Allows("delete") || !kind.Allows("list") {
			continue
		}
		api := client.Any(c.Client, kind)
		if kind.Resource == "pods" && kind.Served[0].Group == "" {
			out = slices.Insert(out, 0, api)
			continue
		}
		out = append(out, api)
	}
	for crd := range c.crds.All() {
		if crd.Spec.Scope != apiextensionsv1.NamespaceScoped {
			continue
		}
		if version := reconcile.ServedVersion(crd, ""); version != "" {
			gvr := schema.GroupVersionResource{Group: crd.Spec.Group, Version: version, Resource: crd.Spec.Names.Plural}
			out = append(out, client.At[kinds.Object](c.Client, gvr, func() kinds.Object { return &unstructured.Unstructured{} }))
		}
	}
	return out
}

// remoteResources lists what other servers serve, each resource at one version, and those that do not answer: what they have in a
// namespace can't be known.
func (c *controller) remoteResources(ctx context.Context) (out []client.Resource[kinds.Object], undiscovered []string) {
	seen := map[schema.GroupResource]bool{}
	for svc := range c.services.All() {
		if svc.Spec.Service == nil {
			continue
		}
		gv := schema.GroupVersion{Group: svc.Spec.Group, Version: svc.Spec.Version}
		resources, err := reconcile.Offered(ctx, c.Client, gv, "list", "delete")
		if err != nil {
			undiscovered = append(undiscovered, fmt.Sprintf("%s: %v", gv, err))
			continue
		}
		for _, r := range resources {
			gr := schema.GroupResource{Group: gv.Group, Resource: r.Name}
			if !r.Namespaced || seen[gr] {
				continue
			}
			seen[gr] = true
			out = append(out, client.At[kinds.Object](c.Client, gv.WithResource(r.Name), func() kinds.Object { return &unstructured.Unstructured{} }))
		}
	}
	slices.Sort(undiscovered)
	return out, undiscovered
}

// clear deletes all objects of one resource and counts those that are left.
func (c *controller) clear(ctx context.Context, namespace string, api client.Resource[kinds.Object], r *remainder) error {
	list, err := api.List(ctx, namespace, metav1.ListOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
		return nil // a definition that is going away itself
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", api.GVR().Resource, err)
	}
	if len(list.Items) == 0 {
		return nil
	}
	background := metav1.DeletePropagationBackground
	err = api.DeleteCollection(ctx, namespace, metav1.DeleteOptions{PropagationPolicy: &background}, metav1.ListOptions{})
	if apierrors.IsMethodNotSupported(err) { // Other servers need not have it.
		err = nil
		for _, obj := range list.Items {
			one := api.Delete(ctx, namespace, obj.GetName(), metav1.DeleteOptions{PropagationPolicy: &background})
			err = errors.Join(err, client.IgnoreNotFound(one))
		}
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete %s: %w", api.GVR().Resource, err)
	}
	left, err := api.List(ctx, namespace, metav1.ListOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("list %s: %w", api.GVR().Resource, err)
	}
	if len(left.Items) > 0 {
		r.objects[api.GVR()] = len(left.Items)
	}
	for _, obj := range left.Items {
		for _, f := range obj.GetFinalizers() {
			r.finalizers[f]++
		}
	}
	return nil
}

// podGrace is how long the slowest pod may still take, bounded so that quicker ends are noticed.
func (c *controller) podGrace(ctx context.Context, namespace string) time.Duration {
	list, err := client.Of[*corev1.Pod](c.Client).List(ctx, namespace, metav1.ListOptions{})
	if err != nil {
		return 0
	}
	longest := time.Duration(0)
	for _, pod := range list.Items {
		if pod.DeletionGracePeriodSeconds != nil {
			longest = max(longest, time.Duration(*pod.DeletionGracePeriodSeconds)*time.Second)
		}
	}
	return min(longest, 2*lookAgain)
}

// finalize gives the namespace free: the API server removes it with its last finalizer.
func (c *controller) finalize(ctx context.Context, ns *corev1.Namespace) error {
	fresh, err := c.api.Get(ctx, "", ns.Name)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	next := fresh.DeepCopy()
	next.Spec.Finalizers = slices.DeleteFunc(next.Spec.Finalizers, func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
	_, err = c.api.UpdateSub(ctx, "finalize", next)
	return client.IgnoreNotFound(err)
}

// report writes phase and conditions when they changed.
func (c *controller) report(ctx context.Context, ns *corev1.Namespace, r *remainder) error {
	next := ns.DeepCopy()
	next.Status.Phase = corev1.NamespaceTerminating
	set := func(kind corev1.NamespaceConditionType, bad bool, badReason, badMessage, goodReason, goodMessage string) {
		condition := corev1.NamespaceCondition{Type: kind, Status: corev1.ConditionFalse, Reason: goodReason, Message: goodMessage, LastTransitionTime: metav1.Now()}
		if bad {
			condition.Status, condition.Reason, condition.Message = corev1.ConditionTrue, badReason, badMessage
		}
		i := slices.IndexFunc(next.Status.Conditions, func(k corev1.NamespaceCondition) bool { return k.Type == kind })
		if i < 0 {
			next.Status.Conditions = append(next.Status.Conditions, condition)
			return
		}
		if next.Status.Conditions[i].Status == condition.Status {
			condition.LastTransitionTime = next.Status.Conditions[i].LastTransitionTime
		}
		next.Status.Conditions[i] = condition
	}
	set(corev1.NamespaceDeletionDiscoveryFailure, len(r.undiscovered) > 0, "DiscoveryFailed", r.discoveryFailure(), "ResourcesDiscovered", "All resources successfully discovered")
	set(corev1.NamespaceDeletionGVParsingFailure, false, "", "", "ParsedGroupVersions", "All legacy kube types successfully parsed")
	failure := ""
	if r.err != nil {
		failure = "Failed to delete all resource types, 1 remaining: " + r.err.Error()
	}
	set(corev1.NamespaceDeletionContentFailure, r.err != nil, "ContentDeletionFailed", failure,
		"ContentDeleted", "All content successfully deleted, may be waiting on finalization")
	set(corev1.NamespaceContentRemaining, r.total() > 0, "SomeResourcesRemain", describeObjects(r.objects), "ContentRemoved", "All content successfully removed")
	set(corev1.NamespaceFinalizersRemaining, len(r.finalizers) > 0, "SomeFinalizersRemain", describeFinalizers(r.finalizers),
		"ContentHasNoFinalizers", "All content-preserving finalizers finished")
	if equal.Semantic(ns.Status, next.Status) {
		return nil
	}
	_, err := c.api.UpdateStatus(ctx, next)
	if apierrors.IsConflict(err) {
		return nil // somebody else wrote; the next pass reports
	}
	return client.IgnoreNotFound(err)
}

func describeObjects(left map[schema.GroupVersionResource]int) string {
	var texts []string
	for gvr, n := range left {
		texts = append(texts, fmt.Sprintf("%s has %d resource instances", strings.TrimSuffix(gvr.Resource+"."+gvr.Group, "."), n))
	}
	slices.Sort(texts)
	return "Some resources are remaining: " + strings.Join(texts, ", ")
}

func describeFinalizers(left map[string]int) string {
	var texts []string
	for _, f := range slices.Sorted(maps.Keys(left)) {
		texts = append(texts, fmt.Sprintf("%s in %d resource instances", f, left[f]))
	}
	return "Some content in the namespace has finalizers remaining: " + strings.Join(texts, ", ")
}
