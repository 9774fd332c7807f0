// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package legacytoken judges service account tokens in secrets that were made for the account itself, as clusters of old did: the API
// server notes on what day one was used last, and one that nobody has used for a year is marked invalid, and deleted after another year.
//
//	used ─▶ label last-used ─▶ a period without use ─▶ label invalid-since ─▶ a period without use ─▶ deleted
//
// Days are those of UTC; they are the values of labels.
package legacytoken

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Labels of secrets.
const (
	LastUsed     = "kubernetes.io/legacy-token-last-used"
	InvalidSince = "kubernetes.io/legacy-token-invalid-since"
)

// The config map of kube-system that says since when uses are noted, and its key.
const (
	TrackingName = "kube-apiserver-legacy-service-account-token-tracking"
	TrackingKey  = "since"
)

// Period is how long a token must have been unused before it is marked, and marked before it is deleted.
const Period = 365 * 24 * time.Hour

// day is the form of a day.
const day = "2006-01-02"

// Day returns the day of a moment.
func Day(at time.Time) string { return at.UTC().Format(day) }

// IsDay reports whether a text is a day.
func IsDay(text string) bool {
	_, err := time.Parse(day, text)
	return err == nil
}

// Stale reports whether a secret's label of the last use must be set anew. Tomorrow's is not: another API server's clock may be ahead.
func Stale(secret *corev1.Secret, now time.Time) bool {
	used := secret.Labels[LastUsed]
	return used != Day(now) && used != Day(now.AddDate(0, 0, 1))
}

// Generated reports whether a token was made for the account itself, rather than by somebody for a purpose.
func Generated(account *corev1.ServiceAccount, secret string) bool {
	return slices.ContainsFunc(account.Secrets, func(r corev1.ObjectReference) bool { return r.Name == secret })
}

// Action is what to do about a token.
type Action int

// The actions.
const (
	// Keep means to look again after the verdict's delay; never while nothing changes, if that is zero.
	Keep Action = iota
	// Mark means to label the token invalid since today.
	Mark
	// Delete means to delete the secret.
	Delete
)

// Verdict about one token.
type Verdict struct {
	Action Action
	After  time.Duration
}

// Judge decides about a generated token that no pod mounts. Uses are noted since a day; a period is how long unused is too long.
func Judge(secret *corev1.Secret, since string, period time.Duration, now time.Time) (Verdict, error) {
	first, err := time.Parse(day, since)
	if err != nil {
		return Verdict{}, fmt.Errorf("config map %s: %s %q is not a day like %s", TrackingName, TrackingKey, since, day)
	}
	// Each is when something was too long ago. Days count to their end.
	ends := []time.Time{first.AddDate(0, 0, 1).Add(period), secret.CreationTimestamp.Add(period + 1)}
	if used, ok := secret.Labels[LastUsed]; ok {
		at, err := time.Parse(day, used)
		if err != nil {
			return Verdict{}, fmt.Errorf("secret %s/%s: label %s %q is not a day like %s", secret.Namespace, secret.Name, LastUsed, used, day)
		}
		ends = append(ends, at.AddDate(0, 0, 1).Add(period))
	}
	invalid, err := time.Parse(day, secret.Labels[InvalidSince])
	marked := err == nil
	if marked {
		ends = append(ends, invalid.AddDate(0, 0, 1).Add(period))
	}
	last := slices.MaxFunc(ends, time.Time.Compare)
	switch {
	case now.Before(last):
		return Verdict{After: last.Sub(now)}, nil
	case !marked:
		return Verdict{Action: Mark}, nil
	}
	return Verdict{Action: Delete}, nil
}
