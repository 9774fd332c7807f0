// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package podautoscaler

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"

	"kogge.dev/kogge/rules/podresource"
	"kogge.dev/kogge/rules/pods"
)

// How long the CPU use of a starting pod is not believed; upstream's defaults.
const (
	cpuInitialization = 5 * time.Minute  // since the pod's start
	initialReadiness  = 30 * time.Second // the pod may have been unready from the start for so long
)

// sample is one pod's value, in thousandths.
type sample struct {
	at     time.Time
	window time.Duration
	milli  int64
}

// tolerance says how far the ratio of use to target may be from one before anything is done.
type tolerance struct{ down, up float64 }

const defaultTolerance = 0.1

func toleranceOf(behavior *autoscalingv2.HorizontalPodAutoscalerBehavior) tolerance {
	t := tolerance{defaultTolerance, defaultTolerance}
	if behavior == nil {
		return t
	}
	if r := behavior.ScaleDown; r != nil && r.Tolerance != nil {
		t.down = r.Tolerance.AsApproximateFloat64()
	}
	if r := behavior.ScaleUp; r != nil && r.Tolerance != nil {
		t.up = r.Tolerance.AsApproximateFloat64()
	}
	return t
}

func (t tolerance) holds(ratio float64) bool { return 1-t.down <= ratio && ratio <= 1+t.up }

// demand is the question how many replicas a target needs by a metric of its pods.
type demand struct {
	pods []*corev1.Pod
	// samples by pod name; propose changes them.
	samples  map[string]sample
	resource corev1.ResourceName // empty for other metrics
	current  int32
	tolerance
	now time.Time
}

// measured is the use that a set of samples amounts to.
type measured struct {
	ratio       float64 // use divided by target
	utilization int32   // percent of the requests
	average     int64   // per pod, in thousandths
}

var (
	errNoPods    = errors.New("no pods returned by selector while calculating replica count")
	errNoMetrics = errors.New("did not receive metrics for targeted pods (pods might be unready)")
)

// propose returns the number of replicas that brings use to its target. Pods without a sample, and those that are not ready yet, are counted such that
// they dampen the change: as idle when there are to be more, as using what full says when there are to be fewer. A change that they would turn round is not made.
func (d *demand) propose(measure func(map[string]sample) (measured, error), full func(pod string) int64) (int32, measured, error) {
	if len(d.pods) == 0 {
		return 0, measured{}, errNoPods
	}
	ready, unready, missing := d.sort()
	if len(d.samples) == 0 {
		return 0, measured{}, errNoMetrics
	}
	first, err := measure(d.samples)
	if err != nil {
		return 0, measured{}, err
	}
	held := first.ratio > 1 && len(unready) > 0
	if !held && len(missing) == 0 {
		if d.holds(first.ratio) {
			return d.current, first, nil
		}
		return ceil(first.ratio * float64(ready)), first, nil
	}
	for _, name := range missing {
		switch {
		case first.ratio < 1:
			d.samples[name] = sample{milli: full(name)}
		case first.ratio > 1:
			d.samples[name] = sample{}
		}
	}
	if held {
		for _, name := range unready {
			d.samples[name] = sample{}
		}
	}
	damped, err := measure(d.samples)
	if err != nil {
		return 0, first, err
	}
	turned := first.ratio < 1 && damped.ratio > 1 || first.ratio > 1 && damped.ratio < 1
	if d.holds(damped.ratio) || turned {
		return d.current, first, nil
	}
	replicas := ceil(damped.ratio * float64(len(d.samples)))
	if damped.ratio < 1 && replicas > d.current || damped.ratio > 1 && replicas < d.current {
		return d.current, first, nil
	}
	return replicas, first, nil
}

// ceil rounds up to what fits into a number of replicas.
func ceil(x float64) int32 {
	if x >= math.MaxInt32 {
		return math.MaxInt32
	}
	return int32(math.Ceil(x))
}

// sort counts the pods whose samples hold, and drops the samples of all others.
func (d *demand) sort() (ready int, unready, missing []string) {
	known := maps.Clone(d.samples)
	for _, pod := range d.pods {
		s, ok := known[pod.Name]
		switch {
		case pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodFailed:
			delete(d.samples, pod.Name)
		case pod.Status.Phase == corev1.PodPending:
			unready = append(unready, pod.Name)
			delete(d.samples, pod.Name)
		case !ok:
			missing = append(missing, pod.Name)
		case d.resource == corev1.ResourceCPU && d.starting(pod, s):
			unready = append(unready, pod.Name)
			delete(d.samples, pod.Name)
		default:
			ready++
		}
	}
	return ready, unready, missing
}

