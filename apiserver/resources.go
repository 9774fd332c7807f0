// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/apiserver/rest"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/patch"
)

// maxBody bounds request bodies.
const maxBody = 3 << 20

// believedBody bounds the memory that a request gets for saying how long its body is.
const believedBody = 64 << 10

// unknownVersion answers for a version that a group does not have, and for a group that is unknown as a whole.
func (s *Server) unknownVersion(w http.ResponseWriter, r *http.Request, group string) {
	if !s.registry.Knows(group) || s.custom(group) {
		http.NotFound(w, r)
		return
	}
	s.fail(w, r, apierrors.NewGenericServerResponse(http.StatusNotFound, "", schema.GroupResource{}, "", "", 0, false))
}

// serveResource answers requests below /api/v1 and /apis/group/version.
func (s *Server) serveResource(w http.ResponseWriter, r *http.Request) {
	p := infoOf(r.Context())
	if s.parts.Aggregate != nil {
		if h := s.parts.Aggregate(p.gvr().GroupVersion()); h != nil {
			unrecorded(r) // It is the other server's to record.
			h.ServeHTTP(w, r)
			return
		}
	}
	t := s.engine.Lookup(p.gvr())
	if t == nil && !s.registry.Serves(p.gvr().GroupVersion()) {
		s.unknownVersion(w, r, p.gvr().Group)
		return
	}
	if (t == nil || !shaped(t, p) || acrossNamespaces(t, p) && p.Verb != "list" && p.Verb != "watch") && s.custom(p.Group) {
		http.NotFound(w, r)
		return
	}
	if err := routable(t, p, r.Method); err != nil {
		s.fail(w, r, err)
		return
	}
	if err := produced(r, t, p); err != nil {
		s.fail(w, r, err)
		return
	}
	s.tellDeprecated(r.Context(), t, p)
	a, err := negotiate(r, t, p.Subresource)
	// A log has no such form, but its errors have one.
	if sub := t.Kind.Subresource(p.Subresource); sub != nil && sub.Connect && (err == nil || sub.Name != "log") && s.connect(w, r, t, sub) {
		return
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	verb := client.Verb(p.Verb)
	c := &rest.Call{Verb: verb, Target: t, Subresource: p.Subresource, Namespace: p.Namespace, Name: p.Name}
	if verb == client.Watch {
		if a.Format == codec.YAML {
			s.fail(w, r, notStreamed())
			return
		}
		s.serveWatch(w, r, a, c)
		return
	}
	if err := s.readOptions(r, c); err != nil {
		s.fail(w, r, err)
		return
	}
	res, err := s.engine.Execute(r.Context(), c)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.result(w, r, a, res)
}

// custom tells whether a group is one of custom resources, which upstream keeps apart from its router.
func (s *Server) custom(group string) bool {
	for gvr, t := range s.engine.Targets() {
		if gvr.Group == group {
			return t.Custom != nil
		}
	}
	return false
}

// routable checks that the shape of the URL and the method fit what is served; the errors are those of upstream's router.
func routable(t *rest.Target, p *parsed, method string) error {
	if t == nil || !shaped(t, p) || p.Verb == "proxy" || p.viaPath && (p.Subresource != "" || !t.Kind.Allows("watch")) {
		return errNoResource
	}
	if p.Subresource != "" && t.Kind.Subresource(p.Subresource) == nil {
		if t.Custom != nil {
			return apierrors.NewNotFound(t.GVR.GroupResource(), p.Name)
		}
		return errNoResource
	}
	collection := p.Name == "" || p.Verb == "list" || p.Verb == "watch"
	switch {
	case p.Subresource != "proxy" && t.Custom == nil && strings.Trim(p.rest, "/") != "",
		acrossNamespaces(t, p) && !t.Kind.Allows("list"),
		p.named && p.Subresource == "" && !slices.ContainsFunc(objectVerbs, t.Kind.Allows):
		return errNoResource
	}
	switch {
	case method == http.MethodHead && p.Subresource != "proxy", // A proxy passes it on.
		acrossNamespaces(t, p) && method != http.MethodGet,
		collection && (method == http.MethodPut || method == http.MethodPatch),
		!collection && p.Subresource == "" && method == http.MethodPost, !allows(t, p, method):
		return errNoMethod
	}
	return nil
}

// objectVerbs are those of one object: what has none of them has no paths of objects.
var objectVerbs = []string{"get", "update", "patch", "delete"}

// tellDeprecated warns who asks for something that will go, and tells the audit log and the metrics of a version that will.
func (s *Server) tellDeprecated(ctx context.Context, t *rest.Target, p *parsed) {
	if t.Kind.Deprecated == "" && t.Served.Deprecated == "" {
		return
	}
	state := request.From(ctx)
	if state == nil {
		return
	}
	for _, warning := range []string{t.Kind.Deprecated, t.Served.Deprecated} {
		if warning != "" {
			state.Warn(warning)
		}
	}
	state.Annotate("k8s.io/deprecated", "true")
	if t.Served.Removed != "" {
		state.Annotate("k8s.io/removed-release", t.Served.Removed)
	}
	s.metrics.deprecated.WithLabelValues(p.Group, p.Version, p.Resource, p.Subresource, t.Served.Removed).Set(1)
}

// shaped tells whether the URL has a namespace where the resource has one, and none where it has none.
func shaped(t *rest.Target, p *parsed) bool {
	if isNamespaces(t) {
		return true
	}
	if !t.Kind.Namespaced {
		return p.Namespace == ""
	}
	return p.Namespace != "" || !p.named // Across namespaces one can list and watch, but not name an object.
}

// acrossNamespaces tells whether the URL means all namespaces of a resource that has them.
func acrossNamespaces(t *rest.Target, p *parsed) bool { return t.Kind.Namespaced && p.Namespace == "" }

// errNoResource and errNoMethod are the answers to URLs that lead nowhere.
var (
	errNoResource = &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound, Details: &metav1.StatusDetails{},
		Message: "the server could not find the requested resource",
	}}
	errNoMethod = &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusMethodNotAllowed, Reason: metav1.StatusReasonMethodNotAllowed, Details: &metav1.StatusDetails{},
		Message: "the server does not allow this method on the requested resource",
	}}
)

