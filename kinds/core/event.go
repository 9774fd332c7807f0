// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/objectmeta"
)

// eventLifetime is how long an event is kept after its last change.
const eventLifetime = time.Hour

func event() *kinds.Kind {
	newEvent := func() kinds.Object { return &corev1.Event{} }
	newList := func() runtime.Object { return &corev1.EventList{} }
	return kinds.Define(kinds.Kind{
		Resource:       "events",
		Singular:       "event",
		FreeFinalizers: true,
		ShortNames:     []string{"ev"},
		Namespaced:     true,
		NoGeneration:   true,
		CreateOnUpdate: true,
		// core/v1 has never limited the names of events; events.k8s.io does, in its validation.
		ValidateName: objectmeta.PathSegment,
		Storage:      kinds.Storage{Prefix: "events"},
		Served: []kinds.Served{
			{
				GroupVersionKind: version.WithKind("Event"),
				New:              newEvent,
				NewList:          newList,
			},
			{
				GroupVersionKind: eventsv1.SchemeGroupVersion.WithKind("Event"),
				New:              func() kinds.Object { return &eventsv1.Event{} },
				NewList:          func() runtime.Object { return &eventsv1.EventList{} },
				FromStorage:      eventFromStorage,
				ToStorage:        eventToStorage,
				FieldLabels: map[string]string{
					"reason": "reason", "reportingController": "reportingComponent", "type": "type",
					"regarding.kind": "involvedObject.kind", "regarding.namespace": "involvedObject.namespace", "regarding.name": "involvedObject.name",
					"regarding.uid": "involvedObject.uid", "regarding.apiVersion": "involvedObject.apiVersion",
					"regarding.resourceVersion": "involvedObject.resourceVersion", "regarding.fieldPath": "involvedObject.fieldPath",
				},
			},
		},
	}, version.WithKind("Event"),
		func() *corev1.Event { return &corev1.Event{} },
		newList,
		kinds.Strategy[*corev1.Event]{
			Validate:       validateEvent,
			ValidateUpdate: validateEventUpdate,
			Fields:         eventFields,
			Columns:        eventColumns(),
			Row:            eventRow,
			TTL:            func(*corev1.Event) time.Duration { return eventLifetime },
		})
}

// eventFields names each field as core/v1 does.
func eventFields(e *corev1.Event) fields.Set {
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	return fields.Set{
		"involvedObject.kind":            e.InvolvedObject.Kind,
		"involvedObject.namespace":       e.InvolvedObject.Namespace,
		"involvedObject.name":            e.InvolvedObject.Name,
		"involvedObject.uid":             string(e.InvolvedObject.UID),
		"involvedObject.apiVersion":      e.InvolvedObject.APIVersion,
		"involvedObject.resourceVersion": e.InvolvedObject.ResourceVersion,
		"involvedObject.fieldPath":       e.InvolvedObject.FieldPath,
		"reason":                         e.Reason,
		"reportingComponent":             e.ReportingController,
		"source":                         source,
		"type":                           e.Type,
	}
}

func eventFromStorage(obj kinds.Object) (kinds.Object, error) {
	in := obj.(*corev1.Event).DeepCopy()
	out := &eventsv1.Event{
		ObjectMeta:               in.ObjectMeta,
		EventTime:                in.EventTime,
		ReportingController:      in.ReportingController,
		ReportingInstance:        in.ReportingInstance,
		Action:                   in.Action,
		Reason:                   in.Reason,
		Regarding:                in.InvolvedObject,
		Related:                  in.Related,
		Note:                     in.Message,
		Type:                     in.Type,
		DeprecatedSource:         in.Source,
		DeprecatedFirstTimestamp: in.FirstTimestamp,
		DeprecatedLastTimestamp:  in.LastTimestamp,
		DeprecatedCount:          in.Count,
	}
	if in.Series != nil {
		out.Series = &eventsv1.EventSeries{Count: in.Series.Count, LastObservedTime: in.Series.LastObservedTime}
	}
	out.TypeMeta = typeMeta(eventsv1.SchemeGroupVersion.String(), "Event")
	return out, nil
}

func eventToStorage(obj kinds.Object) (kinds.Object, error) {
	in := obj.(*eventsv1.Event).DeepCopy()
	out := &corev1.Event{
		ObjectMeta:          in.ObjectMeta,
		InvolvedObject:      in.Regarding,
		Reason:              in.Reason,
		Message:             in.Note,
		Source:              in.DeprecatedSource,
		FirstTimestamp:      in.DeprecatedFirstTimestamp,
		LastTimestamp:       in.DeprecatedLastTimestamp,
		Count:               in.DeprecatedCount,
		Type:                in.Type,
		EventTime:           in.EventTime,
		Action:              in.Action,
		Related:             in.Related,
		ReportingController: in.ReportingController,
		ReportingInstance:   in.ReportingInstance,
	}
	if in.Series != nil {
		out.Series = &corev1.EventSeries{Count: in.Series.Count, LastObservedTime: in.Series.LastObservedTime}
	}
	out.TypeMeta = typeMeta(version.String(), "Event")
	return out, nil
}

func typeMeta(apiVersion, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: apiVersion, Kind: kind}
}
