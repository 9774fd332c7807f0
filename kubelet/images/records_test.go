// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package images

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"kogge.dev/kogge/cri/fake"
)

func pullSecret(name, user string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name)},
		Type:       corev1.SecretTypeDockerConfigJson,
		Data:       map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths": {"example.org": {"username": "` + user + `", "password": "p"}}}`)},
	}
}

// TestImageOfOthers is pulled by a secret: pods with that secret, or the same credential, use it; others prove themselves to the
// registry, or are refused when they must not pull.
func TestImageOfOthers(t *testing.T) {
	runtime := fake.New(fake.Config{}, "example.org/preloaded:1")
	dir := t.TempDir()
	puller := func() *Puller {
		return NewPuller(runtime.CRI().Images, 1, Verification{Policy: kubeletconfig.NeverVerifyPreloadedImages, Dir: dir})
	}
	p := puller()
	const image = "example.org/private:1"
	steps := []struct {
		name    string
		image   string
		secrets []*corev1.Secret
		policy  corev1.PullPolicy
		pulls   int // of the image so far
		refused bool
		restart bool
	}{
		{name: "what was there before is everybody's", image: "example.org/preloaded:1", pulls: 0},
		{name: "the first pulls", image: image, secrets: []*corev1.Secret{pullSecret("a", "u")}, pulls: 1},
		{name: "the same secret", image: image, secrets: []*corev1.Secret{pullSecret("a", "u")}, pulls: 1},
		{name: "the same secret with another credential", image: image, secrets: []*corev1.Secret{pullSecret("a", "changed")}, pulls: 1},
		{name: "another secret with the same credential", image: image, secrets: []*corev1.Secret{pullSecret("b", "u")}, pulls: 1},
		{name: "none, and it must not pull", image: image, policy: corev1.PullNever, refused: true, pulls: 1},
		{name: "a foreign one after a restart", image: image, secrets: []*corev1.Secret{pullSecret("c", "foreign")}, pulls: 2, restart: true},
		{name: "that one again", image: image, secrets: []*corev1.Secret{pullSecret("c", "foreign")}, pulls: 2},
		{name: "none", image: image, pulls: 3},
		{name: "none again: it is everybody's now", image: image, policy: corev1.PullNever, pulls: 3},
	}
	for _, s := range steps {
		if s.restart {
			p = puller()
		}
		policy := s.policy
		if policy == "" {
			policy = corev1.PullIfNotPresent
		}
		_, err := p.Ensure(t.Context(), Request{Image: s.image, Policy: policy, Secrets: s.secrets, Event: func(string, string, string) {}})
		var refusal *Error
		if refused := errors.As(err, &refusal) && refusal.Reason == ReasonNeverPull; refused != s.refused || err != nil && !refused {
			t.Errorf("%s: Ensure = %v, want refused %v", s.name, err, s.refused)
		}
		if got := runtime.Pulls(s.image); got != s.pulls {
			t.Errorf("%s: %d pulls, want %d", s.name, got, s.pulls)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, pullingDir, "*")); err != nil || len(left) > 0 {
		t.Errorf("intents are left: %v, %v", left, err)
	}
	if err := p.records.prune(map[string]bool{}); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, pulledDir)); err != nil || len(left) > 0 {
		t.Errorf("records of images that are gone are left: %v, %v", left, err)
	}
}

// TestPullThatWasCutOff leaves an image that nobody may use without credentials.
func TestPullThatWasCutOff(t *testing.T) {
	r := &records{config: Verification{Policy: kubeletconfig.NeverVerifyPreloadedImages, Dir: t.TempDir()}}
	if !r.allows("example.org/a:1", "id", nil) {
		t.Error("a preloaded image is refused")
	}
	if err := r.begin("example.org/a:1"); err != nil {
		t.Fatal(err)
	}
	if r.allows("example.org/a:1", "id", nil) {
		t.Error("an image of a pull that was cut off is given away")
	}
	if err := r.end("example.org/a:1", "id", nil, time.Now()); err != nil || !r.allows("example.org/a:1", "id", nil) {
		t.Errorf("after the pull: %v", err)
	}
}

func TestVerificationPolicies(t *testing.T) {
	for _, test := range []struct {
		policy  kubeletconfig.ImagePullCredentialsVerificationPolicy
		allowed []string
		want    bool
	}{
		{kubeletconfig.NeverVerify, nil, true},
		{kubeletconfig.NeverVerifyPreloadedImages, nil, true},
		{kubeletconfig.AlwaysVerify, nil, false},
		{kubeletconfig.NeverVerifyAllowlistedImages, nil, false},
		{kubeletconfig.NeverVerifyAllowlistedImages, []string{"example.org/team/a"}, true},
		{kubeletconfig.NeverVerifyAllowlistedImages, []string{"example.org/team/*"}, true},
		{kubeletconfig.NeverVerifyAllowlistedImages, []string{"example.org/tea*m"}, false},
	} {
		r := &records{config: Verification{Policy: test.policy, Allowed: test.allowed, Dir: t.TempDir()}}
		if got := r.allows("example.org/team/a:1", "id", nil); got != test.want {
			t.Errorf("%s %v: allows = %v, want %v", test.policy, test.allowed, got, test.want)
		}
	}
}
