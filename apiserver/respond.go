// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/apiserver/rest"
	"kogge.dev/kogge/codec"
)

// gzipFrom is the size from which answers are compressed for clients that take it.
const gzipFrom = 128 << 10

// statusOf turns any error into a status.
func statusOf(err error) metav1.Status {
	var api apierrors.APIStatus
	if errors.As(err, &api) {
		status := api.Status()
		if status.Status == "" {
			status.Status = metav1.StatusFailure
		}
		if status.Code == 0 {
			status.Code = http.StatusInternalServerError
			if status.Status == metav1.StatusSuccess {
				status.Code = http.StatusOK
			}
		}
		return status
	}
	return metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Reason: metav1.StatusReasonUnknown, Message: err.Error()}
}

// fail answers with an error in the format that the client prefers.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	if status.Details != nil && status.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(status.Details.RetryAfterSeconds)))
	}
	a, ok := codec.Accept(r.Header.Get("Accept"), codec.Formats, codec.Unprojected)
	if !ok {
		a = codec.Accepted{Format: codec.JSON, Pretty: true} // An error has no projections; who asks for one, or for an unknown format, gets it as people do.
		unrecorded(r)                                        // As upstream, which has no form for it.
	}
	s.send(w, r, int(status.Code), a.Format, pretty(r, a), codec.Status(&status, a.Format))
}

// pretty tells clients that are people: indented JSON for them.
func pretty(r *http.Request, a codec.Accepted) bool {
	if a.Pretty {
		return true
	}
	if v := r.URL.Query().Get("pretty"); v != "" {
		yes, _ := strconv.ParseBool(v) // What is neither is a no.
		return yes
	}
	agent := r.UserAgent()
	return strings.HasPrefix(agent, "curl") || strings.HasPrefix(agent, "Wget") || strings.HasPrefix(agent, "Mozilla/5.0")
}

// send writes an answer made of parts.
func (s *Server) send(w http.ResponseWriter, r *http.Request, code int, format codec.Format, indent bool, parts ...[]byte) {
	if format == codec.JSON && indent {
		var out bytes.Buffer
		if json.Indent(&out, bytes.TrimSpace(bytes.Join(parts, nil)), "", "  ") == nil {
			parts = [][]byte{out.Bytes()}
		}
	}
	h := s.head(w, r, format)
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	s.metrics.size(infoOf(r.Context()), size)
	if size < gzipFrom || !takesGzip(r) {
		h.Set("Content-Length", strconv.Itoa(size))
		w.WriteHeader(code)
		writeParts(w, parts)
		return
	}
	zipped(h)
	w.WriteHeader(code)
	z := zipTo(w)
	writeParts(z, parts)
	_ = z.Close() // A client that went away is no error of ours.
}

// head sets the headers of an answer of unknown size.
func (s *Server) head(w http.ResponseWriter, r *http.Request, format codec.Format) http.Header {
	h := w.Header()
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", string(format))
	}
	if state := request.From(r.Context()); state != nil {
		for _, text := range state.Warned() {
			h.Add("Warning", fmt.Sprintf("299 - %s", strconv.Quote(text)))
		}
	}
	return h
}

// takesGzip tells whether a client names gzip as it is: with a quality it may be a refusal, and is none of upstream's either.
func takesGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		if strings.TrimSpace(part) == "gzip" {
			return true
		}
	}
	return false
}

// zipped says that an answer is compressed.
func zipped(h http.Header) {
	h.Set("Content-Encoding", "gzip")
	h.Add("Vary", "Accept-Encoding")
}

func writeParts(w io.Writer, parts [][]byte) {
	for _, p := range parts {
		if _, err := w.Write(p); err != nil {
			return
		}
	}
}

// answer is how a client wants results of one request.
type answer struct {
	codec.Accepted
	target *rest.Target
	table  codec.TableOptions
	// tableSent is set once a watch has sent the columns.
	tableSent bool
	pretty    bool
}

// customFormats are those of custom resources without projection.
var customFormats = []codec.Format{codec.JSON, codec.YAML}

// negotiate reads what the client accepts.
func negotiate(r *http.Request, t *rest.Target, subresource string) (*answer, error) {
	accepted, ok := codec.Accept(r.Header.Get("Accept"), codec.Formats, func(f codec.Format, as string, gv schema.GroupVersion) bool {
		switch as {
		case "": // Metadata alone has a protobuf form, whatever the resource is.
			return t.Custom == nil || slices.Contains(customFormats, f)
		case codec.AsTable: // What is not stored has no rows, nor have most subresources.
			return codec.MetaProjection(f, as, gv) && (t.Kind.Storage.Prefix != "" || t.Kind.Table != nil) && slices.Contains(tabled, subresource)
		default:
			return codec.MetaProjection(f, as, gv)
		}
	})
	if !ok {
		return nil, notAcceptable()
	}
	a := &answer{Accepted: accepted, target: t, pretty: pretty(r, accepted)}
	if accepted.As == codec.AsTable {
		a.table = codec.TableOptions{Include: metav1.IncludeObjectPolicy(r.URL.Query().Get("includeObject")), GroupVersion: accepted.GroupVersion, Now: time.Now(), Without: t.Kind.FormAnnotations}
		opts := metav1.TableOptions{IncludeObject: a.table.Include}
		if errs := metavalidation.ValidateTableOptions(&opts); len(errs) > 0 {
			return nil, apierrors.NewBadRequest("Unable to convert to Table as requested: " + errs[0].Error())
		}
	}
	return a, nil
}

