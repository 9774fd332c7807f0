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
		rec := &recorder{ResponseWriter: w}
		if state.Info.LongRunning() {
			rec.began = func() { trail.Stage(auditv1.StageResponseStarted, &metav1.Status{Code: int32(rec.code())}) } // An HTTP status.
		} else {
			rec.keep = func(code int) bool { return code >= http.StatusBadRequest || trail.WantsResponse() }
		}
		sent := &bytes.Buffer{}
		if r.Body != nil && !state.Info.LongRunning() {
			r.Body = readCloser{io.TeeReader(r.Body, sent), r.Body}
		}
		defer func() {
			trail.Request(s.asJSON(r.Header, sent.Bytes()))
			if v := recover(); v != nil {
				trail.Stage(auditv1.StagePanic, &metav1.Status{
					Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Reason: metav1.StatusReasonInternalError, Message: fmt.Sprint("APIServer panic'd: ", v),
				})
				panic(v)
			}
			answer := s.asJSON(rec.Header(), rec.kept.Bytes())
			if trail.WantsResponse() {
				trail.Response(answer)
			}
			trail.Stage(auditv1.StageResponseComplete, auditStatus(rec.code(), answer))
		}()
		next.ServeHTTP(rec, r)
	})
}

type readCloser struct {
	io.Reader
	io.Closer
}

// auditStatus is what a record says of the answer: all of a refusal, the code of what went well.
func auditStatus(code int, answer []byte) *metav1.Status {
	out := &metav1.Status{Code: int32(code)} // An HTTP status.
	if code >= http.StatusBadRequest {
		var status metav1.Status
		if json.Unmarshal(answer, &status) == nil && status.Kind == "Status" {
			out.Status, out.Reason, out.Message, out.Details = status.Status, status.Reason, status.Message, status.Details
		}
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
	if trail := s.cfg.Audit.Begin(request.From(r.Context())); trail != nil {
		status := errUnauthorized.ErrStatus
		trail.Stage(auditv1.StageResponseStarted, &status)
	}
}

// audited wraps a request of a component of this process. The function returned ends the record with what was answered.
func (l *local) audited(state *request.State, sent runtime.Object) func(answer runtime.Object, status metav1.Status) {
	trail := l.server.cfg.Audit.Begin(state)
	if trail == nil {
		return func(runtime.Object, metav1.Status) {}
	}
	if sent != nil {
		trail.Request(objectAsJSON(sent))
	}
	trail.Stage(auditv1.StageRequestReceived, nil)
	return func(answer runtime.Object, status metav1.Status) {
		if answer != nil && trail.WantsResponse() {
			trail.Response(objectAsJSON(answer))
		}
		trail.Stage(auditv1.StageResponseComplete, &status)
	}
}
