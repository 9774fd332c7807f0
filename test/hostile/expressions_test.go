// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package hostile_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/testcluster"
)

const (
	definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	policies    = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
	bindings    = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
)

// definition is a custom resource definition with a schema of spec.
func definition(plural, spec string) []byte {
	kind := strings.ToUpper(plural[:1]) + plural[1:]
	return fmt.Appendf(nil, `{"metadata":{"name":"%[1]s.hostile.dev"},"spec":{"group":"hostile.dev","scope":"Namespaced","names":{"plural":%[1]q,"singular":%[1]q,"kind":%[2]q,"listKind":"%[2]sList"},
		"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":%[3]s}}}}]}}`, plural, kind, spec)
}

// TestExpressionBombs defines resources and policies with expressions that would cost more than a request may: loops in loops over lists without
// bounds, text that is doubled over and over, brackets without end. They are refused when they are defined; or, where only the object tells
// what they cost, they are stopped and the object is refused.
func TestExpressionBombs(t *testing.T) {
	s := lay(t)
	s.under(t, 512<<20, func(t *testing.T) {
		c := s.caller(attacker)
		defer c.close()
		const lists = `{"type":"object","properties":{"a":{"type":"array","items":{"type":"string"}}},"x-kubernetes-validations":[{"rule":%q}]}`
		for i, rule := range []string{
			"self.a.all(x, self.a.all(y, self.a.all(z, x == y || y == z)))",
			"self.a.all(x, x.matches('(a+)+' + x))",
			"self.a.map(x, self.a.map(y, self.a)).size() > 0",
			strings.Repeat("(", 5000) + "true" + strings.Repeat(")", 5000),
			strings.Repeat("true && ", 20_000) + "true",
			"self.a == " + strings.Repeat("[", 3000) + strings.Repeat("]", 3000),
		} {
			text := c.want(t, http.StatusUnprocessableEntity, http.MethodPost, definitions, definition(fmt.Sprintf("bombs%d", i), fmt.Sprintf(lists, rule)))
			if i < 3 && !strings.Contains(text, "exceeds budget") {
				t.Errorf("rule %.60s: %s, want its cost named", rule, text)
			}
		}
		policy := func(name, expression string) []byte {
			return fmt.Appendf(nil, `{"metadata":{"name":%q},"spec":{"failurePolicy":"Fail","matchConstraints":{"resourceRules":[{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE"],"resources":["configmaps"]}],
				"objectSelector":{"matchLabels":{"policy":%q}}},"validations":[{"expression":%q}]}}`, name, name, expression)
		}
		const name = "loops"
		c.want(t, http.StatusCreated, http.MethodPost, policies, policy(name, "object.data.all(a, object.data.all(b, object.data.all(c, a != b || b != c || true)))"))
		c.want(t, http.StatusCreated, http.MethodPost, bindings, fmt.Appendf(nil, `{"metadata":{"name":%[1]q},"spec":{"policyName":%[1]q,"validationActions":["Deny"]}}`, name))
		var data strings.Builder
		for i := range 2000 {
			fmt.Fprintf(&data, `"k%d":%q,`, i, strings.Repeat("x", 100))
		}
		testcluster.Settle(t, s.cluster.Admin())
		judged := fmt.Appendf(nil, `{"metadata":{"name":"judged","labels":{"policy":%q}},"data":{%s}}`, name, strings.TrimSuffix(data.String(), ","))
		code, text, err := c.do(t.Context(), http.MethodPost, maps+"?dryRun=All", judged)
		if err != nil || code < 400 || code >= 500 || !strings.Contains(string(text), "cost limit exceeded") {
			t.Errorf("object of the policy = %d, %v: %.600s; want the policy to be stopped for its cost", code, err, text)
		}
		// Brackets without end in a policy.
		for _, expression := range []string{strings.Repeat("(", 20_000) + "true" + strings.Repeat(")", 20_000), strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + " == []"} {
			c.want(t, http.StatusUnprocessableEntity, http.MethodPost, policies, policy("brackets", expression))
		}
	})
}

// TestSchemaBombs defines resources whose schemas are thousands deep, or have patterns that explode, and stores objects that a backtracking matcher
// would work on until the end of days.
func TestSchemaBombs(t *testing.T) {
	s := lay(t)
	s.under(t, 512<<20, func(t *testing.T) {
		c := s.caller(attacker)
		defer c.close()
		const text = `{"type":"object","properties":{"text":{"type":"string","pattern":%q}}}`
		deep := strings.Repeat(`{"type":"object","properties":{"a":`, 2000) + `{"type":"string"}` + strings.Repeat("}}", 2000)
		code, data, err := c.do(t.Context(), http.MethodPost, definitions, definition("deep", deep))
		if err != nil || code >= 500 {
			t.Errorf("schema 2,000 deep = %d, %v: %.300s", code, err, data)
		}
		c.want(t, http.StatusUnprocessableEntity, http.MethodPost, definitions, definition("repeats", fmt.Sprintf(text, "((((a{100}){100}){100}){100}){100}")))
		c.want(t, http.StatusUnprocessableEntity, http.MethodPost, definitions, definition("nests", fmt.Sprintf(text, strings.Repeat("(", 5000)+strings.Repeat(")", 5000))))
		c.want(t, http.StatusCreated, http.MethodPost, definitions, definition("texts", fmt.Sprintf(text, "^(a|a?)+$")))
		body := fmt.Appendf(nil, `{"apiVersion":"hostile.dev/v1","kind":"Texts","metadata":{"name":"evil"},"spec":{"text":%q}}`, strings.Repeat("a", 200_000)+"b")
		const texts = "/apis/hostile.dev/v1/namespaces/default/texts"
		gvr := schema.GroupVersionResource{Group: "hostile.dev", Version: "v1", Resource: "texts"}
		testcluster.AwaitServed(t, client.At(s.cluster.Admin(), gvr, func() *unstructured.Unstructured { return &unstructured.Unstructured{} }), recovery)
		c.want(t, http.StatusUnprocessableEntity, http.MethodPost, texts, body)
		// The tree of a custom resource is built, pruned and judged level by level.
		for _, n := range []int{5000, 100_000} {
			code, data, err := c.do(t.Context(), http.MethodPost, texts, fmt.Appendf(nil, `{"apiVersion":"hostile.dev/v1","kind":"Texts","metadata":{"name":"deep"},"spec":{"other":%s}}`, strings.Repeat("[", n)+strings.Repeat("]", n)))
			if err != nil || code >= 500 {
				t.Errorf("custom resource %d deep = %d, %v: %.300s", n, code, err, data)
			}
		}
	})
}
