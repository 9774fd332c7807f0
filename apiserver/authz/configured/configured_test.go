// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package configured

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/apiserver/reviewhook"
	"kogge.dev/kogge/expr"
)

// judge is an authorization webhook over TLS.
type judge struct {
	*httptest.Server

	mu sync.Mutex
	// bodies are what it was asked.
	bodies []string
	// answers are codes to give before it works; status is what it answers.
	answers []int
	status  authorizationv1.SubjectAccessReviewStatus
}

func newJudge(t *testing.T) *judge {
	t.Helper()
	j := &judge{}
	j.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		j.mu.Lock()
		defer j.mu.Unlock()
		var in json.RawMessage
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		j.bodies = append(j.bodies, string(in))
		if len(j.answers) > 0 {
			code := j.answers[0]
			j.answers = j.answers[1:]
			http.Error(w, "not now", code)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"status": j.status})
	}))
	t.Cleanup(j.Close)
	return j
}

func (j *judge) asked() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.bodies
}

func (j *judge) says(status authorizationv1.SubjectAccessReviewStatus, before ...int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.status, j.answers = status, before
}

// fixed is a built-in authorizer that always says the same.
type fixed authz.Decision

func (f fixed) Authorize(context.Context, *authz.Attributes) (authz.Decision, string, error) {
	return authz.Decision(f), "", nil
}

// start makes a chain from a file and watches it until the test ends.
func start(t *testing.T, j *judge, file string) (*Chain, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "authorization.yaml")
	write(t, path, file)
	c, err := New(Config{
		Path: path, BuiltIn: map[string]authz.Authorizer{"Node": fixed(authz.NoOpinion), "RBAC": fixed(authz.NoOpinion)},
		Dial: func(string, time.Duration) (*reviewhook.Server, error) {
			return &reviewhook.Server{URL: j.URL + "/judge", Client: j.Client()}, nil
		},
		Compiler: expr.NewCompiler(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c, path
}

func write(t *testing.T, path, file string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(fileHead+file), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func get(user, namespace string) *authz.Attributes {
	return &authz.Attributes{User: request.User{Name: user, Groups: []string{"g"}}, ResourceRequest: true, Verb: "get", APIVersion: "v1", Resource: "pods", Namespace: namespace}
}

var (
	allowed = authorizationv1.SubjectAccessReviewStatus{Allowed: true}
	denied  = authorizationv1.SubjectAccessReviewStatus{Denied: true, Reason: "not you"}
)

func TestDecisions(t *testing.T) {
	j := newJudge(t)
	c, _ := start(t, j, good("/proc/self/exe", "")+"- {type: RBAC, name: rbac}\n")
	for i, step := range []struct {
		status authorizationv1.SubjectAccessReviewStatus
		want   authz.Decision
		reason string
		err    bool
	}{
		{allowed, authz.Allow, "", false},
		{denied, authz.Deny, "not you", false},
		{authorizationv1.SubjectAccessReviewStatus{Reason: "who knows"}, authz.NoOpinion, "who knows", false},
		{authorizationv1.SubjectAccessReviewStatus{Allowed: true, Denied: true}, authz.Deny, "", true},
	} {
		j.says(step.status)
		for range 3 { // The second and third answers are remembered.
			d, reason, err := c.Authorize(t.Context(), get(fmt.Sprint("user", i), "ns"))
			if d != step.want || reason != step.reason || (err != nil) != step.err {
				t.Errorf("%+v: %v, %q, %v", step.status, d, reason, err)
			}
		}
		if n := len(j.asked()); n != i+1 {
			t.Errorf("%+v: the webhook was asked %d times, want %d", step.status, n, i+1)
		}
	}
	before := len(j.asked())
	if d, _, _ := c.Authorize(t.Context(), &authz.Attributes{User: request.User{Groups: []string{request.GroupMasters}}}); d != authz.Allow || len(j.asked()) != before {
		t.Error("system:masters depend on a webhook")
	}
	if !c.HasWebhooks() {
		t.Error("HasWebhooks = false")
	}
}

// TestWhatIsAsked holds the review that goes out, selectors and all.
func TestWhatIsAsked(t *testing.T) {
	j := newJudge(t)
	c, _ := start(t, j, good("/proc/self/exe", ""))
	a := get("alice", "ns")
	a.User.UID, a.User.Extra, a.Verb = "7", map[string][]string{"example.org/k": {"v"}}, "list"
	a.FieldSelector = fields.ParseSelectorOrDie("spec.nodeName=n1,status.phase!=Failed").Requirements()
	selector, err := labels.Parse("app in (b,a),!gone,tier!=x")
	if err != nil {
		t.Fatal(err)
	}
	a.LabelSelector, _ = selector.Requirements()
	if _, _, err := c.Authorize(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Authorize(t.Context(), &authz.Attributes{User: a.User, Verb: "get", Path: "/metrics"}); err != nil {
		t.Fatal(err)
	}
	want := []authorizationv1.SubjectAccessReviewSpec{{
		User: "alice", UID: "7", Groups: []string{"g"}, Extra: map[string]authorizationv1.ExtraValue{"example.org/k": {"v"}},
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: "ns", Verb: "list", Version: "v1", Resource: "pods",
			FieldSelector: &authorizationv1.FieldSelectorAttributes{Requirements: []metav1.FieldSelectorRequirement{
				{Key: "spec.nodeName", Operator: metav1.FieldSelectorOpIn, Values: []string{"n1"}},
				{Key: "status.phase", Operator: metav1.FieldSelectorOpNotIn, Values: []string{"Failed"}},
			}},
			LabelSelector: &authorizationv1.LabelSelectorAttributes{Requirements: []metav1.LabelSelectorRequirement{
				{Key: "app", Operator: metav1.LabelSelectorOpIn, Values: []string{"a", "b"}},
				{Key: "gone", Operator: metav1.LabelSelectorOpDoesNotExist},
				{Key: "tier", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"x"}},
			}},
		},
	}, {
		User: "alice", UID: "7", Groups: []string{"g"}, Extra: map[string]authorizationv1.ExtraValue{"example.org/k": {"v"}},
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: "/metrics", Verb: "get"},
	}}
	for i, body := range j.asked() {
		var got authorizationv1.SubjectAccessReview
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(err)
		}
		if got.APIVersion != "authorization.k8s.io/v1" || got.Kind != "SubjectAccessReview" {
			t.Errorf("type %s %s", got.APIVersion, got.Kind)
		}
		if diff := cmp.Diff(want[i], got.Spec); diff != "" {
			t.Error(diff)
		}
	}
}

