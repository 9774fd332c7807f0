// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package request holds what the stops of the API server's request path tell one another about the request in hand.
package request

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// User is an authenticated identity.
type User struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
}

// Names and groups with a meaning of their own.
const (
	Anonymous            = "system:anonymous"
	GroupUnauthenticated = "system:unauthenticated"
	GroupAuthenticated   = "system:authenticated"
	GroupMasters         = "system:masters"
	GroupNodes           = "system:nodes"
	GroupServiceAccounts = "system:serviceaccounts"
	NodePrefix           = "system:node:"
	ServiceAccountPrefix = "system:serviceaccount:"
)

// Info is the parsed form of a request's URL and method. For non-resource requests only Verb (lower-case method) and
// Path are set.
type Info struct {
	IsResource bool
	Path       string
	// Verb is get, list, watch, create, update, patch, delete, deletecollection, or connect-like verbs as upstream names them for authorization.
	Verb string
	schema.GroupVersionResource
	Namespace   string
	Name        string
	Subresource string
	// FieldSelector and LabelSelector are the raw selectors of list, watch and deletecollection.
	FieldSelector, LabelSelector string
}

// LongRunning tells requests that are held open: they have no deadline, and their number says nothing about the work they make.
func (i *Info) LongRunning() bool {
	if !i.IsResource {
		return strings.HasPrefix(i.Path, "/debug/pprof/")
	}
	return i.Verb == "watch" || i.Verb == "proxy" || slices.Contains([]string{"attach", "exec", "proxy", "log", "portforward"}, i.Subresource)
}

// State travels in the request's context. The stops fill it in their order; later stops only read what earlier ones
// wrote.
type State struct {
	Info Info
	User User
	// Impersonated says that User is not who sent the request; Constraint is the verb of the mode that allowed it, if it was a constrained one.
	Impersonated bool
	Constraint   string
	Received     time.Time
	// URI is what the client asked for, path and query.
	URI string
	// AuditID identifies the request in audit and logs.
	AuditID string
	// SourceIPs and UserAgent are the client's; empty in process.
	SourceIPs []string
	UserAgent string
	// Warnings collects HTTP Warning texts.
	Warnings []string
	// Annotations collects audit annotations; Details those that only stand where the request itself is recorded, too.
	Annotations, Details map[string]string
	// Sent, when set, is told what the request brings once that is known to be sound: the object as it was decoded, or the bytes of a patch.
	Sent func(object runtime.Object, patch []byte)
	// Unrecorded says that the answer is no object that the audit log shows.
	Unrecorded bool
	// Streams, when set, is called by a watch that has begun to stream: what it costs from then on is little.
	Streams func()
}

const (
	// maxWarned is how many letters of warnings an answer has before they are cut, and where it ends when they are. No more warnings are kept either:
	// each has a letter.
	maxWarned = 4096
	// maxCut is how many letters of each are left then.
	maxCut = 256
)

// Warned returns the warnings that an answer has room for, cut as upstream cuts them.
func (s *State) Warned() []string {
	all := 0
	for _, text := range s.Warnings {
		all += utf8.RuneCountInString(text)
	}
	if all <= maxWarned {
		return s.Warnings
	}
	var out []string
	written := 0
	for _, text := range s.Warnings {
		if written >= maxWarned {
			break
		}
		if runes := []rune(text); len(runes) > maxCut {
			text = string(runes[:maxCut])
		}
		written += utf8.RuneCountInString(text)
		out = append(out, text)
	}
	return out
}

// Warn adds a warning unless it is there already, or is nothing that a header can hold: empty, or with control characters.
func (s *State) Warn(text string) {
	if text == "" || len(s.Warnings) >= maxWarned || slices.Contains(s.Warnings, text) || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return
	}
	s.Warnings = append(s.Warnings, text)
}

// Annotate adds an audit annotation; the first value of a key stays.
func (s *State) Annotate(key, value string) { annotate(&s.Annotations, key, value) }

// AnnotateDetail adds one that says as much of the request as the request does: it is only recorded with it.
func (s *State) AnnotateDetail(key, value string) { annotate(&s.Details, key, value) }

func annotate(to *map[string]string, key, value string) {
	if *to == nil {
		*to = map[string]string{}
	}
	if _, ok := (*to)[key]; !ok {
		(*to)[key] = value
	}
}

type stateKey struct{}

// With attaches the state to a context.
func With(ctx context.Context, s *State) context.Context {
	return context.WithValue(ctx, stateKey{}, s)
}

// From returns the state of a context; nil outside a request.
func From(ctx context.Context) *State {
	s, _ := ctx.Value(stateKey{}).(*State)
	return s
}
