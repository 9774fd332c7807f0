// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"kogge.dev/kogge/apiserver/request"
)

const testPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: [quiet]}
- {level: RequestResponse, omitManagedFields: true, resources: [{resources: [configmaps]}]}
- {level: Request, verbs: [create]}
- {level: Metadata}
`

// run records one request and returns its events.
func run(t *testing.T, state *request.State, do func(trail *Trail)) []*auditv1.Event {
	t.Helper()
	var events []*auditv1.Event
	a, err := New([]byte(testPolicy), func(e *auditv1.Event) { events = append(events, e) })
	if err != nil {
		t.Fatal(err)
	}
	trail := a.Begin(state)
	if trail == nil {
		return nil
	}
	trail.Stage(auditv1.StageRequestReceived, nil)
	do(trail)
	trail.Stage(auditv1.StageResponseComplete, &metav1.Status{Code: http.StatusOK})
	return events
}

func stateOf(user, verb, resource string) *request.State {
	return &request.State{
		User: request.User{Name: user}, AuditID: "id",
		Info: request.Info{IsResource: true, Verb: verb, GroupVersionResource: schema.GroupVersionResource{Version: "v1", Resource: resource}, Namespace: "n"},
	}
}

const object = `{"kind":"ConfigMap","metadata":{"name":"c","uid":"u","managedFields":[{"manager":"m"}]},"data":{"a":"b"}}`

func TestPolicyDecidesWhatIsRecorded(t *testing.T) {
	send := func(trail *Trail) {
		trail.Request([]byte(object))
		trail.Response([]byte(object))
	}
	if events := run(t, stateOf("quiet", "get", "pods"), send); len(events) != 0 {
		t.Errorf("%d events of a request of level None", len(events))
	}
	for _, c := range []struct {
		name, verb, resource string
		level                auditv1.Level
		request, response    bool
	}{
		{"metadata", "get", "pods", auditv1.LevelMetadata, false, false},
		{"request", "create", "pods", auditv1.LevelRequest, true, false},
		{"both", "update", "configmaps", auditv1.LevelRequestResponse, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			events := run(t, stateOf("alice", c.verb, c.resource), send)
			if len(events) != 1 || events[0].Stage != auditv1.StageResponseComplete {
				t.Fatalf("events %+v, want one of stage ResponseComplete", events)
			}
			e := events[0]
			if e.Level != c.level || (e.RequestObject != nil) != c.request || (e.ResponseObject != nil) != c.response {
				t.Errorf("level %s, request %v, response %v; want %s, %v, %v", e.Level, e.RequestObject, e.ResponseObject, c.level, c.request, c.response)
			}
			if e.ObjectRef.Name != "c" || e.ObjectRef.UID != "u" || e.ObjectRef.Namespace != "n" {
				t.Errorf("reference %+v, want the name and uid of what was sent", e.ObjectRef)
			}
			if c.response && strings.Contains(string(e.ResponseObject.Raw), "managedFields") {
				t.Errorf("managed fields are recorded though the rule omits them: %s", e.ResponseObject.Raw)
			}
		})
	}
}

func TestDetailsAreRecordedWithTheRequest(t *testing.T) {
	for verb, want := range map[string]int{"get": 1, "create": 2} {
		state := stateOf("alice", verb, "pods")
		events := run(t, state, func(*Trail) {
			state.Annotate("a/b", "c")
			state.AnnotateDetail("d/e", "f")
		})
		if got := events[0].Annotations; len(got) != want || got["a/b"] != "c" {
			t.Errorf("%s: annotations %v, want %d", verb, got, want)
		}
	}
}

func TestImpersonationIsRecorded(t *testing.T) {
	for _, c := range []struct {
		as         request.User
		constraint string
	}{
		{request.User{Name: "bob"}, ""},
		{request.User{Name: "alice", Extra: map[string][]string{"scopes": {"view"}}}, "impersonate:user-info"}, // oneself, with less
	} {
		state := stateOf("alice", "get", "pods")
		events := run(t, state, func(*Trail) { state.User, state.Impersonated, state.Constraint = c.as, true, c.constraint })
		e := events[0]
		if e.User.Username != "alice" || e.ImpersonatedUser == nil || e.ImpersonatedUser.Username != c.as.Name || len(e.ImpersonatedUser.Extra) != len(c.as.Extra) {
			t.Errorf("user %s, impersonated %v; want alice as %v", e.User.Username, e.ImpersonatedUser, c.as)
		}
		told := ""
		if e.AuthenticationMetadata != nil {
			told = e.AuthenticationMetadata.ImpersonationConstraint
		}
		if told != c.constraint {
			t.Errorf("constraint %q, want %q", told, c.constraint)
		}
	}
}

func TestBadPolicies(t *testing.T) {
	sink := func(*auditv1.Event) {}
	for _, c := range []struct{ policy, want string }{
		{"rules: []", "unknown group version"},
		{"apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Everything}]", "Everything"},
	} {
		if _, err := New([]byte(c.policy), sink); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("New(%q) = %v, want an error with %q", c.policy, err, c.want)
		}
	}
	if _, err := New([]byte(testPolicy)); err == nil {
		t.Error("a policy without a sink was taken")
	}
}

func TestFileHoldsOneLineForEachEvent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	sink, file := File(FileConfig{Path: path}, io.Discard, slog.New(slog.DiscardHandler))
	for _, id := range []string{"one", "two"} {
		sink(&auditv1.Event{AuditID: types.UID("id-" + id)})
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for line := range strings.Lines(string(text)) {
		var e auditv1.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		ids = append(ids, string(e.AuditID))
	}
	if want := []string{"id-one", "id-two"}; !slices.Equal(ids, want) {
		t.Errorf("audit ids %v, want %v", ids, want)
	}
}

func TestFileIsBegunAnewWhenItIsFull(t *testing.T) {
	dir := t.TempDir()
	sink, file := File(FileConfig{Path: filepath.Join(dir, "audit.log"), MaxSize: 1, MaxBackups: 2}, nil, slog.New(slog.DiscardHandler))
	event := &auditv1.Event{RequestURI: strings.Repeat("/", 300<<10)}
	for range 14 { // more than four megabytes
		sink(event)
		time.Sleep(2 * time.Millisecond) // old files are named by the time
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	var names []string
	for end := time.Now().Add(5 * time.Second); ; { // old files are removed beside the writing
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		names = names[:0]
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				continue // it has just gone
			}
			if info.Size() > 1<<20 {
				t.Errorf("%s has %d bytes, more than a megabyte", e.Name(), info.Size())
			}
			names = append(names, e.Name())
		}
		if len(names) == 3 || time.Now().After(end) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if len(names) != 3 || !slices.Contains(names, "audit.log") {
		t.Errorf("files %v, want audit.log and two older ones", names)
	}
}

func TestWebhookDeliversBeforeItEnds(t *testing.T) {
	got := make(chan auditv1.EventList, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var list auditv1.EventList
		if err := json.NewDecoder(r.Body).Decode(&list); err != nil {
			t.Error(err)
		}
		got <- list
	}))
	defer server.Close()
	hook := NewWebhook(server.URL, server.Client(), slog.New(slog.DiscardHandler))
	hook.Sink(&auditv1.Event{AuditID: "one"})
	hook.Sink(&auditv1.Event{AuditID: "two"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := hook.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if list := <-got; len(list.Items) != 2 || list.Kind != "EventList" {
		t.Errorf("delivered %+v, want a list of two events", list)
	}
}

func TestRefusedCredentialsAreNobodys(t *testing.T) {
	const text = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: %s, users: [\"\"]}, {level: %s}]"
	state := stateOf("", "get", "pods")
	for _, c := range []struct {
		named, rest string
		want        bool
	}{{"Metadata", "None", false}, {"None", "Metadata", true}} {
		a, err := New(fmt.Appendf(nil, text, c.named, c.rest), func(*auditv1.Event) {})
		if err != nil {
			t.Fatal(err)
		}
		if got := a.BeginRefused(state) != nil; got != c.want {
			t.Errorf("with users: %s, without: %s: recorded %v, want %v", c.named, c.rest, got, c.want)
		}
	}
}

func TestAPatchIsRecordedAsItIs(t *testing.T) {
	const patch = `{"metadata": {"name": "other", "uid": "v", "managedFields": []}}`
	events := run(t, stateOf("u", "patch", "configmaps"), func(trail *Trail) { trail.Patch([]byte(patch)) })
	if len(events) != 1 || string(events[0].RequestObject.Raw) != patch || events[0].ObjectRef.Name != "" || events[0].ObjectRef.UID != "" {
		t.Errorf("events: %+v", events)
	}
}
