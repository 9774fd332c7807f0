// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"github.com/google/uuid"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"kogge.dev/kogge/apiserver/authn/impersonate"
	"kogge.dev/kogge/apiserver/authz"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/apiserver/rest"
)

// errUnauthorized is what requests without a known user get.
var errUnauthorized = &apierrors.StatusError{ErrStatus: metav1.Status{
	Status: metav1.StatusFailure, Code: http.StatusUnauthorized, Reason: metav1.StatusReasonUnauthorized, Message: "Unauthorized",
}}

// chain builds the request path; the first filter is the outermost.
func (s *Server) chain(last http.Handler) http.Handler {
	h := s.withAuthorization(last)
	if s.parts.Fairness != nil {
		h = s.parts.Fairness(h)
	}
	h = s.withAudit(s.withImpersonation(h))
	h = s.withAuthentication(h)
	return s.withState(h)
}

// withState parses the request, gives it its State, records and measures it, and turns panics into errors.
func (s *Server) withState(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, ok := parseRequest(r.Method, r.URL)
		state := &request.State{Info: info.Info, URI: r.URL.RequestURI(), Received: time.Now(), AuditID: r.Header.Get("Audit-ID"), UserAgent: r.UserAgent(), SourceIPs: sourceIPs(r)}
		if state.AuditID == "" {
			state.AuditID = uuid.NewString()
		}
		info.served = s.serves(&info.Info)
		info.applies = r.Header.Get("Content-Type") == string(types.ApplyYAMLPatchType)
		rec := &recorder{ResponseWriter: w}
		rec.Header().Set("Audit-Id", state.AuditID)
		rec.Header().Set("Cache-Control", "no-cache, private")
		ctx := context.WithValue(request.With(r.Context(), state), parsedKey{}, &info)
		r = r.WithContext(ctx)
		done := s.metrics.begin(&info)
		defer func() {
			v := recover()
			err, _ := v.(error)
			cut := errors.Is(err, http.ErrAbortHandler)
			if v != nil && !cut {
				s.log.Error("request panicked", "panic", fmt.Sprint(v), "path", r.URL.Path, "stack", string(debug.Stack()))
				if !rec.wrote {
					s.fail(rec, r, apierrors.NewInternalError(fmt.Errorf("This request caused apiserver to panic. Look in the logs for details."))) //nolint:staticcheck // Upstream's words.
				}
			}
			done(rec.code())
			s.logRequest(ctx, state, rec.code())
			if cut {
				panic(v)
			}
		}()
		if !ok {
			s.fail(rec, r, apierrors.NewBadRequest(fmt.Sprintf("unable to determine kind and namespace from url, %v", r.URL)))
			return
		}
		if r, release, err := withDeadline(rec, r, &info); err != nil {
			s.fail(rec, r, err)
		} else {
			defer release()
			next.ServeHTTP(rec, r)
		}
	})
}

const (
	// longest is how long a request may take that is no stream, whatever its timeout parameter says.
	longest = time.Minute
	// answerGrace is how long a client may take what was written at the last moment.
	answerGrace = 5 * time.Second
)

// withDeadline bounds a request by its timeout parameter: the work, and also how slowly the client may send the body and take the answer.
// Otherwise those who do neither would keep their seats, and what is written to them, for as long as they like.
func withDeadline(w http.ResponseWriter, r *http.Request, p *parsed) (*http.Request, context.CancelFunc, error) {
	if p.LongRunning() {
		deadlines(w, time.Time{}, time.Time{}) // HTTP/1.1: the last request of the connection has left one.
		return r, func() {}, nil
	}
	limit := longest
	if text := r.URL.Query().Get("timeout"); text != "" {
		asked, err := time.ParseDuration(text)
		if err != nil {
			return r, nil, apierrors.NewBadRequest(fmt.Sprintf("invalid timeout specified in the request URL - %v", err))
		}
		if asked > 0 {
			limit = min(asked, longest)
		}
	}
	end := time.Now().Add(limit)
	read := end
	if r.Body == nil || r.Body == http.NoBody {
		read = time.Time{}
	}
	deadlines(w, read, end.Add(answerGrace))
	ctx, release := context.WithDeadline(r.Context(), end)
	return r.WithContext(ctx), release, nil
}

// deadlines bounds reading and writing. A zero time bounds reading no more than it was, and writing not at all.
func deadlines(w http.ResponseWriter, read, write time.Time) {
	c := http.NewResponseController(w)
	if !read.IsZero() {
		_ = c.SetReadDeadline(read) // What is no socket has none.
	}
	_ = c.SetWriteDeadline(write) // As above.
}

// serves tells whether a request's resource and subresource exist here.
func (s *Server) serves(i *request.Info) bool {
	t := s.engine.Lookup(i.GroupVersionResource)
	return i.IsResource && t != nil && (i.Subresource == "" || t.Kind.Subresource(i.Subresource) != nil)
}

