// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"cmp"
	"context"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// Prefix is the path that the handler serves, and all below it.
const Prefix = "/apis/metrics.k8s.io"

var _ http.Handler = (*Server)(nil)

// ServeHTTP answers requests that were authorized already. The path is the whole one, with Prefix.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	obj, err := s.answer(r)
	if err != nil {
		s.codecs.writeError(w, r, err)
		return
	}
	s.codecs.write(w, r, http.StatusOK, obj)
}

// answer routes a request.
func (s *Server) answer(r *http.Request) (runtime.Object, error) {
	path := strings.Trim(strings.TrimPrefix(r.URL.Path, Prefix), "/")
	parts := strings.Split(path, "/")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil, apierrors.NewMethodNotSupported(v1beta1.Resource(parts[len(parts)-1]), strings.ToLower(r.Method))
	}
	if path == "" {
		return apiGroup(), nil
	}
	if parts[0] != v1beta1.SchemeGroupVersion.Version {
		return nil, notFound()
	}
	if r.URL.Query().Get("watch") == "true" {
		return nil, apierrors.NewMethodNotSupported(v1beta1.Resource("metrics"), "watch")
	}
	switch parts = parts[1:]; {
	case len(parts) == 0:
		return Resources(), nil
	case len(parts) == 1 && parts[0] == "nodes":
		return s.listNodes(r)
	case len(parts) == 2 && parts[0] == "nodes":
		return s.getNode(r.Context(), parts[1])
	case len(parts) == 1 && parts[0] == "pods":
		return s.listPods(r, "")
	case len(parts) == 3 && parts[0] == "namespaces" && parts[2] == "pods":
		return s.listPods(r, parts[1])
	case len(parts) == 4 && parts[0] == "namespaces" && parts[2] == "pods":
		return s.getPod(r.Context(), types.NamespacedName{Namespace: parts[1], Name: parts[3]})
	}
	return nil, notFound()
}

func notFound() error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound,
		Message: "the server could not find the requested resource", Details: &metav1.StatusDetails{},
	}}
}

func apiGroup() *metav1.APIGroup {
	version := metav1.GroupVersionForDiscovery{GroupVersion: v1beta1.SchemeGroupVersion.String(), Version: v1beta1.SchemeGroupVersion.Version}
	return &metav1.APIGroup{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}, Name: v1beta1.GroupName,
		Versions: []metav1.GroupVersionForDiscovery{version}, PreferredVersion: version,
	}
}

// Resources is the group-version's part of discovery.
func Resources() *metav1.APIResourceList {
	return &metav1.APIResourceList{
		TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: v1beta1.SchemeGroupVersion.String(),
		APIResources: []metav1.APIResource{
			{Name: "nodes", Kind: "NodeMetrics", Verbs: metav1.Verbs{"get", "list"}},
			{Name: "pods", Namespaced: true, Kind: "PodMetrics", Verbs: metav1.Verbs{"get", "list"}},
		},
	}
}

// selection is what a list request asks for.
func selection(r *http.Request) (labels.Selector, fields.Selector, error) {
	query := r.URL.Query()
	label, err := labels.Parse(query.Get("labelSelector"))
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	field, err := fields.ParseSelector(query.Get("fieldSelector"))
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	for _, q := range field.Requirements() {
		if q.Field != "metadata.name" && q.Field != "metadata.namespace" {
			return nil, nil, apierrors.NewBadRequest("field label not supported: " + q.Field)
		}
	}
	return label, field, nil
}

func (s *Server) listNodes(r *http.Request) (runtime.Object, error) {
	label, field, err := selection(r)
	if err != nil {
		return nil, err
	}
	exist := map[string]struct{}{}
	var chosen []*corev1.Node
	for _, n := range s.config.Nodes() {
		exist[n.Name] = struct{}{}
		if label.Matches(labels.Set(n.Labels)) && field.Matches(fields.Set{"metadata.name": n.Name}) {
			chosen = append(chosen, n)
		}
	}
	s.forget(exist)
	out := &v1beta1.NodeMetricsList{Items: s.nodeMetrics(r.Context(), chosen)}
	return out, nil
}

func (s *Server) getNode(ctx context.Context, name string) (runtime.Object, error) {
	for _, n := range s.config.Nodes() {
		if n.Name == name {
			if list := s.nodeMetrics(ctx, []*corev1.Node{n}); len(list) == 1 {
				return &list[0], nil
			}
		}
	}
	return nil, apierrors.NewNotFound(v1beta1.Resource("nodemetrics"), name)
}