func isNamespaces(t *rest.Target) bool { return t.GVR.Resource == "namespaces" && t.GVR.Group == "" }

// allows checks the verb against discovery's. OPTIONS has no verb there: only proxies pass it on.
func allows(t *rest.Target, p *parsed, method string) bool {
	if p.Subresource == "" {
		return t.Kind.Allows(p.Verb) || p.Verb == "watch" && t.Kind.Allows("list") // The path is the same: the watch itself says that there is none.
	}
	sub := t.Kind.Subresource(p.Subresource)
	if sub == nil {
		return false
	}
	return slices.Contains(sub.Verbs, p.Verb) || sub.Name == "proxy" && method == http.MethodOptions
}

func methodNotAllowed(t *rest.Target, p *parsed) error {
	gr := t.GVR.GroupResource()
	if p.Subresource != "" {
		gr.Resource += "/" + p.Subresource
	}
	return apierrors.NewMethodNotSupported(gr, p.Verb)
}

// readOptions reads query and body into the call.
func (s *Server) readOptions(r *http.Request, c *rest.Call) error {
	q := r.URL.Query()
	var err error
	switch c.Verb {
	case client.Get:
		if exports, set := q["export"]; set && exports[0] != "false" && exports[0] != "0" && c.Subresource == "" {
			return apierrors.NewBadRequest("the export parameter, deprecated since v1.14, is no longer supported")
		}
		c.Get = &metav1.GetOptions{}
		err = metav1.Convert_url_Values_To_v1_GetOptions(&q, c.Get, nil)
	case client.List:
		c.List, err = listOptionsOf(q)
	case client.Create:
		return s.readCreate(r, q, c)
	case client.Update:
		return s.readUpdate(r, q, c)
	case client.Patch:
		return s.readPatch(r, q, c)
	case client.Delete:
		return s.readDelete(r, q, c)
	case client.DeleteCollection:
		if c.List, err = listOptionsOf(q); err == nil {
			return s.readDelete(r, q, c)
		}
	case client.Watch: // has a front of its own
	}
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	return nil
}

func listOptionsOf(q url.Values) (*metav1.ListOptions, error) {
	opts := &metav1.ListOptions{}
	err := metav1.Convert_url_Values_To_v1_ListOptions(&q, opts, nil)
	return opts, err
}

func invalidOptions(kind string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: kind}, "", errs)
}

func (s *Server) readCreate(r *http.Request, q url.Values, c *rest.Call) error {
	c.Create = &metav1.CreateOptions{}
	if err := metav1.Convert_url_Values_To_v1_CreateOptions(&q, c.Create, nil); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if err := invalidOptions("CreateOptions", metavalidation.ValidateCreateOptions(c.Create)); err != nil {
		return err
	}
	return s.readObject(r, c, c.Create.FieldValidation)
}

