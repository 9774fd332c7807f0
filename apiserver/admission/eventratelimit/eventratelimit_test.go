// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package eventratelimit_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/admission/eventratelimit"
	"kogge.dev/kogge/apiserver/request"
)

const head = "apiVersion: eventratelimit.admission.k8s.io/v1alpha1\nkind: Configuration\n"

func TestRead(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"good", head + "limits: [{type: Server, qps: 50, burst: 100}, {type: User, qps: 5, burst: 10, cacheSize: 3}]", ""},
		{"no limits", head, "limits: Invalid value: null: must not be empty"},
		{"unknown type", head + "limits: [{type: Pod, qps: 1, burst: 1}]", `limits[0].type: Unsupported value: "Pod": supported values: "Namespace", "Server", "SourceAndObject", "User"`},
		{"no rate", head + "limits: [{type: Server, burst: 1}]", "limits[0].qps: Invalid value: 0: must be positive"},
		{"no burst", head + "limits: [{type: Server, qps: 1, burst: -1}]", "limits[0].burst: Invalid value: -1: must be positive"},
		{"no cache", head + "limits: [{type: User, qps: 1, burst: 1, cacheSize: -1}]", "limits[0].cacheSize: Invalid value: -1: must not be negative"},
		{"unknown field", head + "limits: [{type: Server, qps: 1, burst: 1, per: minute}]", `unknown field "limits[0].per"`},
		{"another kind", "apiVersion: v1\nkind: Pod\n", `no kind "Pod" is registered for version "v1"`},
	} {
		_, err := eventratelimit.Read([]byte(test.text))
		if got := fmt.Sprint(err); test.want == "" && err != nil || test.want != "" && !strings.Contains(got, test.want) {
			t.Errorf("%s: Read() = %s, want %q", test.name, got, test.want)
		}
	}
}

func event(namespace, user, about string) *admission.Attributes {
	return &admission.Attributes{
		Operation: admission.Create, Kind: schema.GroupVersionKind{Version: "v1", Kind: "Event"}, Namespace: namespace, User: request.User{Name: user},
		Object: &corev1.Event{Source: corev1.EventSource{Component: "c"}, InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: about}},
	}
}

// Each type of limit has a bucket for each of its keys, which fills with time.
func TestLimits(t *testing.T) {
	for _, test := range []struct {
		limit string
		// shared events take from one bucket, other has one of its own unless there is only one.
		shared [3]*admission.Attributes
		other  *admission.Attributes
		key    string
	}{
		{"Server", [3]*admission.Attributes{event("a", "x", "1"), event("b", "y", "2"), event("c", "z", "3")}, nil, ""},
		{"Namespace", [3]*admission.Attributes{event("a", "x", "1"), event("a", "y", "2"), event("a", "z", "3")}, event("b", "x", "1"), "a"},
		{"User", [3]*admission.Attributes{event("a", "x", "1"), event("b", "x", "2"), event("c", "x", "3")}, event("a", "y", "1"), "x"},
		{"SourceAndObject", [3]*admission.Attributes{event("a", "x", "1"), event("a", "y", "1"), event("b", "z", "1")}, event("a", "x", "2"), "cPod1"},
	} {
		t.Run(test.limit, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, err := eventratelimit.Read([]byte(head + "limits: [{qps: 1, burst: 2, type: " + test.limit + "}]"))
				if err != nil {
					t.Fatal(err)
				}
				p := eventratelimit.New(c)
				for _, a := range test.shared[:2] {
					if err := p.Validate(t.Context(), a); err != nil {
						t.Fatal(err)
					}
				}
				err = p.Validate(t.Context(), test.shared[2])
				if want := fmt.Sprintf("limit reached on type %s for key %s", test.limit, test.key); !apierrors.IsTooManyRequests(err) || !strings.Contains(err.Error(), want) {
					t.Errorf("third event: %v, want %q", err, want)
				}
				if test.other != nil {
					if err := p.Validate(t.Context(), test.other); err != nil {
						t.Errorf("event of another key: %v", err)
					}
				}
				time.Sleep(time.Second)
				if err := p.Validate(t.Context(), test.shared[2]); err != nil {
					t.Errorf("a second later: %v", err)
				}
			})
		})
	}
}

// Dry runs, other kinds and deletions are not counted.
func TestWhatIsNotCounted(t *testing.T) {
	c, err := eventratelimit.Read([]byte(head + "limits: [{qps: 1, burst: 1, type: Server}]"))
	if err != nil {
		t.Fatal(err)
	}
	p := eventratelimit.New(c)
	dry, pod, gone := event("a", "x", "1"), event("a", "x", "1"), event("a", "x", "1")
	dry.DryRun, pod.Kind.Kind, gone.Operation = true, "Pod", admission.Delete
	for _, a := range []*admission.Attributes{dry, pod, gone, event("a", "x", "1")} {
		if err := p.Validate(t.Context(), a); err != nil {
			t.Errorf("%s %s: %v", a.Operation, a.Kind.Kind, err)
		}
	}
}
