// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package images

import (
	"context"
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"kogge.dev/kogge/cri/fake"
)

func TestWithTag(t *testing.T) {
	for in, want := range map[string]string{
		"a": "a:latest", "a:1": "a:1", "r:5000/a": "r:5000/a:latest", "r:5000/a:1": "r:5000/a:1", "a@sha256:00": "a@sha256:00", "a:1@sha256:00": "a:1@sha256:00",
	} {
		if got, err := WithTag(in); err != nil || got != want {
			t.Errorf("WithTag(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", "A", "a b", "r/", "a:"} {
		if got, err := WithTag(in); err == nil {
			t.Errorf("WithTag(%q) = %q, want an error", in, got)
		}
	}
}

func TestCredentialsFitTheImage(t *testing.T) {
	secret := &corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(
		`{"auths": {"r.example": {"username": "u", "password": "p"}, "r.example/team": {"auth": "dDpw"}, "*.wild.example": {"username": "w"}, "https://index.docker.io/v1/": {"username": "d"}}}`,
	)}}
	for image, want := range map[string][]string{
		"r.example/a:1": {"u"}, "r.example/team/a": {"t", "u"}, "x.wild.example/a": {"w"}, "busybox": {"d"}, "other.example/a": nil, "r.example/teams/a": {"u"},
	} {
		var got []string
		for _, c := range lookup([]*corev1.Secret{secret}, image) {
			got = append(got, c.auth.Username)
		}
		if len(got) != len(want) {
			t.Errorf("lookup(%q) = %q, want %q", image, got, want)
			continue
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("lookup(%q) = %q, want %q", image, got, want)
			}
		}
	}
}

func TestPolicies(t *testing.T) {
	runtime := fake.New(fake.Config{Pull: func(image string) (time.Duration, error) {
		if image == "example.org/bad:1" {
			return 0, errors.New("no such image")
		}
		return 0, nil
	}}, "example.org/there:1")
	p := NewPuller(runtime.CRI().Images, 1, Verification{Dir: t.TempDir()})
	for _, test := range []struct {
		name, image string
		policy      corev1.PullPolicy
		reason      string
		pulls       int
	}{
		{"present is not pulled", "example.org/there:1", corev1.PullIfNotPresent, "", 0},
		{"present is pulled if always", "example.org/there:1", corev1.PullAlways, "", 1},
		{"missing is pulled", "example.org/new:1", corev1.PullIfNotPresent, "", 1},
		{"missing is never pulled", "example.org/never:1", corev1.PullNever, ReasonNeverPull, 0},
		{"what can't be pulled", "example.org/bad:1", corev1.PullIfNotPresent, ReasonPull, 0},
		{"a bad name", "Bad", corev1.PullIfNotPresent, ReasonInvalidName, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := runtime.Pulls(test.image)
			_, err := p.Ensure(context.Background(), Request{Image: test.image, Policy: test.policy, Event: func(string, string, string) {}})
			reason := ""
			if e, ok := errors.AsType[*Error](err); ok {
				reason = e.Reason
			}
			if reason != test.reason || (err == nil) != (test.reason == "") {
				t.Errorf("Ensure: %v, want reason %q", err, test.reason)
			}
			if got := runtime.Pulls(test.image) - before; got != test.pulls {
				t.Errorf("pulled %d times, want %d", got, test.pulls)
			}
		})
	}
}
