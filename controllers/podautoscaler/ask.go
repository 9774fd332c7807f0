// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podautoscaler

import (
	"context"
	"errors"
	"fmt"
	"slices"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/reconcile"
)

// answer is what one metric wants.
type answer struct {
	replicas int32
	metric   string // how it is named to the user
	status   autoscalingv2.MetricStatus
}

// ask asks every metric and returns the largest answer. When all fail, or some do and the others want fewer replicas, there is
// no answer. An error beside an answer tells of the metrics that failed.
func (r *round) ask(ctx context.Context) (*answer, []autoscalingv2.MetricStatus, error) {
	if err := r.choose(); err != nil {
		return nil, nil, err
	}
	metrics := r.object.Spec.Metrics
	statuses := make([]autoscalingv2.MetricStatus, len(metrics))
	var best *answer
	var first *metricError
	invalid := 0
	for i := range metrics {
		one, err := r.one(ctx, &metrics[i])
		if err != nil {
			r.Events.Event(r.object, corev1.EventTypeWarning, err.reason, "%v", err.cause)
			if invalid++; first == nil {
				first = err
			}
			continue
		}
		statuses[i] = one.status
		if best == nil || one.replicas > best.replicas {
			best = one
		}
	}
	var err error
	if first != nil {
		err = fmt.Errorf("invalid metrics (%d invalid out of %d), first error is: %w", invalid, len(metrics), first)
	}
	if best == nil || invalid > 0 && best.replicas < r.scale.Spec.Replicas {
		r.set(autoscalingv2.ScalingActive, false, first.reason, fmt.Sprintf("the HPA was unable to compute the replica count: %v", first.cause))
		return nil, statuses, err
	}
	r.set(autoscalingv2.ScalingActive, true, "ValidMetricFound", "the HPA was able to successfully calculate a replica count from "+best.metric)
	return best, statuses, err
}

// choose reads the target's pods, which must belong to this autoscaler alone.
func (r *round) choose() error {
	text := r.scale.Status.Selector
	refuse := func(event, reason, told, message string) error {
		r.Events.Event(r.object, corev1.EventTypeWarning, event, "%s", told)
		r.set(autoscalingv2.ScalingActive, false, reason, message)
		return errors.New(told)
	}
	if text == "" {
		return refuse("SelectorRequired", "InvalidSelector", "selector is required", "the HPA target's scale is missing a selector")
	}
	selector, err := labels.Parse(text)
	if err != nil {
		told := fmt.Sprintf("couldn't convert selector into a corresponding internal selector object: %v", err)
		return refuse("InvalidSelector", "InvalidSelector", told, told)
	}
	r.selector = selector
	for _, pod := range r.controller.pods.List(r.object.Namespace) {
		if selector.Matches(labels.Set(pod.Labels)) {
			r.pods = append(r.pods, pod)
		}
	}
	if rivals := r.rivals(); len(rivals) > 1 {
		told := fmt.Sprintf("pods by selector %v are controlled by multiple HPAs: %v", text, rivals)
		return refuse("AmbiguousSelector", "AmbiguousSelector", told, told)
	}
	return nil
}

// rivals notes the selector and lists the autoscalers, this one included, that select any of its pods.
func (r *round) rivals() []reconcile.Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.selectors[r.key] = r.selector
	out := []reconcile.Key{r.key}
	for key, other := range r.selectors {
		if key != r.key && key.Namespace == r.key.Namespace &&
			slices.ContainsFunc(r.pods, func(p *corev1.Pod) bool { return other.Matches(labels.Set(p.Labels)) }) {
			out = append(out, key)
		}
	}
	slices.SortFunc(out, func(a, b reconcile.Key) int { return slices.Compare([]byte(a.Name), []byte(b.Name)) })
	return out
}

// metricError says why a metric has no answer. reason names it in events and conditions.
type metricError struct {
	reason string
	what   string // which metric, in words
	cause  error
}

func (e *metricError) Error() string { return fmt.Sprintf("failed to get %s: %v", e.what, e.cause) }
func (e *metricError) Unwrap() error { return e.cause }

