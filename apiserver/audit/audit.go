// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package audit records who asked the API server for what, and what it answered (audit.k8s.io/v1). A policy says which requests are
// recorded, and in which detail; sinks keep the records.
package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	upstream "k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/audit/policy"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"kogge.dev/kogge/apiserver/request"
)

// maxAgent bounds a recorded user agent; what clients send is theirs to choose.
const maxAgent = 1024

// Sink keeps records. It is called by many requests at a time, with an event that is its own.
type Sink func(event *auditv1.Event)

// Auditor decides what is recorded.
type Auditor struct {
	rules upstream.PolicyRuleEvaluator
	sinks []Sink
	now   func() time.Time
}

// New makes an auditor from a policy in YAML or JSON (audit.k8s.io/v1 Policy). Events go to all sinks.
func New(policyText []byte, sinks ...Sink) (*Auditor, error) {
	if len(sinks) == 0 {
		return nil, errors.New("audit: a policy without a log file or a webhook records nothing")
	}
	p, err := policy.LoadPolicyFromBytes(policyText)
	if err != nil {
		return nil, fmt.Errorf("audit policy: %w", err)
	}
	return &Auditor{rules: policy.NewPolicyRuleEvaluator(p), sinks: sinks, now: time.Now}, nil
}

// Trail is the record of one request in the making.
type Trail struct {
	auditor *Auditor
	state   *request.State
	config  upstream.RequestAuditConfig
	// user is who asked, also when they act as another.
	user request.User
	// request and response are JSON, or nil.
	request, response []byte
	// patch says that the request is one: it is recorded as it is.
	patch bool
	// sent is the metadata of the object that was sent.
	sent metav1.PartialObjectMetadata
}

// Begin starts the trail of a request whose user is known; nil when nothing of it is recorded.
func (a *Auditor) Begin(state *request.State) *Trail {
	if a == nil {
		return nil
	}
	u := &state.User
	return a.begin(state, &user.DefaultInfo{Name: u.Name, UID: u.UID, Groups: u.Groups, Extra: u.Extra})
}

// BeginRefused starts the trail of a request whose credentials were refused: no rule that names users or groups is about it.
func (a *Auditor) BeginRefused(state *request.State) *Trail {
	if a == nil {
		return nil
	}
	return a.begin(state, nil)
}

func (a *Auditor) begin(state *request.State, who user.Info) *Trail {
	i := &state.Info
	config := a.rules.EvaluatePolicyRule(authorizer.AttributesRecord{
		User: who,
		Verb: i.Verb, Namespace: i.Namespace, APIGroup: i.Group, APIVersion: i.Version, Resource: i.Resource, Subresource: i.Subresource,
		Name: i.Name, ResourceRequest: i.IsResource, Path: i.Path,
	})
	if auditv1.Level(config.Level) == auditv1.LevelNone {
		return nil
	}
	return &Trail{auditor: a, state: state, config: config, user: state.User}
}

// WantsResponse tells whether the policy asks for answers.
func (t *Trail) WantsResponse() bool {
	return auditv1.Level(t.config.Level) == auditv1.LevelRequestResponse
}

// Request notes the object that was sent, in JSON. Its metadata completes the reference to the object at every level.
func (t *Trail) Request(object []byte) {
	t.request = object
	t.sent = metav1.PartialObjectMetadata{}
	if json.Unmarshal(object, &t.sent) != nil {
		t.sent = metav1.PartialObjectMetadata{}
	}
}

// Patch notes the patch that was sent, in JSON.
func (t *Trail) Patch(text []byte) { t.request, t.patch = text, true }

// Response notes the object that was answered, in JSON.
func (t *Trail) Response(object []byte) { t.response = object }

// Stage records that a request has reached a stage; status is the answer's, nil before there is one.
func (t *Trail) Stage(stage auditv1.Stage, status *metav1.Status) {
	for _, omitted := range t.config.OmitStages {
		if auditv1.Stage(omitted) == stage {
			return
		}
	}
	for _, sink := range t.auditor.sinks {
		sink(t.event(stage, status))
	}
}

