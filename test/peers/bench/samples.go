// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// noScheduler is a schedulerName that nobody answers to: pods with it stay as they are, so that only the API server works.
const noScheduler = "bench-nobody"

// samplePod is a pod as a deployment's, of about as many bytes of JSON as asked: 1 KB or 10 KB. It has no service account token, whose
// volume would have a random name.
func samplePod(name string, kilobytes int) object {
	containers, variables := 1, 4
	if kilobytes >= 10 {
		containers, variables = 4, 26
	}
	var list []object
	for c := range containers {
		var env []object
		for v := range variables {
			env = append(env, object{"name": fmt.Sprintf("SETTING_%02d", v), "value": fmt.Sprintf("value-%02d-of-container-%d", v, c)})
		}
		list = append(list, object{
			"name": fmt.Sprintf("container-%d", c), "image": "registry.example.com/team/program:v1.2.3", "env": env,
			"args":      []string{"--listen=:8080", "--log-level=info"},
			"ports":     []object{{"name": fmt.Sprintf("http-%d", c), "containerPort": 8080 + c}},
			"resources": object{"requests": object{"cpu": "100m", "memory": "128Mi"}, "limits": object{"memory": "256Mi"}},
		})
	}
	annotations := object{"bench.test/round": "0"}
	if kilobytes >= 10 {
		for i := range 6 {
			annotations[fmt.Sprintf("bench.test/note-%d", i)] = strings.Repeat("abcdefghij", 30)
		}
	}
	return object{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": object{
			"name": name, "namespace": namespace, "annotations": annotations,
			"labels": object{"app": "sample", "tier": "backend", "tenth": "t" + name[len(name)-1:]},
		},
		"spec": object{
			"schedulerName": noScheduler, "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 5, "containers": list,
			"tolerations": []object{{"key": "dedicated", "operator": "Equal", "value": "bench", "effect": "NoSchedule"}},
		},
	}
}

// podName numbers pods so that names sort as numbers do.
func podName(prefix string, i int) string { return fmt.Sprintf("%s-%05d", prefix, i) }
