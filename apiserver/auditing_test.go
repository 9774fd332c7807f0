// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"kogge.dev/kogge/apiserver"
	"kogge.dev/kogge/apiserver/audit"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/kinds/catalog"
)

// events collects what an auditor records.
type events struct {
	mu  sync.Mutex
	all []*auditv1.Event
}

func (e *events) sink(event *auditv1.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, event)
}

// last returns the newest event of an object in a stage.
func (e *events) last(t *testing.T, name string, stage auditv1.Stage) *auditv1.Event {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range slices.Backward(e.all) {
		if ref := event.ObjectRef; ref != nil && ref.Name == name && event.Stage == stage {
			return event
		}
	}
	t.Fatalf("no event of %s in stage %s", name, stage)
	return nil
}

func TestAuditRecordsEveryDoor(t *testing.T) {
	var recorded events
	auditor, err := audit.New([]byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: RequestResponse}]"), recorded.sink)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, func(c *apiserver.Config) { c.Audit = auditor })
	made := func(name string) *corev1.ConfigMap {
		return &corev1.ConfigMap{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
			Data: map[string]string{"sent": "by-" + name},
		}
	}
	for name, format := range map[string]codec.Format{"json": codec.JSON, "yaml": codec.YAML, "protobuf": codec.Protobuf} {
		var body bytes.Buffer
		if err := codec.Encode(&body, made(name), format); err != nil {
			t.Fatal(err)
		}
		if w := ask(t, s, http.MethodPost, maps, &body, "Content-Type", string(format), "Accept", string(format)); w.Code != http.StatusCreated {
			t.Fatalf("create %s: %d %s", name, w.Code, w.Body)
		}
	}
	local := client.Of[*corev1.ConfigMap](client.New(s.Client(request.User{Name: "component"}), catalog.New()))
	if _, err := local.Create(context.Background(), made("local")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"json", "yaml", "protobuf", "local"} {
		e := recorded.last(t, name, auditv1.StageResponseComplete)
		if e.Verb != "create" || !strings.HasPrefix(e.RequestURI, maps) || e.ResponseStatus == nil {
			t.Errorf("%s: %+v", name, e)
			continue
		}
		if e.RequestObject == nil || !strings.Contains(string(e.RequestObject.Raw), `"sent":"by-`+name) {
			t.Errorf("%s: request object %v, want the config map in JSON", name, e.RequestObject)
		}
		if e.ResponseObject == nil || !strings.Contains(string(e.ResponseObject.Raw), `"uid":`) {
			t.Errorf("%s: response object %v, want the config map as stored", name, e.ResponseObject)
		}
	}
	if e := recorded.last(t, "local", auditv1.StageResponseComplete); e.User.Username != "component" {
		t.Errorf("user of the in-process request: %q", e.User.Username)
	}
	if w := ask(t, s, http.MethodGet, maps+"/missing", nil); w.Code != http.StatusNotFound {
		t.Fatalf("get of what is not there: %d", w.Code)
	}
	if e := recorded.last(t, "missing", auditv1.StageResponseComplete); e.ResponseStatus.Code != http.StatusNotFound || e.ResponseStatus.Reason != metav1.StatusReasonNotFound {
		t.Errorf("status of a refusal: %+v", e.ResponseStatus)
	}
}