// one asks one metric.
func (r *round) one(ctx context.Context, spec *autoscalingv2.MetricSpec) (*answer, *metricError) {
	var out *answer
	var err error
	var reason, what string
	switch spec.Type {
	case autoscalingv2.ResourceMetricSourceType:
		m := spec.Resource
		reason, what = "FailedGetResourceMetric", string(m.Name)+" resource metric value"
		var current *autoscalingv2.MetricValueStatus
		if out, current, err = r.use(ctx, m.Name, "", &m.Target); err == nil {
			out.status.Resource = &autoscalingv2.ResourceMetricStatus{Name: m.Name, Current: *current}
		}
	case autoscalingv2.ContainerResourceMetricSourceType:
		m := spec.ContainerResource
		reason, what = "FailedGetContainerResourceMetric", m.Container+" container metric value"
		var current *autoscalingv2.MetricValueStatus
		if out, current, err = r.use(ctx, m.Name, m.Container, &m.Target); err == nil {
			out.status.ContainerResource = &autoscalingv2.ContainerResourceMetricStatus{Name: m.Name, Container: m.Container, Current: *current}
		}
	case autoscalingv2.PodsMetricSourceType:
		reason, what = "FailedGetPodsMetric", "pods metric value"
		out, err = r.podsMetric(ctx, spec.Pods)
	case autoscalingv2.ObjectMetricSourceType:
		reason, what = "FailedGetObjectMetric", "object metric value"
		out, err = r.objectMetric(ctx, spec.Object)
	case autoscalingv2.ExternalMetricSourceType:
		reason, what = "FailedGetExternalMetric", spec.External.Metric.Name+" external metric value"
		out, err = r.externalMetric(ctx, spec.External)
	default:
		reason, what, err = "InvalidMetricSourceType", "metric", fmt.Errorf("unknown metric source type %q", spec.Type)
	}
	if err != nil {
		return nil, &metricError{reason: reason, what: what, cause: err}
	}
	out.status.Type = spec.Type
	return out, nil
}

// use asks for CPU or memory, of the pods or of one container of each.
func (r *round) use(ctx context.Context, name corev1.ResourceName, container string, target *autoscalingv2.MetricTarget) (*answer, *autoscalingv2.MetricValueStatus, error) {
	samples, err := r.metrics.resource(ctx, r.object.Namespace, r.selector, name, container)
	quantity := func(milli int64) *resource.Quantity {
		format := resource.DecimalSI
		if name == corev1.ResourceMemory {
			format = resource.BinarySI
		}
		return resource.NewMilliQuantity(milli, format)
	}
	if err != nil {
		err = fmt.Errorf("unable to get metrics for resource %s: %w", name, err)
	}
	switch d := r.demand(samples, name); {
	case target.AverageValue != nil:
		if err != nil {
			return nil, nil, fmt.Errorf("failed to get %s usage: %w", name, err)
		}
		n, m, err := d.byAverage(target.AverageValue.MilliValue())
		if err != nil {
			return nil, nil, fmt.Errorf("failed to get %s usage: %w", name, err)
		}
		return &answer{replicas: n, metric: string(name) + " resource"}, &autoscalingv2.MetricValueStatus{AverageValue: quantity(m.average)}, nil
	case target.AverageUtilization != nil:
		if err != nil {
			return nil, nil, fmt.Errorf("failed to get %s utilization: %w", name, err)
		}
		n, m, err := d.byUtilization(*target.AverageUtilization, container)
		if err != nil {
			return nil, nil, fmt.Errorf("failed to get %s utilization: %w", name, err)
		}
		metric := string(name) + " resource utilization (percentage of request)"
		if container != "" {
			metric = string(name) + " container resource utilization (percentage of request)"
		}
		return &answer{replicas: n, metric: metric}, &autoscalingv2.MetricValueStatus{AverageUtilization: &m.utilization, AverageValue: quantity(m.average)}, nil
	}
	return nil, nil, errors.New("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set")
}

func (r *round) demand(samples map[string]sample, name corev1.ResourceName) *demand {
	return &demand{
		pods: r.pods, samples: samples, resource: name, current: r.scale.Spec.Replicas, tolerance: toleranceOf(r.object.Spec.Behavior), now: r.now,
	}
}

