// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/cri"
)

// overtaken is a runtime whose stops fail as often as it says, by pod.
type overtaken struct {
	runtimeapi.RuntimeServiceClient
	mu    sync.Mutex
	fails map[string]int
}

func (o *overtaken) StopPodSandbox(_ context.Context, req *runtimeapi.StopPodSandboxRequest, _ ...grpc.CallOption) (*runtimeapi.StopPodSandboxResponse, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fails[req.PodSandboxId] > 0 {
		o.fails[req.PodSandboxId]--
		return nil, errors.New("no such file or directory")
	}
	return &runtimeapi.StopPodSandboxResponse{}, nil
}

// TestStopsThatAreOvertaken forgives one failure of each pod, and names the pod that does not stop.
func TestStopsThatAreOvertaken(t *testing.T) {
	var pods []*runtimeapi.PodSandbox
	for _, name := range []string{"a", "b", "c"} {
		pods = append(pods, &runtimeapi.PodSandbox{Id: name, Metadata: &runtimeapi.PodSandboxMetadata{Namespace: "default", Name: name}})
	}
	runtime := &cri.Runtime{Containers: &overtaken{fails: map[string]int{"a": 1, "b": 1}}}
	if err := stopSandboxes(t.Context(), runtime, pods); err != nil {
		t.Errorf("stops that another one overtook: %v", err)
	}
	runtime.Containers = &overtaken{fails: map[string]int{"b": 2}}
	if err := stopSandboxes(t.Context(), runtime, pods); err == nil || !strings.HasPrefix(err.Error(), "stop pod default/b: ") || strings.Contains(err.Error(), "default/a") {
		t.Errorf("a pod that does not stop: %v", err)
	}
}