type parsedKey struct{}

func infoOf(ctx context.Context) *parsed {
	p, _ := ctx.Value(parsedKey{}).(*parsed)
	return p
}

// logRequest writes a line at debug about a request that was answered. For watches and streams that is when they end.
func (s *Server) logRequest(ctx context.Context, state *request.State, code int) {
	if s.log.Enabled(ctx, slog.LevelDebug) {
		s.log.DebugContext(ctx, "request", "verb", state.Info.Verb, "path", state.Info.Path, "user", state.User.Name, "agent", state.UserAgent,
			"code", code, "latency", time.Since(state.Received), "audit_id", state.AuditID)
	}
}

// sourceIPs are where a request came from: what proxies say of it, then the other end of the connection.
func sourceIPs(r *http.Request) []string {
	var out []string
	for _, ip := range utilnet.SourceIPs(r) {
		out = append(out, ip.String())
	}
	return out
}

// withAuthentication finds the user.
func (s *Server) withAuthentication(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, err := s.authenticate(r)
		if err != nil {
			s.auditRefused(r)
			result := "failure"
			if !errors.Is(err, errUnauthorized) { // The client learns nothing: why a credential is refused is for the operator.
				result = "error"
				s.log.Info("credential refused", "path", r.URL.Path, "err", err)
			}
			s.metrics.authentication(result)
			s.fail(w, r, errUnauthorized)
			return
		}
		s.metrics.authentication("success")
		request.From(r.Context()).User = *user
		r.Header.Del("Authorization")
		next.ServeHTTP(w, r)
	})
}

func (s *Server) authenticate(r *http.Request) (*request.User, error) {
	for _, a := range s.parts.Authenticators {
		user, ok, err := a.Authenticate(r)
		if err != nil {
			return nil, err
		}
		if ok {
			return withAuthenticated(user), nil
		}
	}
	if s.parts.Anonymous != nil && !s.parts.Anonymous(r.URL.Path) {
		return nil, errUnauthorized
	}
	return &request.User{Name: request.Anonymous, Groups: []string{request.GroupUnauthenticated}}, nil
}

func withAuthenticated(u *request.User) *request.User {
	if u.Name == request.Anonymous || slices.Contains(u.Groups, request.GroupAuthenticated) || slices.Contains(u.Groups, request.GroupUnauthenticated) {
		return u
	}
	out := *u
	out.Groups = append(slices.Clone(u.Groups), request.GroupAuthenticated)
	return &out
}

// withAuthorization asks the authorizer.
func (s *Server) withAuthorization(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		state := request.From(r.Context())
		if err := s.authorize(r.Context(), attributesOf(state)); err != nil {
			s.forbid(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// forbid answers with why a user may not do this. It names what they asked for: browsers must not take that for a page.
func (s *Server) forbid(w http.ResponseWriter, r *http.Request, err error) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	s.fail(w, r, err)
}

func attributesOf(state *request.State) *authz.Attributes {
	i := &state.Info
	a := &authz.Attributes{
		User: state.User, ResourceRequest: i.IsResource, Verb: i.Verb, APIGroup: i.Group, APIVersion: i.Version, Resource: i.Resource,
		Subresource: i.Subresource, Namespace: i.Namespace, Name: i.Name, Path: i.Path,
	}
	if i.FieldSelector != "" {
		if sel, err := fields.ParseSelector(i.FieldSelector); err == nil {
			a.FieldSelector = sel.Requirements()
		}
	}
	if i.LabelSelector != "" {
		if sel, err := labels.Parse(i.LabelSelector); err == nil {
			a.LabelSelector, _ = sel.Requirements()
		}
	}
	return a
}

// authorize returns nil or the error to answer with.
func (s *Server) authorize(ctx context.Context, a *authz.Attributes) error {
	decision, reason, err := s.parts.Authorizer.Authorize(ctx, a)
	if state := request.From(ctx); state != nil {
		word := "forbid"
		if decision == authz.Allow {
			word = "allow"
		}
		state.Annotate("authorization.k8s.io/decision", word)
		state.Annotate("authorization.k8s.io/reason", reason)
	}
	switch {
	case decision == authz.Allow:
		return nil
	case err != nil:
		return apierrors.NewInternalError(err)
	default:
		return rest.Forbidden(a, reason)
	}
}

// withImpersonation lets a user act as another where the authorizer allows it.
func (s *Server) withImpersonation(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		state := request.From(r.Context())
		wanted, err := impersonate.Parse(r.Header)
		if err != nil {
			s.forbid(w, r, err)
			return
		}
		if wanted != nil {
			as, err := wanted.Authorize(r.Context(), attributesOf(state), s.parts.Authorizer)
			if err != nil {
				s.forbid(w, r, err)
				return
			}
			state.User, state.Impersonated, state.Constraint = as.User, true, as.Constraint
		}
		next.ServeHTTP(w, r)
	})
}
