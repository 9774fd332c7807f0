// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package batch

import (
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/podspec"
)

// Labels that tie a job's pods to it, as they were named before they got a prefix; both pairs are still set.
const (
	legacyJobName       = "job-name"
	legacyControllerUID = "controller-uid"
)

func job() *kinds.Kind {
	return kinds.Define(kinds.Kind{
		Resource:        "jobs",
		Singular:        "job",
		Categories:      []string{"all"},
		Namespaced:      true,
		OrphanByDefault: true,
		Storage:         kinds.Storage{Prefix: "jobs"},
		Subresources: []kinds.Subresource{
			kinds.Status(func(_ kinds.Request, new, old *batchv1.Job) { new.Spec = old.Spec }, validateJobStatus),
		},
	}, version.WithKind("Job"),
		func() *batchv1.Job { return &batchv1.Job{} },
		func() runtime.Object { return &batchv1.JobList{} },
		kinds.Strategy[*batchv1.Job]{
			Default:       defaultJob,
			PrepareCreate: prepareJob,
			PrepareUpdate: func(_ kinds.Request, new, old *batchv1.Job) {
				new.Status = old.Status
				podspec.DropDisabled(&new.Spec.Template.Spec, &old.Spec.Template.Spec)
				kinds.RaiseGeneration(new, old, new.Spec, old.Spec)
			},
			Validate:       validateJob,
			ValidateUpdate: validateJobUpdate,
			Warn:           warnJob,
			Fields: func(j *batchv1.Job) fields.Set {
				return fields.Set{"status.successful": strconv.Itoa(int(j.Status.Succeeded))}
			},
			Columns: jobColumns(),
			Row:     jobRow,
		})
}

func prepareJob(_ kinds.Request, j *batchv1.Job) {
	if j.Spec.ManualSelector == nil || !*j.Spec.ManualSelector {
		generateSelector(j)
	}
	j.Status = batchv1.JobStatus{}
	j.Generation = 1
	podspec.DropDisabled(&j.Spec.Template.Spec, nil)
}

// generateSelector makes a job select exactly the pods that carry its UID, and labels the template so that they do. Labels
// that the client set already stay; validation refuses those that disagree. It writes into the template's map, which a job
// that names no labels of its own shares.
func generateSelector(j *batchv1.Job) {
	labels := j.Spec.Template.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	wanted := map[string]string{
		legacyJobName:              j.Name,
		batchv1.JobNameLabel:       j.Name,
		legacyControllerUID:        string(j.UID),
		batchv1.ControllerUidLabel: string(j.UID),
	}
	for key, value := range wanted {
		if _, taken := labels[key]; !taken {
			labels[key] = value
		}
	}
	j.Spec.Template.Labels = labels
	if j.Spec.Selector == nil {
		j.Spec.Selector = &metav1.LabelSelector{}
	}
	if j.Spec.Selector.MatchLabels == nil {
		j.Spec.Selector.MatchLabels = map[string]string{}
	}
	if _, taken := j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel]; !taken {
		j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel] = string(j.UID)
	}
}
