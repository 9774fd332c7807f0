// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package legacytokencleaner_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/controllers/legacytokencleaner"
	"kogge.dev/kogge/reconcile"
	"kogge.dev/kogge/rules/legacytoken"
	"kogge.dev/kogge/testcluster"
)

// TestUnusedTokensAreMarkedAndDeleted has an account with three tokens of its own, of which a pod mounts one and somebody uses one, and one
// that somebody made for a purpose. A period is two days.
func TestUnusedTokensAreMarkedAndDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := testcluster.New(t, testcluster.Config{Without: control.Components{Controllers: true, Scheduler: true, Cloud: true}})
		c, ctx := cluster.Admin(), t.Context()
		own := cluster.As("system:serviceaccount:kube-system:legacy-service-account-token-cleaner")
		testcluster.RunLoop(t, c, own, func(scope reconcile.Scope) *reconcile.Loop { return legacytokencleaner.New(scope, 48*time.Hour) })
		secrets, pods := client.Of[*corev1.Secret](c), client.Of[*corev1.Pod](c)
		account := &corev1.ServiceAccount{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "robot"}, Secrets: []corev1.ObjectReference{{Name: "idle"}, {Name: "mounted"}, {Name: "used"}},
		}
		if _, err := client.Of[*corev1.ServiceAccount](c).Create(ctx, account); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"idle", "mounted", "used", "manual"} {
			s := &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Annotations: map[string]string{corev1.ServiceAccountNameKey: "robot"}},
				Type:       corev1.SecretTypeServiceAccountToken,
			}
			if name == "used" {
				s.Labels = map[string]string{legacytoken.LastUsed: legacytoken.Day(time.Now().AddDate(0, 0, 30))}
			}
			if _, err := secrets.Create(ctx, s); err != nil {
				t.Fatal(err)
			}
		}
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p"},
			Spec: corev1.PodSpec{
				ServiceAccountName: "robot", AutomountServiceAccountToken: new(false),
				Containers: []corev1.Container{{Name: "c", Image: "i"}},
				Volumes:    []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "mounted"}}}},
			},
		}
		if _, err := pods.Create(ctx, pod); err != nil {
			t.Fatal(err)
		}
		// invalid maps the tokens that are there to the day on which they were marked, "" if they were not.
		expect := func(after time.Duration, want map[string]string) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			list, err := secrets.List(ctx, "default", metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, s := range list.Items {
				got[s.Name] = s.Labels[legacytoken.InvalidSince]
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("tokens at %s (-want +got):\n%s", time.Now().UTC(), diff)
			}
		}
		// The bubble begins on 2000-01-01 at 00:00 UTC: that day counts as tracked from its end on.
		expect(71*time.Hour, map[string]string{"idle": "", "mounted": "", "used": "", "manual": ""})
		expect(2*time.Hour, map[string]string{"idle": "2000-01-04", "mounted": "", "used": "", "manual": ""})
		if err := pods.Delete(ctx, "default", "p", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
			t.Fatal(err)
		}
		expect(24*time.Hour, map[string]string{"idle": "2000-01-04", "mounted": "2000-01-05", "used": "", "manual": ""})
		expect(48*time.Hour, map[string]string{"mounted": "2000-01-05", "used": "", "manual": ""})
		expect(24*time.Hour, map[string]string{"used": "", "manual": ""})
	})
}