func (t *Trail) event(stage auditv1.Stage, status *metav1.Status) *auditv1.Event {
	s := t.state
	level := auditv1.Level(t.config.Level)
	e := &auditv1.Event{
		TypeMeta: metav1.TypeMeta{APIVersion: auditv1.SchemeGroupVersion.String(), Kind: "Event"},
		Level:    level, AuditID: types.UID(s.AuditID), Stage: stage, RequestURI: s.URI, Verb: s.Info.Verb, User: infoOf(&t.user),
		SourceIPs: s.SourceIPs, UserAgent: s.UserAgent, ObjectRef: t.reference(), ResponseStatus: status,
		RequestReceivedTimestamp: metav1.NewMicroTime(s.Received), StageTimestamp: metav1.NewMicroTime(t.auditor.now()),
	}
	if stage == auditv1.StageRequestReceived {
		e.StageTimestamp = e.RequestReceivedTimestamp
	}
	if len(e.UserAgent) > maxAgent {
		e.UserAgent = e.UserAgent[:maxAgent] + "...TRUNCATED"
	}
	if stage != auditv1.StageRequestReceived {
		e.Annotations = s.Annotations
		if s.Impersonated {
			as := infoOf(&s.User)
			e.ImpersonatedUser = &as
		}
		if s.Constraint != "" {
			e.AuthenticationMetadata = &auditv1.AuthenticationMetadata{ImpersonationConstraint: s.Constraint}
		}
		if level == auditv1.LevelRequest || level == auditv1.LevelRequestResponse {
			if len(s.Details) > 0 {
				e.Annotations = maps.Clone(s.Details)
				maps.Copy(e.Annotations, s.Annotations)
			}
			e.RequestObject = recordOf(t.request)
			if !t.patch {
				t.strip(e.RequestObject)
			}
		}
		if level == auditv1.LevelRequestResponse {
			e.ResponseObject = recordOf(t.response)
			t.strip(e.ResponseObject)
		}
	}
	return e
}

func infoOf(u *request.User) authenticationv1.UserInfo {
	out := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for key, values := range u.Extra {
		if out.Extra == nil {
			out.Extra = map[string]authenticationv1.ExtraValue{}
		}
		out.Extra[key] = values
	}
	return out
}

// reference names the object that the request is about; what the URL leaves open, the object that was sent says.
func (t *Trail) reference() *auditv1.ObjectReference {
	i := &t.state.Info
	if !i.IsResource {
		return nil
	}
	ref := &auditv1.ObjectReference{
		Resource: i.Resource, Namespace: i.Namespace, Name: i.Name, APIGroup: i.Group, APIVersion: i.Version, Subresource: i.Subresource,
	}
	if ref.Namespace == "" {
		ref.Namespace = t.sent.Namespace
	}
	if ref.Name == "" {
		ref.Name = t.sent.Name
	}
	ref.UID, ref.ResourceVersion = t.sent.UID, t.sent.ResourceVersion
	return ref
}

func recordOf(data []byte) *runtime.Unknown {
	if len(data) == 0 {
		return nil
	}
	return &runtime.Unknown{Raw: data, ContentType: runtime.ContentTypeJSON}
}

// strip takes managed fields out of a recorded object where the policy leaves them out.
func (t *Trail) strip(object *runtime.Unknown) {
	if object != nil && t.config.OmitManagedFields {
		object.Raw = withoutManagedFields(object.Raw)
	}
}

// withoutManagedFields takes them out of an object, out of each item of a list, or of the object of each row of a table.
func withoutManagedFields(data []byte) []byte {
	var object map[string]any
	if json.Unmarshal(data, &object) != nil {
		return data // a JSON patch
	}
	drop := func(of map[string]any) {
		if meta, ok := of["metadata"].(map[string]any); ok {
			delete(meta, "managedFields")
		}
	}
	drop(object)
	if items, ok := object["items"].([]any); ok {
		for _, item := range items {
			if of, ok := item.(map[string]any); ok {
				drop(of)
			}
		}
	}
	if rows, ok := object["rows"].([]any); ok && object["kind"] == "Table" {
		for _, row := range rows {
			of, _ := row.(map[string]any)
			if of, ok := of["object"].(map[string]any); ok {
				drop(of)
			}
		}
	}
	out, err := json.Marshal(object)
	if err != nil {
		return data
	}
	return out
}