func (s *Server) nodeMetrics(ctx context.Context, nodes []*corev1.Node) []v1beta1.NodeMetrics {
	names := make([]string, len(nodes))
	for i, n := range nodes {
		names[i] = n.Name
	}
	pairs := s.sample(ctx, names)
	out := make([]v1beta1.NodeMetrics, 0, len(nodes))
	for _, n := range nodes {
		p, ok := pairs[n.Name]
		if !ok {
			continue
		}
		if u, ok := over(p.before.node, p.last.node); ok {
			out = append(out, v1beta1.NodeMetrics{
				ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.Labels, CreationTimestamp: metav1.NewTime(time.Now())},
				Timestamp:  metav1.NewTime(u.at), Window: window(u.window), Usage: u.list(),
			})
		}
	}
	slices.SortFunc(out, func(a, b v1beta1.NodeMetrics) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (s *Server) listPods(r *http.Request, namespace string) (runtime.Object, error) {
	label, field, err := selection(r)
	if err != nil {
		return nil, err
	}
	var chosen []*corev1.Pod
	for _, p := range s.config.Pods(namespace) {
		if label.Matches(labels.Set(p.Labels)) && field.Matches(fields.Set{"metadata.name": p.Name, "metadata.namespace": p.Namespace}) {
			chosen = append(chosen, p)
		}
	}
	return &v1beta1.PodMetricsList{Items: s.podMetrics(r.Context(), chosen)}, nil
}

func (s *Server) getPod(ctx context.Context, name types.NamespacedName) (runtime.Object, error) {
	for _, p := range s.config.Pods(name.Namespace) {
		if p.Name == name.Name {
			if list := s.podMetrics(ctx, []*corev1.Pod{p}); len(list) == 1 {
				return &list[0], nil
			}
		}
	}
	return nil, apierrors.NewNotFound(v1beta1.Resource("podmetrics"), name.String())
}

func (s *Server) podMetrics(ctx context.Context, pods []*corev1.Pod) []v1beta1.PodMetrics {
	on := map[string]struct{}{}
	var names []string
	for _, p := range pods {
		if _, seen := on[p.Spec.NodeName]; !seen && p.Status.Phase == corev1.PodRunning {
			on[p.Spec.NodeName] = struct{}{}
			names = append(names, p.Spec.NodeName)
		}
	}
	pairs := s.sample(ctx, names)
	out := make([]v1beta1.PodMetrics, 0, len(pods))
	for _, p := range pods {
		on, ok := pairs[p.Spec.NodeName]
		if !ok || p.Status.Phase != corev1.PodRunning {
			continue
		}
		if by, ok := on.pod(types.NamespacedName{Namespace: p.Namespace, Name: p.Name}); ok {
			out = append(out, podMetrics(p, by))
		}
	}
	slices.SortFunc(out, func(a, b v1beta1.PodMetrics) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func podMetrics(p *corev1.Pod, by map[string]usage) v1beta1.PodMetrics {
	out := v1beta1.PodMetrics{ObjectMeta: metav1.ObjectMeta{
		Namespace: p.Namespace, Name: p.Name, Labels: p.Labels, CreationTimestamp: metav1.NewTime(time.Now()),
	}}
	for name, u := range by {
		out.Containers = append(out.Containers, v1beta1.ContainerMetrics{Name: name, Usage: u.list()})
		// The window that all figures lie in: the earliest start, the latest end.
		if u.at.After(out.Timestamp.Time) {
			out.Timestamp = metav1.NewTime(u.at)
		}
		out.Window.Duration = max(out.Window.Duration, u.window)
	}
	out.Window = window(out.Window.Duration)
	slices.SortFunc(out.Containers, func(a, b v1beta1.ContainerMetrics) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func window(d time.Duration) metav1.Duration {
	return metav1.Duration{Duration: d.Round(time.Millisecond)}
}

// list is the usage as API quantities: nano-cores and bytes.
func (u usage) list() corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewScaledQuantity(int64(math.Round(u.cores*1e9)), resource.Nano),
		corev1.ResourceMemory: *resource.NewQuantity(int64(u.bytes), resource.BinarySI),
	}
}