// tabled are the subresources that have rows, and the object itself.
var tabled = []string{"", "status", "scale"}

// produced refuses what upstream's router refuses before a handler is asked. Custom resources have no routes there.
func produced(r *http.Request, t *rest.Target, p *parsed) error {
	if t.Custom != nil {
		return nil
	}
	switch {
	case p.Subresource == "log":
		return acceptable(r, logTypes)
	case slices.Contains(connects, p.Subresource):
		return nil // Another server answers.
	case p.Verb == "list" || p.Verb == "watch":
		return acceptable(r, listTypes)
	}
	return acceptable(r, objectTypes)
}

// The media types that upstream's router knows: of objects, of watches, of lists, which have the same paths, and of logs.
var (
	objectTypes = formatNames(codec.Formats)
	streamTypes = []string{string(codec.JSON) + ";stream=watch", string(codec.Protobuf) + ";stream=watch"}
	listTypes   = slices.Concat(objectTypes, streamTypes)
	logTypes    = slices.Concat([]string{"text/plain"}, objectTypes)
)

// acceptable refuses a client that names none of some media types, as upstream's router does.
func acceptable(r *http.Request, types []string) error {
	if codec.Produces(r.Header.Get("Accept"), types) {
		return nil
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable, Details: &metav1.StatusDetails{},
		Message: "406: Not Acceptable\n\nAvailable representations: " + strings.Join(types, ", "),
	}}
}

// notAcceptable refuses a client that accepts no format in a form that there is. Protobuf is named for custom resources, too: their metadata has it.
func notAcceptable() error { return onlyAccepted(objectTypes) }

// notStreamed refuses a watch in YAML, whose events nobody could tell apart.
func notStreamed() error { return onlyAccepted(streamTypes) }

func onlyAccepted(types []string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
		Message: "only the following media types are accepted: " + strings.Join(types, ", "),
	}}
}

// notProjectable refuses the projection of a list from an object, and the other way round.
func (a *answer) notProjectable(list bool) error {
	text := fmt.Sprintf("you requested %s, but the requested object is not a list (*%s.%s)", a.As, packageOf(a.target.GVR.Group), a.target.Served.Kind)
	if list {
		text = fmt.Sprintf("you requested %s, but the requested object is a list (*%s.%s)", a.As, packageOf(a.target.GVR.Group), a.target.ListKind().Kind)
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable, Message: text,
	}}
}

// packageOf is what messages call the types of a group.
func packageOf(group string) string {
	name, _, _ := strings.Cut(group, ".")
	if name == "" {
		return "core"
	}
	return name
}

// result writes a Result.
func (s *Server) result(w http.ResponseWriter, r *http.Request, a *answer, res *rest.Result) {
	if res.List != nil && len(res.List.Entries) >= streamFrom && a.streams() {
		s.stream(w, r, res.Code, a, res.List)
		return
	}
	parts, err := a.encode(res)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.send(w, r, res.Code, a.Format, a.pretty, parts...)
}

func (a *answer) encode(res *rest.Result) ([][]byte, error) {
	if res.List != nil {
		return a.encodeList(res.List)
	}
	if status, ok := res.Object.(*metav1.Status); ok {
		return [][]byte{codec.Status(status.DeepCopy(), a.Format)}, nil
	}
	if a.As == "" && res.Entry != nil && a.Format != codec.YAML {
		data, err := a.entry(res)
		return [][]byte{data}, err
	}
	obj, err := res.Resolve(a.target)
	if err != nil {
		return nil, err
	}
	if meta.IsListType(obj) {
		obj, err = a.projectList(obj)
	} else {
		obj, err = a.project(obj)
	}
	if err != nil {
		return nil, err
	}
	data, err := codec.Marshal(obj, a.Format)
	return [][]byte{data}, err
}

func (a *answer) entry(res *rest.Result) ([]byte, error) {
	if a.Format == codec.Protobuf {
		m, err := a.target.Message(res.Entry)
		if err != nil {
			return nil, err
		}
		return codec.Wrap(a.target.Served.GroupVersionKind, m), nil
	}
	return a.target.Encoded(res.Entry, a.Format)
}

// project turns one object into what the client asked for.
func (a *answer) project(obj runtime.Object) (runtime.Object, error) {
	m, ok := obj.(metav1.Object)
	if a.As == "" || !ok {
		return obj, nil
	}
	switch a.As {
	case codec.AsTable:
		list := metav1.ListMeta{ResourceVersion: m.GetResourceVersion()}
		return codec.Table(a.source(obj), a.table, []runtime.Object{obj}, list), nil
	case codec.AsPartial:
		return codec.Partial(m, a.GroupVersion, a.target.Kind.FormAnnotations), nil
	default:
		return nil, a.notProjectable(false)
	}
}

// projectList turns a list that is not stored into what the client asked for.
func (a *answer) projectList(list runtime.Object) (runtime.Object, error) {
	if a.As == "" {
		return list, nil
	}
	objects, err := meta.ExtractList(list)
	if err != nil {
		return nil, err
	}
	return a.listOf(objects, metav1.ListMeta{})
}

// source renders rows of the target, or of another type that a subresource answers with.
func (a *answer) source(obj runtime.Object) codec.TableSource {
	if _, ok := obj.(*autoscalingv1.Scale); ok {
		return a.target.ScaleTable()
	}
	if obj.GetObjectKind().GroupVersionKind() != a.target.Served.GroupVersionKind {
		return codec.DefaultTable
	}
	return a.target.Table()
}
