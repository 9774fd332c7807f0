// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/util/jsonpath"

	"kogge.dev/kogge/kinds"
)

// columns returns the version's table, and keeps it; nil where the definition can't be read.
func (v *version) columns() *kinds.Table {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.table == nil {
		whole, err := v.read()
		if err != nil {
			return nil
		}
		v.table = newTable(slices.Clone(whole.AdditionalPrinterColumns))
	}
	return v.table
}

// newTable renders a version's printer columns. Columns whose path does not parse are left out; validation keeps them from being stored.
func newTable(columns []apiextensionsv1.CustomResourceColumnDefinition) *kinds.Table {
	if len(columns) == 0 {
		columns = []apiextensionsv1.CustomResourceColumnDefinition{ageColumn}
	}
	t := &kinds.Table{Columns: []metav1.TableColumnDefinition{{
		Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"],
	}}}
	var kept []apiextensionsv1.CustomResourceColumnDefinition
	for _, c := range columns {
		if parseColumn(c) == nil {
			continue
		}
		description := c.Description
		if description == "" {
			description = "Custom resource definition column (in JSONPath format): " + c.JSONPath
		}
		t.Columns = append(t.Columns, metav1.TableColumnDefinition{Name: c.Name, Type: c.Type, Format: c.Format, Description: description, Priority: c.Priority})
		kept = append(kept, c)
	}
	t.Row = func(obj kinds.Object, now time.Time) []any {
		cells := []any{obj.GetName()}
		u := asTree(obj)
		if u == nil {
			return cells
		}
		for _, c := range kept {
			// A parsed path keeps state while it prints, so each row has its own; parsing costs about a microsecond.
			cells = append(cells, cell(parseColumn(c), c.Type, u.Object, now))
		}
		return cells
	}
	return t
}

func parseColumn(c apiextensionsv1.CustomResourceColumnDefinition) *jsonpath.JSONPath {
	p := jsonpath.New(c.Name).AllowMissingKeys(true)
	if err := p.Parse(fmt.Sprintf("{%s}", c.JSONPath)); err != nil {
		return nil
	}
	return p
}

func cell(p *jsonpath.JSONPath, kind string, data map[string]any, now time.Time) any {
	results, err := p.FindResults(data)
	if err != nil || len(results) == 0 || len(results[0]) == 0 {
		return nil
	}
	value := results[0][0].Interface()
	if kind == "string" {
		var buf bytes.Buffer
		if p.PrintResults(&buf, []reflect.Value{reflect.ValueOf(value)}) != nil {
			return nil
		}
		return buf.String()
	}
	return cellOf(kind, value, now)
}

// cellOf returns a value of the column's type, or nothing when the value is of another one.
func cellOf(kind string, value any, now time.Time) any {
	switch kind {
	case "integer":
		switch n := value.(type) {
		case int64:
			return n
		case float64:
			return int64(n)
		case json.Number:
			if i, err := n.Int64(); err == nil {
				return i
			}
		}
	case "number":
		switch n := value.(type) {
		case int64:
			return float64(n)
		case float64:
			return n
		case json.Number:
			if f, err := n.Float64(); err == nil {
				return f
			}
		}
	case "boolean":
		if b, ok := value.(bool); ok {
			return b
		}
	case "date":
		text, ok := value.(string)
		if !ok {
			return nil
		}
		var at metav1.Time
		if at.UnmarshalQueryParameter(text) != nil {
			return "<invalid>"
		}
		if at.IsZero() {
			return "<unknown>"
		}
		return duration.HumanDuration(now.Sub(at.Time))
	}
	return nil
}