func (s *Server) readUpdate(r *http.Request, q url.Values, c *rest.Call) error {
	c.Update = &metav1.UpdateOptions{}
	if err := metav1.Convert_url_Values_To_v1_UpdateOptions(&q, c.Update, nil); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if err := invalidOptions("UpdateOptions", metavalidation.ValidateUpdateOptions(c.Update)); err != nil {
		return err
	}
	return s.readObject(r, c, c.Update.FieldValidation)
}

func (s *Server) readPatch(r *http.Request, q url.Values, c *rest.Call) error {
	c.Change = &metav1.PatchOptions{}
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	c.PatchType = types.PatchType(kind)
	accepted := patch.Types
	if c.Target.Custom != nil {
		accepted = patch.CustomTypes
	}
	if !slices.Contains(accepted, kind) {
		if c.Target.Custom == nil {
			return &apierrors.StatusError{ErrStatus: metav1.Status{
				Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
				Details: &metav1.StatusDetails{}, Message: "415: Unsupported Media Type",
			}}
		}
		return unsupportedMedia(accepted)
	}
	var err error
	if c.Patch, err = readBody(r); err != nil {
		return err
	}
	if err := metav1.Convert_url_Values_To_v1_PatchOptions(&q, c.Change, nil); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	recordSent(r.Context(), c, nil)
	return nil
}

func (s *Server) readDelete(r *http.Request, q url.Values, c *rest.Call) error {
	c.Delete = &metav1.DeleteOptions{}
	body, err := readBody(r)
	if err != nil {
		return err
	}
	if len(body) == 0 {
		if err := metav1.Convert_url_Values_To_v1_DeleteOptions(&q, c.Delete, nil); err != nil {
			return apierrors.NewBadRequest(err.Error())
		}
		return nil
	}
	format, ok := codec.ContentFormat(r.Header.Get("Content-Type"))
	if !ok {
		return unsupportedMedia(objectTypes)
	}
	gvk, _, err := codec.Decode(body, format, c.Delete, codec.Lenient, metav1.SchemeGroupVersion.WithKind("DeleteOptions"))
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if gvk.Kind != "DeleteOptions" {
		return apierrors.NewBadRequest(unknownConversion(gvk, metav1.SchemeGroupVersion.WithKind("DeleteOptions")).Error())
	}
	recordSent(r.Context(), c, c.Delete)
	return nil
}

func unsupportedMedia(accepted []string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: fmt.Sprintf("the body of the request was in an unknown format - accepted media types include: %v", strings.Join(accepted, ", ")),
	}}
}

func formatNames(formats []codec.Format) []string {
	out := make([]string, len(formats))
	for i, f := range formats {
		out[i] = string(f)
	}
	return out
}

func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	// What it says of its length is room enough, if it is true; a great length is believed when it has come.
	said := min(max(r.ContentLength, 0), believedBody)
	body := bytes.NewBuffer(make([]byte, 0, said+bytes.MinRead))
	if _, err := body.ReadFrom(io.LimitReader(r.Body, maxBody+1)); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(r.Context().Err(), context.DeadlineExceeded) {
			return nil, apierrors.NewTimeoutError("request did not complete within the allotted timeout", 0)
		}
		return nil, apierrors.NewBadRequest(fmt.Sprintf("read body: %v", err))
	}
	if body.Len() > maxBody {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", maxBody))
	}
	return body.Bytes(), nil
}

// bodyType is what a create or update of the call carries.
func bodyType(c *rest.Call) (schema.GroupVersionKind, runtime.Object) {
	gvk := c.Target.Served.GroupVersionKind
	if sub := c.Target.Kind.Subresource(c.Subresource); c.Subresource != "" && sub != nil {
		if sub.GroupVersionKind.Kind != "" {
			gvk = sub.GroupVersionKind
		}
		if sub.New != nil {
			return gvk, sub.New()
		}
		if gvk == autoscalingv1.SchemeGroupVersion.WithKind("Scale") {
			return gvk, &autoscalingv1.Scale{}
		}
	}
	return gvk, c.Target.Served.Blank()
}

// otherType refuses an object of another type than the call takes.
func otherType(c *rest.Call, gvk, want schema.GroupVersionKind, body []byte) error {
	other := c.Target.Kind.Known(gvk.GroupVersion())
	custom := c.Target.Custom != nil && want == c.Target.Served.GroupVersionKind
	if custom && gvk.GroupVersion() != want.GroupVersion() || other != nil && c.Subresource == "" && other.Kind == gvk.Kind {
		return otherVersion(gvk, want)
	}
	return decodeError(unknownConversion(gvk, want), want, gvk, body)
}

