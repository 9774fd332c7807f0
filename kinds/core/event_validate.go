// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/check"
	"kogge.dev/kogge/kinds/objectmeta"
)

// The longest texts that an event with an event time may hold, in bytes.
const (
	maxEventInstance = 128
	maxEventAction   = 128
	maxEventReason   = 128
	maxEventNote     = 1024
)

// strictEvents reports whether a request speaks events.k8s.io, which asks more of events than core/v1 ever did.
func strictEvents(req kinds.Request) bool { return req.Version == eventsv1.SchemeGroupVersion }

func validateEvent(req kinds.Request, e *corev1.Event) field.ErrorList {
	errs := validateAnyEvent(req, e)
	if !strictEvents(req) {
		return errs
	}
	errs = append(errs, objectmeta.Validate(e, objectmeta.Namespaced, nil, field.NewPath("metadata"))...)
	errs = append(errs, validateSeries(e)...)
	if e.EventTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("eventTime"), ""))
	}
	if e.Type != corev1.EventTypeNormal && e.Type != corev1.EventTypeWarning {
		errs = append(errs, field.Invalid(field.NewPath("type"), "", fmt.Sprintf("has invalid value: %v", e.Type)))
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"firstTimestamp", !e.FirstTimestamp.IsZero()},
		{"lastTimestamp", !e.LastTimestamp.IsZero()},
		{"count", e.Count != 0},
		{"source", e.Source != (corev1.EventSource{})},
	} {
		if f.set {
			errs = append(errs, field.Invalid(field.NewPath(f.name), "", "needs to be unset"))
		}
	}
	return errs
}

// validateEventUpdate lets events.k8s.io change nothing but the series.
func validateEventUpdate(req kinds.Request, new, old *corev1.Event) field.ErrorList {
	errs := validateAnyEvent(req, new)
	if !strictEvents(req) {
		return errs
	}
	if !reflect.DeepEqual(new.Series, old.Series) {
		errs = append(errs, validateSeries(new)...)
	}
	for _, f := range []struct {
		name     string
		new, old any
	}{
		{"involvedObject", new.InvolvedObject, old.InvolvedObject},
		{"reason", new.Reason, old.Reason},
		{"message", new.Message, old.Message},
		{"source", new.Source, old.Source},
		{"firstTimestamp", new.FirstTimestamp, old.FirstTimestamp},
		{"lastTimestamp", new.LastTimestamp, old.LastTimestamp},
		{"count", new.Count, old.Count},
		{"type", new.Type, old.Type},
		// Some clients send nanoseconds, which storage does not keep.
		{"eventTime", metav1.NewMicroTime(new.EventTime.Truncate(time.Microsecond)), metav1.NewMicroTime(old.EventTime.Truncate(time.Microsecond))},
		{"action", new.Action, old.Action},
		{"related", new.Related, old.Related},
		{"reportingController", new.ReportingController, old.ReportingController},
		{"reportingInstance", new.ReportingInstance, old.ReportingInstance},
	} {
		errs = append(errs, check.Immutable(f.new, f.old, field.NewPath(f.name))...)
	}
	return errs
}

func validateSeries(e *corev1.Event) field.ErrorList {
	if e.Series == nil {
		return nil
	}
	var errs field.ErrorList
	if e.Series.Count < 2 {
		errs = append(errs, field.Invalid(field.NewPath("series.count"), "", "should be at least 2"))
	}
	if e.Series.LastObservedTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("series.lastObservedTime"), ""))
	}
	return errs
}

// validateAnyEvent judges what holds in both groups. An event with an event time is of the newer form.
func validateAnyEvent(req kinds.Request, e *corev1.Event) field.ErrorList {
	var errs field.ErrorList
	elsewhere := field.Invalid(field.NewPath("involvedObject", "namespace"), e.InvolvedObject.Namespace, "does not match event.namespace")
	about := e.InvolvedObject.Namespace
	if e.EventTime.IsZero() {
		// Events about objects without a namespace live in "default".
		if about == "" && e.Namespace != metav1.NamespaceNone && e.Namespace != metav1.NamespaceDefault || about != "" && about != e.Namespace {
			errs = append(errs, elsewhere)
		}
	} else {
		if about == "" && e.Namespace != metav1.NamespaceDefault && e.Namespace != metav1.NamespaceSystem {
			errs = append(errs, elsewhere)
		}
		errs = append(errs, validateNewerEvent(req, e)...)
	}
	return append(errs, check.Subdomain(e.Namespace, field.NewPath("namespace"))...)
}

func validateNewerEvent(req kinds.Request, e *corev1.Event) field.ErrorList {
	var errs field.ErrorList
	controller := field.NewPath("reportingController")
	if !strictEvents(req) {
		controller = field.NewPath("reportingComponent")
	}
	if e.ReportingController == "" {
		errs = append(errs, field.Required(controller, ""))
	}
	errs = append(errs, check.QualifiedName(e.ReportingController, controller)...)
	for _, f := range []struct {
		name, value string
		limit       int
		optional    bool
	}{
		{"reportingInstance", e.ReportingInstance, maxEventInstance, false},
		{"action", e.Action, maxEventAction, false},
		{"reason", e.Reason, maxEventReason, false},
		{"message", e.Message, maxEventNote, true},
	} {
		if f.value == "" && !f.optional {
			errs = append(errs, field.Required(field.NewPath(f.name), ""))
		}
		if len(f.value) > f.limit {
			errs = append(errs, field.Invalid(field.NewPath(f.name), "", fmt.Sprintf("can have at most %v characters", f.limit)))
		}
	}
	return errs
}
