// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package table holds what the table columns of many kinds share: column definitions and the text of common cells.
package table

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// Cells shown where there is nothing to show.
const (
	None    = "<none>"
	Unset   = "<unset>"
	Unknown = "<unknown>"
)

// shown is how many entries of a list a cell names before it counts the rest.
const shown = 3

// Name is the first column of nearly every kind.
func Name() metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{
		Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"],
	}
}

// Age is the column that Since fills.
func Age() metav1.TableColumnDefinition {
	return Text("Age", metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"])
}

// Text is a column of text.
func Text(name, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "string", Description: description}
}

// Number is a column of whole numbers.
func Number(name, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "integer", Description: description}
}

// Flag is a column of truth values.
func Flag(name, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "boolean", Description: description}
}

// Wide makes a column one that only "-o wide" shows.
func Wide(column metav1.TableColumnDefinition) metav1.TableColumnDefinition {
	column.Priority = 1
	return column
}

// Pods returns the wide columns of kinds with a pod template: container names, images and, where described, the selector.
func Pods(selector string) []metav1.TableColumnDefinition {
	columns := []metav1.TableColumnDefinition{
		Wide(Text("Containers", "Names of each container in the template.")),
		Wide(Text("Images", "Images referenced by each container in the template.")),
	}
	if selector != "" {
		columns = append(columns, Wide(Text("Selector", selector)))
	}
	return columns
}

// Since says how long ago t was.
func Since(t metav1.Time, now time.Time) string {
	if t.IsZero() {
		return Unknown
	}
	return duration.HumanDuration(now.Sub(t.Time))
}

// Containers returns the names and the images of containers, each joined by commas.
func Containers(containers []corev1.Container) (names, images string) {
	n := make([]string, len(containers))
	i := make([]string, len(containers))
	for k := range containers {
		n[k], i[k] = containers[k].Name, containers[k].Image
	}
	return strings.Join(n, ","), strings.Join(i, ",")
}

// List names the first entries and counts the others.
func List(entries []string) string {
	if len(entries) > shown {
		return fmt.Sprintf("%s + %d more...", strings.Join(entries[:shown], ","), len(entries)-shown)
	}
	if text := strings.Join(entries, ","); text != "" {
		return text
	}
	return Unset
}

// Or returns the value that p points to, or text when it points nowhere.
func Or[T ~string](p *T, text string) string {
	if p == nil {
		return text
	}
	return string(*p)
}

// Truth returns the value that p points to as text, or Unset.
func Truth(p *bool) string {
	switch {
	case p == nil:
		return Unset
	case *p:
		return "True"
	}
	return "False"
}

// CreatedColumns are the columns of kinds that have none of their own: the name, and when the object was created.
func CreatedColumns() []metav1.TableColumnDefinition {
	created := metav1.TableColumnDefinition{
		Name: "Created At", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"],
	}
	return []metav1.TableColumnDefinition{Name(), created}
}

// CreatedRow fills CreatedColumns.
func CreatedRow[T metav1.Object](obj T, _ time.Time) []any {
	return []any{obj.GetName(), obj.GetCreationTimestamp().UTC().Format(time.RFC3339)}
}
