// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package fake_test

import (
	"testing"
	"testing/synctest"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kogge.dev/kogge/cri/critest"
	"kogge.dev/kogge/cri/fake"
)

func TestSuite(t *testing.T) {
	f := fake.New(fake.Config{}, "example.test/pause:1")
	critest.Run(t, critest.Target{
		Runtime: f.CRI(), Image: "example.test/pause:1",
		Kill: func(t *testing.T, id string) {
			t.Helper()
			if err := f.Exit(id, 137); err != nil {
				t.Error(err)
			}
		},
	})
}

func TestBehaviourEndsAndResistsOnVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fake.New(fake.Config{Behave: func(c *runtimeapi.ContainerConfig) fake.Behaviour {
			if c.Metadata.Name == "job" {
				return fake.Behaviour{Ends: true, After: time.Minute, Code: 3}
			}
			return fake.Behaviour{IgnoresStop: true}
		}}, "i:1")
		r := f.CRI().Containers
		pod := &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: "p"}}
		sandbox, err := r.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: pod})
		if err != nil {
			t.Fatal(err)
		}
		ids := map[string]string{}
		for _, name := range []string{"job", "server"} {
			c, err := r.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{
				PodSandboxId: sandbox.PodSandboxId, SandboxConfig: pod,
				Config: &runtimeapi.ContainerConfig{Metadata: &runtimeapi.ContainerMetadata{Name: name}, Image: &runtimeapi.ImageSpec{Image: "i:1"}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: c.ContainerId}); err != nil {
				t.Fatal(err)
			}
			ids[name] = c.ContainerId
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		began := time.Now()
		if _, err := r.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: ids["server"], Timeout: 30}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("StopContainer took %v, want 30s", took)
		}
		for name, want := range map[string]int32{"job": 3, "server": 137} {
			s, err := r.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: ids[name]})
			if err != nil || s.Status.ExitCode != want || s.Status.State != runtimeapi.ContainerState_CONTAINER_EXITED {
				t.Errorf("status of %s = %v, %v, want exit code %d", name, s, err, want)
			}
		}
	})
}