func TestOldVersion(t *testing.T) {
	j := newJudge(t)
	j.says(allowed)
	c, _ := start(t, j, good("/proc/self/exe", "subjectAccessReviewVersion: v1beta1"))
	if d, _, err := c.Authorize(t.Context(), get("a", "ns")); d != authz.Allow || err != nil {
		t.Errorf("%v, %v", d, err)
	}
	if body := j.asked()[0]; !strings.Contains(body, `"group":["g"]`) || !strings.Contains(body, "authorization.k8s.io/v1beta1") {
		t.Errorf("asked: %s", body)
	}
}

func TestFailures(t *testing.T) {
	j := newJudge(t)
	open, _ := start(t, j, good("/proc/self/exe", ""))
	shut, _ := start(t, j, good("/proc/self/exe", "failurePolicy: Deny"))
	// Two answers that may pass, then a good one.
	j.says(allowed, http.StatusInternalServerError, http.StatusTooManyRequests)
	if d, _, err := open.Authorize(t.Context(), get("a", "ns")); d != authz.Allow || err != nil || len(j.asked()) != 3 {
		t.Errorf("after two failures: %v, %v, asked %d times", d, err, len(j.asked()))
	}
	for name, c := range map[string]struct {
		chain *Chain
		want  authz.Decision
	}{"open": {open, authz.NoOpinion}, "shut": {shut, authz.Deny}} {
		before := len(j.asked())
		j.says(allowed, http.StatusForbidden)
		d, _, err := c.chain.Authorize(t.Context(), get("b", "ns"))
		if d != c.want || err == nil || !strings.Contains(err.Error(), "403") || len(j.asked()) != before+1 {
			t.Errorf("%s: %v, %v, asked %d times", name, d, err, len(j.asked())-before)
		}
	}
}

func TestMatchConditions(t *testing.T) {
	j := newJudge(t)
	j.says(denied)
	c, _ := start(t, j, good("/proc/self/exe", "failurePolicy: Deny\nmatchConditionSubjectAccessReviewVersion: v1\n"+
		`matchConditions: [{expression: 'request.user != "system:mine"'}, {expression: 'request.resourceAttributes.namespace.startsWith("t-")'}]`))
	for user, want := range map[string]struct {
		attributes *authz.Attributes
		decision   authz.Decision
		err        bool
	}{
		"asked":             {get("alice", "t-1"), authz.Deny, false},
		"another namespace": {get("alice", "x"), authz.NoOpinion, false},
		"left out":          {get("system:mine", "t-1"), authz.NoOpinion, false},
		"not evaluated":     {&authz.Attributes{User: request.User{Name: "alice"}, Verb: "get", Path: "/x"}, authz.Deny, true},
	} {
		d, _, err := c.Authorize(t.Context(), want.attributes)
		if d != want.decision || (err != nil) != want.err {
			t.Errorf("%s: %v, %v", user, d, err)
		}
	}
	if n := len(j.asked()); n != 1 {
		t.Errorf("the webhook was asked %d times, want once", n)
	}
}

func TestReload(t *testing.T) {
	j := newJudge(t)
	j.says(denied)
	c, path := start(t, j, "authorizers: [{type: RBAC, name: rbac}]\n")
	decides := func(user string, want authz.Decision) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; {
			d, _, _ := c.Authorize(t.Context(), get(user, "ns"))
			if d == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("decision %v, want %v", d, want)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	decides("a", authz.NoOpinion)
	write(t, path, good("/proc/self/exe", "")+"- {type: RBAC, name: rbac}\n")
	decides("a", authz.Deny)
	for _, wrong := range []string{good("/proc/self/exe", ""), "authorizers: [{type: RBAC, name: rbac}, {type: Node, name: node}]\n"} {
		if err := c.apply(t.Context(), []byte(fileHead+wrong)); err == nil {
			t.Errorf("a change of the built-in types is accepted: %s", wrong)
		}
	}
}