// readObject decodes the body of a create or update.
func (s *Server) readObject(r *http.Request, c *rest.Call, validation string) error {
	want, obj := bodyType(c)
	formats, fallback := codec.Formats, want
	if _, custom := obj.(*unstructured.Unstructured); custom {
		formats, fallback = customFormats, schema.GroupVersionKind{} // It says itself what it is.
	}
	format, ok := codec.ContentFormat(r.Header.Get("Content-Type"))
	if !ok || !slices.Contains(formats, format) {
		return unsupportedMedia(formatNames(formats))
	}
	body, err := readBody(r)
	if err != nil {
		return err
	}
	mode := codec.Strict
	if validation == metav1.FieldValidationIgnore {
		mode = codec.Lenient
	}
	gvk, found, err := codec.Decode(body, format, obj, mode, fallback)
	if err == nil && gvk.Kind == "" {
		err = runtime.NewMissingKindErr(string(body))
	}
	if err != nil {
		return decodeError(err, want, gvk, body)
	}
	if gvk != want && !olderEviction(gvk, want) {
		return otherType(c, gvk, want, body)
	}
	obj.GetObjectKind().SetGroupVersionKind(want)
	if sub := c.Target.Kind.Subresource(c.Subresource); sub != nil && sub.Default != nil {
		sub.Default(obj.(kinds.Object)) // The audit log has it so.
	}
	if found, err = schemaErrors(c, obj, found, mode); err != nil {
		return decodeError(err, want, gvk, body)
	}
	if len(found) > 0 {
		if validation == metav1.FieldValidationStrict {
			return decodeError(runtime.NewStrictDecodingError(found), want, gvk, body)
		}
		state := request.From(r.Context())
		for _, e := range found {
			for _, line := range codec.YAMLErrors(e) {
				state.Warn(line.Error())
			}
		}
	}
	c.Object = obj
	recordSent(r.Context(), c, nil)
	return nil
}

// otherVersion refuses a body of another version than that of the path.
func otherVersion(gvk, want schema.GroupVersionKind) error {
	return apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)", gvk.GroupVersion(), want.GroupVersion()))
}

// recordSent tells the audit log what a call carries: an object, a patch, or the options that were sent with a deletion.
func recordSent(ctx context.Context, c *rest.Call, options *metav1.DeleteOptions) {
	state := request.From(ctx)
	switch {
	case state == nil || state.Sent == nil:
	case c.Object != nil:
		state.Sent(c.Sent(), nil)
	case c.Patch != nil:
		state.Sent(nil, c.Patch)
	case options != nil:
		state.Sent(options, nil)
	}
}

// unrecorded keeps the answer out of the audit log.
func unrecorded(r *http.Request) {
	if state := request.From(r.Context()); state != nil {
		state.Unrecorded = true
	}
}

// schemaErrors runs a custom resource's schema; unknown fields join what decoding found.
func schemaErrors(c *rest.Call, obj runtime.Object, found []error, mode codec.Strictness) ([]error, error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok || c.Target.Custom == nil {
		return found, nil
	}
	unknown, err := c.Target.Custom.Complete(c.Target.Served.GroupVersion(), u)
	if err != nil {
		return nil, err
	}
	if mode == codec.Strict {
		for _, text := range unknown {
			found = append(found, errors.New(text))
		}
	}
	return found, nil
}

// unknownConversion says why a body of one type is not one of another.
func unknownConversion(gvk, want schema.GroupVersionKind) error {
	if !catalog.Scheme().Recognizes(gvk) {
		return fmt.Errorf("no kind %q is registered for version %q in scheme \"pkg/runtime/scheme.go:111\"", gvk.Kind, gvk.GroupVersion())
	}
	return fmt.Errorf("converting (%s.%s) to (%s.%s): unknown conversion", gvk.Version, gvk.Kind, packageOf(want.Group), want.Kind)
}

// olderEviction lets clients send the eviction that v1beta1 had.
func olderEviction(gvk, want schema.GroupVersionKind) bool {
	return want.Kind == "Eviction" && gvk.Group == "policy" && gvk.Kind == "Eviction"
}

func decodeError(err error, want, gvk schema.GroupVersionKind, body []byte) error {
	if gvk.Kind != "" {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", gvk.Kind, gvk.Version, want.Kind, err))
	}
	return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v (%s)", want.Kind, err, summary(body)))
}

// summary shows the beginning of a body.
func summary(body []byte) string {
	const limit = 30
	switch {
	case len(body) == 0:
		return "<empty>"
	case body[0] == '{' && len(body) > limit:
		return string(body[:limit]) + " ..."
	case body[0] == '{':
		return string(body)
	case len(body) > limit:
		return fmt.Sprintf("%x ...", body[:limit])
	default:
		return fmt.Sprintf("%x", body)
	}
}