// audited starts a server that records everything whole and without managed fields.
func audited(t *testing.T) (*apiserver.Server, *events) {
	t.Helper()
	var recorded events
	auditor, err := audit.New([]byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nomitManagedFields: true\nrules: [{level: RequestResponse}]"), recorded.sink)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, func(c *apiserver.Config) { c.Audit = auditor }), &recorded
}

func TestAuditRecordsWhatAnObjectMeans(t *testing.T) {
	s, recorded := audited(t)
	body := strings.NewReader(`{"metadata": {"name": "web"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}}`)
	if w := ask(t, s, http.MethodPost, "/api/v1/namespaces/default/services", body); w.Code != http.StatusCreated {
		t.Fatalf("create: %d %s", w.Code, w.Body)
	}
	e := recorded.last(t, "web", auditv1.StageResponseComplete)
	for _, want := range []string{`"kind":"Service"`, `"protocol":"TCP"`, `"type":"ClusterIP"`} {
		if e.RequestObject == nil || !strings.Contains(string(e.RequestObject.Raw), want) {
			t.Errorf("request object %v, want it with its defaults: %s", e.RequestObject, want)
		}
	}
	if strings.Contains(string(e.RequestObject.Raw), "clusterIPs") {
		t.Errorf("request object %s has what the server allocates", e.RequestObject.Raw)
	}
	patch := strings.NewReader(`{"metadata": {"labels": {"a": "b"}, "uid": ""}}`)
	if w := ask(t, s, http.MethodPatch, "/api/v1/namespaces/default/services/web", patch, "Content-Type", "application/merge-patch+json"); w.Code != http.StatusOK {
		t.Fatalf("patch: %d %s", w.Code, w.Body)
	}
	e = recorded.last(t, "web", auditv1.StageResponseComplete)
	if got := string(e.RequestObject.Raw); got != `{"metadata": {"labels": {"a": "b"}, "uid": ""}}` {
		t.Errorf("recorded patch: %s", got)
	}
	if w := ask(t, s, http.MethodGet, "/api/v1/namespaces/default/services/web", nil, "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "managedFields") {
		t.Fatalf("table: %d %s", w.Code, w.Body)
	}
	if e = recorded.last(t, "web", auditv1.StageResponseComplete); !strings.Contains(string(e.ResponseObject.Raw), `"rows"`) || strings.Contains(string(e.ResponseObject.Raw), "managedFields") {
		t.Errorf("recorded table: %s", e.ResponseObject.Raw)
	}
	if w := ask(t, s, http.MethodDelete, "/api/v1/namespaces/default/services/web", nil); w.Code != http.StatusOK {
		t.Fatalf("delete: %d %s", w.Code, w.Body)
	}
	if e = recorded.last(t, "web", auditv1.StageResponseComplete); e.RequestObject != nil || e.ResponseStatus.Status != metav1.StatusSuccess && e.ResponseStatus.Status != "" {
		t.Errorf("recorded deletion: %+v", e)
	}
}

func TestAuditShowsNoObjectThatWasNotDecoded(t *testing.T) {
	s, recorded := audited(t)
	w := ask(t, s, http.MethodPost, maps+"?fieldValidation=Strict", strings.NewReader(`{"metadata": {"name": "strict"}, "surprise": 1}`))
	if w.Code != http.StatusBadRequest {
		t.Fatalf("create: %d %s", w.Code, w.Body)
	}
	e := recorded.all[len(recorded.all)-1]
	if e.RequestObject != nil || e.ObjectRef.Name != "" || e.ResponseStatus.Reason != metav1.StatusReasonBadRequest {
		t.Errorf("recorded: %+v", e)
	}
	if w := ask(t, s, http.MethodGet, "/version", nil); w.Code != http.StatusOK {
		t.Fatalf("version: %d", w.Code)
	}
	if e := recorded.all[len(recorded.all)-1]; e.RequestURI != "/version" || e.ResponseObject != nil {
		t.Errorf("recorded version: %+v", e)
	}
}

func TestAuditTellsOfADeletionWhatItsStatusDoes(t *testing.T) {
	s, recorded := audited(t)
	if w := ask(t, s, http.MethodPost, maps, strings.NewReader(`{"metadata": {"name": "gone"}}`)); w.Code != http.StatusCreated {
		t.Fatalf("create: %d", w.Code)
	}
	if w := ask(t, s, http.MethodDelete, maps+"/gone", nil); w.Code != http.StatusOK {
		t.Fatalf("delete: %d", w.Code)
	}
	status := recorded.last(t, "gone", auditv1.StageResponseComplete).ResponseStatus
	if status.Status != metav1.StatusSuccess || status.Details == nil || status.Details.Kind != "configmaps" || status.Details.UID == "" {
		t.Errorf("recorded status: %+v", status)
	}
}

func TestAuditTellsWhyAWatchIsRefused(t *testing.T) {
	s, recorded := audited(t)
	if w := ask(t, s, http.MethodGet, maps+"?watch=1&resourceVersion=x&fieldSelector=metadata.name%3Dw", nil); w.Code < http.StatusBadRequest {
		t.Fatalf("watch: %d", w.Code)
	}
	for _, stage := range []auditv1.Stage{auditv1.StageResponseStarted, auditv1.StageResponseComplete} {
		e := recorded.last(t, "w", stage)
		if !strings.Contains(e.ResponseStatus.Message, "invalid syntax") || e.ResponseObject == nil {
			t.Errorf("%s: status %+v, object %v", stage, e.ResponseStatus, e.ResponseObject)
		}
	}
}

func TestAuditMarksDeprecatedKinds(t *testing.T) {
	s, recorded := audited(t)
	ask(t, s, http.MethodGet, "/api/v1/namespaces/default/endpoints/old", nil)
	if e := recorded.last(t, "old", auditv1.StageResponseComplete); e.Annotations["k8s.io/deprecated"] != "true" {
		t.Errorf("annotations: %v", e.Annotations)
	}
}

func TestAuditRecordsTheBeginningOfAWatch(t *testing.T) {
	var recorded events
	auditor, err := audit.New([]byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]"), recorded.sink)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, func(c *apiserver.Config) { c.Audit = auditor })
	if w := ask(t, s, http.MethodGet, maps+"?watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3Dw", nil); w.Code != http.StatusOK {
		t.Fatalf("watch: %d", w.Code)
	}
	var stages []string
	for _, e := range recorded.all {
		if e.ObjectRef != nil && e.ObjectRef.Name == "w" {
			stages = append(stages, string(e.Stage))
		}
	}
	if got := strings.Join(stages, " "); got != "RequestReceived ResponseStarted ResponseComplete" {
		t.Errorf("stages of a watch: %s", got)
	}
}