// starting reports whether a pod's CPU use is that of its start.
func (d *demand) starting(pod *corev1.Pod, s sample) bool {
	condition := pods.Condition(pod, corev1.PodReady)
	if condition == nil || pod.Status.StartTime == nil {
		return true
	}
	start := pod.Status.StartTime.Time
	if start.Add(cpuInitialization).After(d.now) {
		return condition.Status == corev1.ConditionFalse || s.at.Before(condition.LastTransitionTime.Add(s.window))
	}
	return condition.Status == corev1.ConditionFalse && start.Add(initialReadiness).After(condition.LastTransitionTime.Time)
}

// byAverage aims at an average per pod, in thousandths.
func (d *demand) byAverage(target int64) (int32, measured, error) {
	return d.propose(func(samples map[string]sample) (measured, error) {
		total := int64(0)
		for _, s := range samples {
			total += s.milli
		}
		average := total / int64(len(samples))
		return measured{ratio: float64(average) / float64(target), average: average}, nil
	}, func(string) int64 { return target })
}

// byUtilization aims at a percentage of what the pods, or one container of each, request.
func (d *demand) byUtilization(target int32, container string) (int32, measured, error) {
	var requests map[string]int64
	return d.propose(func(samples map[string]sample) (measured, error) {
		if requests == nil {
			var err error
			if requests, err = requestsOf(d.pods, container, d.resource); err != nil {
				return measured{}, err
			}
		}
		used, requested, n := int64(0), int64(0), int64(0)
		for name, s := range samples {
			if r, ok := requests[name]; ok {
				used, requested, n = used+s.milli, requested+r, n+1
			}
		}
		if requested == 0 {
			return measured{}, errors.New("no metrics returned matched known pods")
		}
		percent := int32(used * 100 / requested)
		return measured{ratio: float64(percent) / float64(target), utilization: percent, average: used / n}, nil
	}, func(pod string) int64 { return requests[pod] * int64(max(100, target)) / 100 })
}

// requestsOf returns what each pod requests, in thousandths.
func requestsOf(all []*corev1.Pod, container string, name corev1.ResourceName) (map[string]int64, error) {
	out := make(map[string]int64, len(all))
	for _, pod := range all {
		r, err := requestOf(pod, container, name)
		if err != nil {
			return nil, err
		}
		out[pod.Name] = r
	}
	return out, nil
}

func requestOf(pod *corev1.Pod, container string, name corev1.ResourceName) (int64, error) {
	if container == "" && resource.IsPodLevelRequestsSet(pod) {
		q, ok := podresource.SpecRequests(pod)[name]
		if !ok {
			return 0, fmt.Errorf("missing pod-level request for %s in Pod %s", name, pod.Name)
		}
		return q.MilliValue(), nil
	}
	sum, found := int64(0), false
	for i := range pod.Spec.Containers {
		if err := addRequest(&sum, &found, pod, &pod.Spec.Containers[i], container, name); err != nil {
			return 0, err
		}
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			continue
		}
		if err := addRequest(&sum, &found, pod, c, container, name); err != nil {
			return 0, err
		}
	}
	if container != "" && !found {
		return 0, fmt.Errorf("container %s not found in Pod %s", container, pod.Name)
	}
	return sum, nil
}

func addRequest(sum *int64, found *bool, pod *corev1.Pod, c *corev1.Container, container string, name corev1.ResourceName) error {
	if container != "" && container != c.Name {
		return nil
	}
	q, ok := c.Resources.Requests[name]
	if !ok {
		return fmt.Errorf("missing request for %s in container %s of Pod %s", name, c.Name, pod.Name)
	}
	*sum, *found = *sum+q.MilliValue(), true
	return nil
}

// byValue aims at one value for all pods together, in thousandths. Without replicas the ratio alone decides.
func byValue(all []*corev1.Pod, current int32, usage, target int64, t tolerance) (int32, error) {
	ratio := float64(usage) / float64(target)
	if current == 0 {
		return ceil(ratio), nil
	}
	if t.holds(ratio) {
		return current, nil
	}
	if len(all) == 0 {
		return 0, fmt.Errorf("unable to calculate ready pods: %w", errNoPods)
	}
	ready := 0
	for _, pod := range all {
		if pod.Status.Phase == corev1.PodRunning && pods.IsReady(pod) {
			ready++
		}
	}
	return ceil(ratio * float64(ready)), nil
}

// byShare aims at a value per replica, in thousandths. It also returns the present share.
func byShare(replicas int32, usage, target int64, t tolerance) (proposal int32, share int64) {
	proposal = replicas
	if !t.holds(float64(usage) / (float64(target) * float64(replicas))) {
		proposal = ceil(float64(usage) / float64(target))
	}
	if replicas == 0 {
		return proposal, usage
	}
	return proposal, int64(math.Ceil(float64(usage) / float64(replicas)))
}
