// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/apiserver/audit"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/codec"
)

// withAudit records the request as the audit policy says. It stands behind authentication: a policy may ask who it was.
func (s *Server) withAudit(next http.Handler) http.Handler {
	if s.cfg.Audit == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		state := request.From(r.Context())
		trail := s.cfg.Audit.Begin(state)
		if trail == nil {
			next.ServeHTTP(w, r)
			return
		}
		trail.Stage(auditv1.StageRequestReceived, nil)
		state.Sent = func(object runtime.Object, patch []byte) { s.noteRequest(trail, r.Header, object, patch) }
		rec := &recorder{ResponseWriter: w}
		long := state.Info.LongRunning()
		rec.keep = func(code int) bool {
			return code >= http.StatusBadRequest || trail.WantsResponse() && !long || code == http.StatusOK && isDelete(state)
		}
		answered := func() *metav1.Status {
			var answer []byte
			if !state.Unrecorded {
				answer = s.asJSON(rec.Header(), rec.kept.Bytes())
			}
			if trail.WantsResponse() {
				trail.Response(answer)
			}
			return auditStatus(rec.code(), answer)
		}
		if long {
			rec.began = func() { trail.Stage(auditv1.StageResponseStarted, answered()) }
		}
		defer func() {
			if v := recover(); v != nil {
				trail.Stage(auditv1.StagePanic, &metav1.Status{
					Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Reason: metav1.StatusReasonInternalError, Message: fmt.Sprint("APIServer panic'd: ", v),
				})
				panic(v)
			}
			rec.tell()
			trail.Stage(auditv1.StageResponseComplete, answered())
		}()
		next.ServeHTTP(rec, r)
	})
}

// isDelete tells the requests that are answered with a Status when they go well.
func isDelete(state *request.State) bool {
	return state.Info.IsResource && (state.Info.Verb == "delete" || state.Info.Verb == "deletecollection")
}

// noteRequest gives the record what was sent: an object in JSON, or a patch.
func (s *Server) noteRequest(trail *audit.Trail, header http.Header, object runtime.Object, patch []byte) {
	if object == nil {
		trail.Patch(s.asJSON(header, patch))
		return
	}
	trail.Request(objectAsJSON(object))
}

// auditStatus is what a record says of the answer: all of a Status, the code of everything else.
func auditStatus(code int, answer []byte) *metav1.Status {
	out := &metav1.Status{Code: int32(code)} // An HTTP status.
	var kind metav1.TypeMeta
	if len(answer) == 0 || json.Unmarshal(answer, &kind) != nil || kind.Kind != "Status" {
		return out
	}
	var status metav1.Status
	if json.Unmarshal(answer, &status) == nil {
		out.Status, out.Reason, out.Message, out.Details = status.Status, status.Reason, status.Message, status.Details
	}
	return out
}

// asJSON turns a body into JSON for the record; nil for one that is no API object.
func (s *Server) asJSON(header http.Header, body []byte) []byte {
	if len(body) == 0 {
		return nil
	}
	if header.Get("Content-Encoding") == "gzip" {
		zip, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil
		}
		if body, err = io.ReadAll(zip); err != nil {
			return nil
		}
	}
	media, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	switch {
	case err != nil:
		return nil
	case codec.IsProtobuf(body):
		return s.protobufAsJSON(body)
	case media == string(codec.YAML) || media == "application/apply-patch+yaml":
		text, err := yaml.YAMLToJSON(body)
		if err != nil {
			return nil
		}
		return text
	case json.Valid(body):
		return bytes.TrimSpace(body)
	default:
		return nil
	}
}

func (s *Server) protobufAsJSON(body []byte) []byte {
	gvk, err := codec.TypeOf(body)
	if err != nil {
		return nil
	}
	obj, err := s.scheme().New(gvk)
	if err != nil {
		return nil
	}
	if _, _, err := codec.Decode(body, codec.Protobuf, obj, codec.Lenient, gvk); err != nil {
		return nil
	}
	return objectAsJSON(obj)
}

func objectAsJSON(obj runtime.Object) []byte {
	text, err := json.Marshal(obj)
	if err != nil {
		return nil
	}
	return text
}

// auditRefused records a request whose credentials were refused.
func (s *Server) auditRefused(r *http.Request) {
	if trail := s.cfg.Audit.BeginRefused(request.From(r.Context())); trail != nil {
		status := errUnauthorized.ErrStatus
		status.Kind, status.APIVersion = "Status", "v1"
		if trail.WantsResponse() {
			trail.Response(objectAsJSON(&status))
		}
		trail.Stage(auditv1.StageResponseStarted, &metav1.Status{
			Status: status.Status, Message: status.Message, Reason: status.Reason, Details: status.Details, Code: status.Code,
		})
	}
}

// audited wraps a request of a component of this process. Of the functions returned, the first records that the answer of a watch has begun, the
// second ends the record with what was answered.
func (l *local) audited(state *request.State) (started, finish func(answer runtime.Object, status metav1.Status)) {
	trail := l.server.cfg.Audit.Begin(state)
	if trail == nil {
		none := func(runtime.Object, metav1.Status) {}
		return none, none
	}
	trail.Stage(auditv1.StageRequestReceived, nil)
	state.Sent = func(object runtime.Object, patch []byte) {
		l.server.noteRequest(trail, http.Header{"Content-Type": {string(codec.JSON)}}, object, patch)
	}
	at := func(stage auditv1.Stage) func(answer runtime.Object, status metav1.Status) {
		return func(answer runtime.Object, status metav1.Status) {
			if answer != nil && trail.WantsResponse() {
				trail.Response(objectAsJSON(answer))
			}
			trail.Stage(stage, &status)
		}
	}
	return at(auditv1.StageResponseStarted), at(auditv1.StageResponseComplete)
}
