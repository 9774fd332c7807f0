// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package hostile_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestCopyBombs sends JSON patches that double a value with each copy, that copy a value into itself, and that have more operations than a patch
// may. Copies may add 3 MiB, as upstream's.
func TestCopyBombs(t *testing.T) {
	s := lay(t)
	doubling := func(n int) []byte {
		var out strings.Builder
		fmt.Fprintf(&out, `[{"op":"add","path":"/metadata/annotations","value":{}},{"op":"add","path":"/metadata/annotations/a","value":[%q]}`, strings.Repeat("x", 1<<10))
		for range n {
			out.WriteString(`,{"op":"copy","from":"/metadata/annotations/a","path":"/metadata/annotations/a/-"}`)
		}
		out.WriteString("]")
		return []byte(out.String())
	}
	many := []byte("[" + strings.TrimSuffix(strings.Repeat(`{"op":"test","path":"/kind","value":"ConfigMap"},`, 10_001), ",") + "]")
	s.under(t, 256<<20, func(t *testing.T) {
		c := s.caller(attacker)
		defer c.close()
		for _, n := range []int{13, 15, 17} { // Without a bound each would be doubled by the next.
			text := c.want(t, http.StatusUnprocessableEntity, http.MethodPatch, mine, doubling(n), "Content-Type", "application/json-patch+json", "Accept", "application/json")
			if !strings.Contains(text, `"details":{}`) { // What is too large as an object says which field is.
				t.Errorf("%d copies: %s, want the copies refused, not what they made", n, text)
			}
		}
		c.want(t, http.StatusRequestEntityTooLarge, http.MethodPatch, mine, many, "Content-Type", "application/json-patch+json")
	})
}

// TestHugePatches sends strategic and merge patches with items and keys by the thousand, of which many are merged by key, and deletes of lists
// that are not there. Their work must not grow with the square of their size.
func TestHugePatches(t *testing.T) {
	s := lay(t)
	c := s.caller(attacker)
	defer c.close()
	const pods = "/api/v1/namespaces/default/podtemplates"
	c.want(t, http.StatusCreated, http.MethodPost, pods, []byte(`{"metadata":{"name":"p"},"template":{"spec":{"containers":[{"name":"c","image":"i"}]}}}`), "Content-Type", "application/json")
	list := func(format string, n int) string {
		var out strings.Builder
		for i := range n {
			fmt.Fprintf(&out, format+",", i)
		}
		return strings.TrimSuffix(out.String(), ",")
	}
	const n = 1000
	bodies := []string{
		`{"template":{"spec":{"containers":[` + list(`{"name":"c%d","image":"i"}`, n) + `]}}}`,
		`{"template":{"spec":{"containers":[` + list(`{"name":"c%d","$patch":"delete"}`, n) + `]}}}`,
		`{"template":{"spec":{"containers":[{"name":"c","env":[` + list(`{"name":"e%d","value":"v"}`, n) + `]}]}}}`,
		`{"metadata":{"$deleteFromPrimitiveList/finalizers":[` + list(`"f%d"`, n) + `]}}`,
		`{"metadata":{"$setElementOrder/finalizers":[` + list(`"f%d"`, n) + `],"finalizers":[` + list(`"f%d"`, n) + `]}}`,
		`{"metadata":{"$retainKeys":[` + list(`"f%d"`, n) + `]}}`,
	}
	s.under(t, 512<<20, func(t *testing.T) {
		for _, body := range bodies {
			for _, kind := range []string{"application/strategic-merge-patch+json", "application/merge-patch+json"} {
				code, data, err := c.do(t.Context(), http.MethodPatch, pods+"/p?dryRun=All", []byte(body), "Content-Type", kind, "Accept", "application/json")
				if err != nil || code >= 500 {
					t.Errorf("%s beginning with %.60s = %d, %v: %.300s", kind, body, code, err, data)
				}
			}
		}
	})
}

// TestManyManagers applies to one object under 300 names. The record of managed fields grows with each: the object must stay below the store's
// limit, and whoever comes last must still be told what it may not do.
func TestManyManagers(t *testing.T) {
	s := lay(t)
	s.under(t, 384<<20, func(t *testing.T) {
		c := s.caller(attacker)
		defer c.close()
		for i := range 300 {
			body := fmt.Appendf(nil, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"managed"},"data":{"k%d":"v","shared":"same"}}`, i)
			c.want(t, map[bool]int{true: http.StatusCreated, false: http.StatusOK}[i == 0], http.MethodPatch, maps+fmt.Sprintf("/managed?fieldManager=m%d", i), body, "Content-Type", "application/apply-patch+yaml")
		}
		c.want(t, http.StatusConflict, http.MethodPatch, maps+"/managed?fieldManager=other", []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"managed"},"data":{"shared":"another"}}`), "Content-Type", "application/apply-patch+yaml")
		c.want(t, http.StatusOK, http.MethodPatch, maps+"/managed", []byte(`{"metadata":{"managedFields":[{}]}}`), "Content-Type", "application/merge-patch+json")
	})
}