func (r *round) podsMetric(ctx context.Context, m *autoscalingv2.PodsMetricSource) (*answer, error) {
	of, err := metav1.LabelSelectorAsSelector(m.Metric.Selector)
	if err != nil {
		return nil, err
	}
	samples, err := r.metrics.pods(ctx, r.object.Namespace, m.Metric.Name, r.selector, of)
	if err != nil {
		return nil, fmt.Errorf("unable to get metric %s: %w", m.Metric.Name, err)
	}
	n, got, err := r.demand(samples, "").byAverage(m.Target.AverageValue.MilliValue())
	if err != nil {
		return nil, err
	}
	return &answer{replicas: n, metric: "pods metric " + m.Metric.Name, status: autoscalingv2.MetricStatus{Pods: &autoscalingv2.PodsMetricStatus{
		Metric: m.Metric, Current: autoscalingv2.MetricValueStatus{AverageValue: milli(got.average)},
	}}}, nil
}

func milli(v int64) *resource.Quantity { return resource.NewMilliQuantity(v, resource.DecimalSI) }

func (r *round) objectMetric(ctx context.Context, m *autoscalingv2.ObjectMetricSource) (*answer, error) {
	of, err := metav1.LabelSelectorAsSelector(m.Metric.Selector)
	if err != nil {
		return nil, err
	}
	gvr, err := r.scales.Resource(schema.FromAPIVersionAndKind(m.DescribedObject.APIVersion, m.DescribedObject.Kind))
	if err != nil {
		return nil, err
	}
	usage, err := r.metrics.object(ctx, r.object.Namespace, m.Metric.Name, gvr.GroupResource(), m.DescribedObject.Name, of)
	if err != nil {
		return nil, fmt.Errorf("unable to get metric %s: %s on %s %s: %w", m.Metric.Name, m.DescribedObject.Kind, r.object.Namespace, m.DescribedObject.Name, err)
	}
	n, current, err := r.total(usage, &m.Target)
	if err != nil {
		return nil, fmt.Errorf("invalid object metric source: %w", err)
	}
	return &answer{replicas: n, metric: m.DescribedObject.Kind + " metric " + m.Metric.Name, status: autoscalingv2.MetricStatus{
		Object: &autoscalingv2.ObjectMetricStatus{DescribedObject: m.DescribedObject, Metric: m.Metric, Current: current},
	}}, nil
}

func (r *round) externalMetric(ctx context.Context, m *autoscalingv2.ExternalMetricSource) (*answer, error) {
	of, err := metav1.LabelSelectorAsSelector(m.Metric.Selector)
	if err != nil {
		return nil, err
	}
	usage, err := r.metrics.external(ctx, r.object.Namespace, m.Metric.Name, of)
	if err != nil {
		return nil, fmt.Errorf("unable to get external metric %s/%s/%+v: %w", r.object.Namespace, m.Metric.Name, m.Metric.Selector, err)
	}
	n, current, err := r.total(usage, &m.Target)
	if err != nil {
		return nil, fmt.Errorf("invalid external metric source: %w", err)
	}
	return &answer{replicas: n, metric: fmt.Sprintf("external metric %s(%+v)", m.Metric.Name, m.Metric.Selector), status: autoscalingv2.MetricStatus{
		External: &autoscalingv2.ExternalMetricStatus{Metric: m.Metric, Current: current},
	}}, nil
}

// total answers by one value for the whole workload, in thousandths: against a value, or against a share per replica.
func (r *round) total(usage int64, target *autoscalingv2.MetricTarget) (int32, autoscalingv2.MetricValueStatus, error) {
	t := toleranceOf(r.object.Spec.Behavior)
	switch {
	case target.AverageValue != nil:
		n, share := byShare(r.scale.Status.Replicas, usage, target.AverageValue.MilliValue(), t)
		return n, autoscalingv2.MetricValueStatus{AverageValue: milli(share)}, nil
	case target.Value != nil:
		n, err := byValue(r.pods, r.scale.Spec.Replicas, usage, target.Value.MilliValue(), t)
		return n, autoscalingv2.MetricValueStatus{Value: milli(usage)}, err
	}
	return 0, autoscalingv2.MetricValueStatus{}, errors.New("neither a value target nor an average value target was set")
}
