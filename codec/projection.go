// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"
)

// Partial returns the metadata of obj alone, without some annotations. The result shares its maps and slices with obj.
func Partial(obj metav1.Object, gv schema.GroupVersion, without []string) *metav1.PartialObjectMetadata {
	out := &metav1.PartialObjectMetadata{ObjectMeta: metaOf(obj)}
	out.SetGroupVersionKind(gv.WithKind(AsPartial))
	has := func(key string) bool { _, ok := out.Annotations[key]; return ok }
	if slices.ContainsFunc(without, has) {
		out.Annotations = maps.Clone(out.Annotations)
		for _, key := range without {
			delete(out.Annotations, key)
		}
	}
	return out
}

func metaOf(obj metav1.Object) metav1.ObjectMeta {
	if a, ok := obj.(metav1.ObjectMetaAccessor); ok {
		if m, ok := a.GetObjectMeta().(*metav1.ObjectMeta); ok {
			return *m
		}
	}
	return metav1.ObjectMeta{
		Name: obj.GetName(), GenerateName: obj.GetGenerateName(), Namespace: obj.GetNamespace(), SelfLink: obj.GetSelfLink(), UID: obj.GetUID(),
		ResourceVersion: obj.GetResourceVersion(), Generation: obj.GetGeneration(), CreationTimestamp: obj.GetCreationTimestamp(),
		DeletionTimestamp: obj.GetDeletionTimestamp(), DeletionGracePeriodSeconds: obj.GetDeletionGracePeriodSeconds(), Labels: obj.GetLabels(),
		Annotations: obj.GetAnnotations(), OwnerReferences: obj.GetOwnerReferences(), Finalizers: obj.GetFinalizers(), ManagedFields: obj.GetManagedFields(),
	}
}

// TableSource renders objects of one kind as table rows.
type TableSource struct {
	Columns []metav1.TableColumnDefinition
	Row     func(obj runtime.Object, now time.Time) []any
	// Order of the rows of a list; nil keeps that of the list.
	Order func(a, b runtime.Object) int
	// Conditions of a row; nil where there are none.
	Conditions func(obj runtime.Object) []metav1.TableRowCondition
}

// DefaultTable shows name and creation time.
var DefaultTable = TableSource{
	Columns: []metav1.TableColumnDefinition{
		{Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"]},
		{Name: "Created At", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"]},
	},
	Row: func(obj runtime.Object, _ time.Time) []any {
		m, err := meta.Accessor(obj)
		if err != nil {
			return []any{"", ""}
		}
		return []any{m.GetName(), m.GetCreationTimestamp().UTC().Format(time.RFC3339)}
	},
}

// TableOptions say how a client wants its table.
type TableOptions struct {
	Include metav1.IncludeObjectPolicy
	// GroupVersion of the table itself.
	GroupVersion schema.GroupVersion
	Now          time.Time
	// Without are annotations that metadata in rows is without.
	Without []string
}

// Table makes a table of objects. list carries the metadata of a list.
func Table(source TableSource, opts TableOptions, objects []runtime.Object, list metav1.ListMeta) *metav1.Table {
	out := &metav1.Table{ListMeta: list, ColumnDefinitions: source.Columns, Rows: make([]metav1.TableRow, 0, len(objects))}
	out.SetGroupVersionKind(opts.GroupVersion.WithKind(AsTable))
	if source.Order != nil {
		objects = slices.SortedStableFunc(slices.Values(objects), source.Order)
	}
	for _, obj := range objects {
		row := metav1.TableRow{Cells: source.Row(obj, opts.Now)}
		if source.Conditions != nil {
			row.Conditions = source.Conditions(obj)
		}
		switch opts.Include {
		case metav1.IncludeObject:
			row.Object.Object = obj
		default:
			m, err := meta.Accessor(obj)
			// That the initial events end is said by an annotation, whatever is asked for.
			if err == nil && (opts.Include != metav1.IncludeNone || m.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true") {
				row.Object.Object = Partial(m, opts.GroupVersion, opts.Without)
			}
		}
		out.Rows = append(out.Rows, row)
	}
	return out
}

// Age renders the time since t as kubectl's columns do.
func Age(t metav1.Time, now time.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(t.Time))
}
