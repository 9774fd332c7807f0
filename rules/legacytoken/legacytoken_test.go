// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package legacytoken

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	moment, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return moment
}

// A period of ten days keeps the table readable.
func TestJudge(t *testing.T) {
	const period = 10 * 24 * time.Hour
	for _, c := range []struct {
		what, since, created string
		labels               map[string]string
		now                  string
		want                 Verdict
	}{
		{"noted for too short a time", "2026-03-01", "2026-01-01T00:00:00Z", nil, "2026-03-11T23:00:00Z", Verdict{After: time.Hour}},
		{"noted long enough", "2026-03-01", "2026-01-01T00:00:00Z", nil, "2026-03-12T00:00:00Z", Verdict{Action: Mark}},
		{"made too recently", "2026-01-01", "2026-03-01T12:00:00Z", nil, "2026-03-11T12:00:00Z", Verdict{After: 1}},
		{"old enough", "2026-01-01", "2026-03-01T12:00:00Z", nil, "2026-03-11T12:00:01Z", Verdict{Action: Mark}},
		{"used too recently", "2026-01-01", "2026-01-01T00:00:00Z", map[string]string{LastUsed: "2026-03-01"}, "2026-03-11T23:59:59Z", Verdict{After: time.Second}},
		{"unused long enough", "2026-01-01", "2026-01-01T00:00:00Z", map[string]string{LastUsed: "2026-03-01"}, "2026-03-12T00:00:00Z", Verdict{Action: Mark}},
		{"marked today", "2026-01-01", "2026-01-01T00:00:00Z", map[string]string{InvalidSince: "2026-03-01"}, "2026-03-01T00:00:00Z", Verdict{After: 11 * 24 * time.Hour}},
		{"marked long enough", "2026-01-01", "2026-01-01T00:00:00Z", map[string]string{InvalidSince: "2026-03-01"}, "2026-03-12T00:00:00Z", Verdict{Action: Delete}},
		{"marked, and tried since", "2026-01-01", "2026-01-01T00:00:00Z", map[string]string{InvalidSince: "2026-03-01", LastUsed: "2026-03-05"}, "2026-03-15T12:00:00Z", Verdict{After: 12 * time.Hour}},
		{"marked by nonsense", "2026-01-01", "2026-01-01T00:00:00Z", map[string]string{InvalidSince: "once"}, "2026-03-12T00:00:00Z", Verdict{Action: Mark}},
	} {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
			Namespace: "n", Name: "s", CreationTimestamp: metav1.NewTime(at(t, c.created)), Labels: c.labels,
		}}
		got, err := Judge(secret, c.since, period, at(t, c.now))
		if err != nil || got != c.want {
			t.Errorf("%s: Judge() = %+v, %v, want %+v", c.what, got, err, c.want)
		}
	}
}

func TestJudgeNamesWhatItCanNotRead(t *testing.T) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "s", Labels: map[string]string{LastUsed: "yesterday"}}}
	if _, err := Judge(secret, "2026-01-01", Period, time.Now()); err == nil || !strings.Contains(err.Error(), `secret n/s: label kubernetes.io/legacy-token-last-used "yesterday"`) {
		t.Errorf("Judge() of a wrong label = %v", err)
	}
	if _, err := Judge(secret, "long ago", Period, time.Now()); err == nil || !strings.Contains(err.Error(), `since "long ago"`) {
		t.Errorf("Judge() of a wrong config map = %v", err)
	}
}

func TestStale(t *testing.T) {
	now := at(t, "2026-03-01T23:30:00Z")
	for used, want := range map[string]bool{"": true, "2026-02-28": true, "2026-03-01": false, "2026-03-02": false, "2026-03-03": true} {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{LastUsed: used}}}
		if got := Stale(secret, now.In(time.FixedZone("east", 3600))); got != want {
			t.Errorf("Stale(%q) = %v, want %v", used, got, want)
		}
	}
}
