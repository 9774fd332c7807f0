// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package job

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// span is a run of completion indexes, both ends included.
type span struct{ first, last int }

// spans are ordered, disjoint and not adjacent. Their text is "1,3-5,7".
type spans []span

func parseSpans(text string, limit int) spans {
	var out spans
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		a, err := strconv.Atoi(first)
		if err != nil {
			continue
		}
		b := a
		if isRange {
			if b, err = strconv.Atoi(last); err != nil {
				continue
			}
		}
		if a < limit {
			out = append(out, span{a, min(b, limit-1)})
		}
	}
	return out
}

func (s spans) String() string {
	var b strings.Builder
	for _, r := range s {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(r.first))
		switch {
		case r.last == r.first+1:
			b.WriteString("," + strconv.Itoa(r.last))
		case r.last > r.first:
			b.WriteString("-" + strconv.Itoa(r.last))
		}
	}
	return b.String()
}

func (s spans) has(i int) bool {
	return slices.ContainsFunc(s, func(r span) bool { return r.first <= i && i <= r.last })
}

func (s spans) count() int {
	n := 0
	for _, r := range s {
		n += r.last - r.first + 1
	}
	return n
}

// with returns s and the given indexes.
// common counts the indexes that are in both.
func (s spans) common(other spans) int {
	n := 0
	for _, r := range s {
		for index := r.first; index <= r.last; index++ {
			if other.has(index) {
				n++
			}
		}
	}
	return n
}

func (s spans) with(indexes []int) spans {
	all := slices.Clone(indexes)
	for _, r := range s {
		for i := r.first; i <= r.last; i++ {
			all = append(all, i)
		}
	}
	slices.Sort(all)
	var out spans
	for _, i := range slices.Compact(all) {
		if n := len(out); n > 0 && out[n-1].last == i-1 {
			out[n-1].last = i
			continue
		}
		out = append(out, span{i, i})
	}
	return out
}

// indexOf reads a pod's completion index, -1 without one.
func indexOf(pod *corev1.Pod) int {
	n, err := strconv.Atoi(pod.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// indexFailures is how often the pods of an index had failed when this one was made.
func indexFailures(pod *corev1.Pod) int32 {
	n, err := strconv.ParseInt(pod.Annotations[batchv1.JobIndexFailureCountAnnotation], 10, 32)
	if err != nil || n < 0 {
		return 0
	}
	return int32(n)
}

func ignoredFailures(pod *corev1.Pod) int32 {
	n, err := strconv.ParseInt(pod.Annotations[jobIndexIgnoredFailures], 10, 32)
	if err != nil || n < 0 {
		return 0
	}
	return int32(n)
}

const jobIndexIgnoredFailures = "batch.kubernetes.io/job-index-ignored-failure-count"

// dress gives a pod of an indexed Job its index: annotation, label, host name, and the environment variable.
func dress(pod *corev1.Pod, job *batchv1.Job, index int) {
	text := strconv.Itoa(index)
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[batchv1.JobCompletionIndexAnnotation] = text
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[batchv1.JobCompletionIndexAnnotation] = text
	pod.Spec.Hostname = fmt.Sprintf("%s-%d", job.Name, index)
	prefix := pod.Spec.Hostname
	if len(prefix) > 57 {
		prefix = prefix[:57]
	}
	pod.GenerateName = prefix + "-"
	variable := corev1.EnvVar{Name: "JOB_COMPLETION_INDEX", ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: fmt.Sprintf("metadata.labels['%s']", batchv1.JobCompletionIndexAnnotation)},
	}}
	add := func(containers []corev1.Container) {
		for i := range containers {
			if !slices.ContainsFunc(containers[i].Env, func(e corev1.EnvVar) bool { return e.Name == variable.Name }) {
				containers[i].Env = append(containers[i].Env, variable)
			}
		}
	}
	add(pod.Spec.InitContainers)
	add(pod.Spec.Containers)
}
