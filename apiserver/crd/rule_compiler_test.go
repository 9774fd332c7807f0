// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/cel-go/common/functions"
	"github.com/google/cel-go/common/operators"
	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	schemacel "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"

	"kogge.dev/kogge/kinds/apiextensions"
)

// outcome is what compiling a rule found, in a form that can be compared.
type outcome struct {
	Err, MessageErr                string
	UsesOldSelf                    bool
	Cost, MessageCost, Cardinality uint64
}

var selfName = regexp.MustCompile(`selfType\d+`)

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return selfName.ReplaceAllString(err.Error(), "selfType")
}

// panicking returns what f panics with: a constant map whose keys can't be hashed makes cel-go do that.
func panicking(f func() ([]outcome, error)) (out []outcome, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return f()
}

func outcomes(s *structuralschema.Structural, root bool, c *compiler) ([]outcome, error) {
	return panicking(func() ([]outcome, error) {
		verdicts, err := c.compile(s, root)
		var out []outcome
		for _, v := range verdicts {
			out = append(out, outcome{
				Err: errorText(v.err), MessageErr: errorText(v.messageErr), UsesOldSelf: v.usesOldSelf,
				Cost: v.cost, MessageCost: v.messageCost, Cardinality: v.cardinality,
			})
		}
		return out, err
	})
}

// wantOutcomes asks the compiler that makes programs.
func wantOutcomes(t testing.TB, s *structuralschema.Structural, root bool) ([]outcome, error) {
	t.Helper()
	text := func(err *apiservercel.Error) string {
		if err == nil {
			return ""
		}
		if err.Type != apiservercel.ErrorTypeInvalid {
			t.Errorf("%v is of type %v: we call all of them invalid", err, err.Type)
		}
		return selfName.ReplaceAllString(err.Detail, "selfType")
	}
	return panicking(func() ([]outcome, error) {
		base := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
		results, err := schemacel.Compile(s, model.SchemaDeclType(s, root), celconfig.PerCallLimit, base, schemacel.NewExpressionsEnvLoader())
		var out []outcome
		for i, r := range results {
			if has := r.MessageExpression != nil; has != (r.Error == nil && r.MessageExpressionError == nil && s.XValidations[i].MessageExpression != "") {
				t.Errorf("%q has a program for its message: %v", s.XValidations[i].Rule, has)
			}
			out = append(out, outcome{
				Err: text(r.Error), MessageErr: text(r.MessageExpressionError), UsesOldSelf: r.UsesOldSelf,
				Cost: r.MaxCost, MessageCost: r.MessageExpressionMaxCost, Cardinality: r.MaxCardinality,
			})
		}
		return out, err
	})
}

// compare compiles the rules of a schema both ways.
func compare(t *testing.T, s *structuralschema.Structural, root bool, c *compiler) []outcome {
	t.Helper()
	got, gotErr := outcomes(s, root, c)
	want, wantErr := wantOutcomes(t, s, root)
	if diff := cmp.Diff(want, got); diff != "" || errorText(gotErr) != errorText(wantErr) {
		t.Errorf("compile(%v) (-want +got):\n%s%v, want %v", s.XValidations, diff, gotErr, wantErr)
	}
	return got
}

func structural(t testing.TB, text string) *structuralschema.Structural {
	t.Helper()
	schemas, errs := apiextensions.Validate(definition(t, text), nil)
	if len(schemas) != 1 {
		t.Fatal(errs.ToAggregate())
	}
	return schemas[0].Structural
}

const manyTypes = `
type: object
required: [name]
properties:
  name: {type: string, maxLength: 63}
  long: {type: string}
  color: {type: string, enum: [red, green]}
  data: {type: string, format: byte}
  at: {type: string, format: date-time}
  day: {type: string, format: date}
  wait: {type: string, format: duration}
  'n': {type: integer}
  f: {type: number}
  b: {type: boolean}
  port: {x-kubernetes-int-or-string: true}
  free: {type: object, x-kubernetes-preserve-unknown-fields: true}
  namespace: {type: string}
  a-b: {type: string}
  names: {type: array, items: {type: string, maxLength: 10}, maxItems: 5}
  many: {type: array, items: {type: string}}
  list: {type: array, items: {type: object, required: [key], properties: {key: {type: string}, 'n': {type: integer}, sub: {type: array, items: {type: string}}}}}
  matrix: {type: array, maxItems: 3, items: {type: array, maxItems: 3, items: {type: integer}}}
  labels: {type: object, additionalProperties: {type: string}, maxProperties: 8}
  any: {type: object, additionalProperties: {type: object, properties: {v: {type: integer}}}}
  pod: {type: object, x-kubernetes-embedded-resource: true, x-kubernetes-preserve-unknown-fields: true, properties: {spec: {type: object, properties: {node: {type: string}}}}}
`

// rulesOfMany are about the schema above; those in the first list are good.
var (
	goodRulesOfMany = []string{
		"true", "1 + 1 == 2", "self == self", "self.name == 'a' && (self.n > 3 || !self.b)", "self.n < 3.5", "self.f >= 2", "-self.n < 0", "self.n % 2 == 0 ? self.b : has(self.f)",
		"has(self.name)", "has(self.list) && self.list.all(x, x.n > 0)", "self.list.exists(x, x.key == 'a')", "self.list.exists_one(x, x.key == self.name)",
		"self.list.filter(x, has(x.n)).map(x, x.n).sum() < 10", "self.list.map(x, x.n > 1, x.key).size() > 1", "self.list.all(x, self.list.exists(y, x.key == y.key))", "size(self.list) < 3",
		"self.list.all(x, x.sub.all(y, y.startsWith('a')))", "self.list[0].key == 'a'", "self.names[self.n] == self.name", "self.names[int(self.f)] == 'a'", "self.matrix.all(r, r.all(v, v in [1, 2, 3]))",
		"self.list.all(i, x, x.n > i)", "self.names.exists(i, x, i > 2 && x == 'a')", "self.names.transformList(i, x, string(i) + x).size() == 1", "self.labels.transformMap(k, v, v + k).size() == 0",
		"self.labels.transformMapEntry(k, v, {v: k}).size() == 0", "self.labels.all(k, v, k != v)",
		"self.labels.all(k, k.startsWith('a') && self.labels[k].endsWith('b'))", "'a' in self.labels", "self.labels['a'] == 'b'", "self.labels.a == 'b'", "self.any.all(k, self.any[k].v > 0)", "has(self.any.x)",
		"self.name in ['a', 'b']", "self.n in []", "self.n in [1, 2] || self.f in [1.0, 2.0]", "self.names == ['a'] + self.many", "[1, 2].isSorted()", "self.names.max() == 'a'", "self.names.indexOf('a') == 0",
		"lists.range(3).size() == 3", "self.names.sort().first().hasValue()", "self.names.distinct().size() == self.names.size()", "self.names.slice(0, 1).size() == 1", "[[1], [2]].flatten().size() == 2",
		"self.many.all(x, self.many.exists_one(y, x == y))", "sets.contains(self.names, ['a'])", "sets.intersects(self.names, self.many)", "sets.equivalent(self.names, [])",
		"self.name.matches('^[a-z]+$')", "matches(self.name, '^a')", "self.name.matches(self.long)", "self.name.matches('a' + 'b')", "self.name.matches(string('a'))", "self.name.matches(string(self.n))", "self.long.matches(r'^(\\d+)$')",
		"self.name.find('[a-z]') == 'a'", "self.name.findAll('[0-9]', 2).size() == 1", "self.name.split(',').all(x, x.size() > 1)", "self.name.split(',')[0] == 'a'", "self.name.lowerAscii().replace('a', 'b').trim().contains('c')",
		"'%s-%d'.format([self.name, self.n]) == 'a-1'", "self.name.substring(1, 2).charAt(0) == 'a'", "[self.name, 'a'].join('-') == 'a'", "self.name.lastIndexOf('a') > 0", "strings.quote(self.name) == 'a'",
		"quantity(self.name).isLessThan(quantity('1Gi'))", "isQuantity(self.name) && quantity(self.name).add(1) == quantity('2')", "quantity('1').compareTo(quantity('2')) < 0", "quantity('200M').asInteger() > 1",
		"url(self.long).getHost() == 'a'", "isURL(self.long) && url(self.long).getQuery()['a'] == ['b']", "ip(self.name).family() == 4", "isIP(self.name) && ip.isCanonical(self.name)", "cidr(self.name).containsIP('10.0.0.1')",
		"isCIDR(self.name) && cidr(self.name).prefixLength() > 8", "cidr(self.name).masked() == cidr('10.0.0.0/8')", "!format.dns1123Label().validate(self.name).hasValue()", "format.named('uuid').hasValue()",
		"semver(self.name).isGreaterThan(semver('1.2.3'))", "isSemver(self.name, true)",
		"self.?name.hasValue()", "self.?name.orValue('a') == 'a'", "self.?labels['a'].orValue('b') == 'b'", "self.labels[?'a'].optMap(x, x + 'b').orValue('') == 'b'", "optional.of(self.n).value() == 1", "optional.none() == optional.none()",
		"optional.ofNonZeroValue(self.n).optFlatMap(x, optional.of(x)).hasValue()", "[?self.?name].size() == 1", "{?'a': self.?name}.size() == 1", "self.names[?0].orValue('') == ''", "self.?list[?0].?key.orValue('') == 'a'",
		"type(self.port) == string", "type(self.port) == int ? self.port < 10 : self.port.matches('^[0-9]+$')", "type(self.name) == type('a')", "int(self.port) > 1", "self.port == 1 || self.port == '1'", "dyn(self.n) == dyn('a')",
		"int('1') == 1 && uint(2) == 2u && double('1.5') == 1.5 && string(1) == '1' && bool('true')", "bytes('a') == b'a'", "string(b'a') == 'a'", "string(self.data) == 'a'", "self.data.size() == 3", "string(self.n in []) == 'false'",
		"duration('1h') > self.wait", "duration(self.name) < duration('1h')", "timestamp('2020-01-01T00:00:00Z') < self.at", "self.at.getFullYear() == 2020", "self.day.getMonth('UTC') == 1", "self.at - duration('1h') < self.at",
		"int(timestamp('2020-01-01T00:00:00Z')) > 3", "self.wait.getSeconds() > 2", "has(self.free)", "self.__namespace__ == 'a'", "self.namespace == 'a'", "self.a__dash__b == 'a'", "self.color == 'red'",
		"self.pod.metadata.name == 'a' && self.pod.spec.node == 'b' && self.pod.kind == 'Pod'", "{'a': 1}['a'] == 1", "{'a': self.n}.all(k, k == 'a')", "{1: 'a', 2: 'b'}[self.n] == 'a'", "{} == {}", "{'a': dyn(1)}.a == 1",
		"google.protobuf.Int32Value{value: 1} == 1", "google.protobuf.Duration{seconds: 1} < duration('1h')", "dyn([1, 2])[0] == 1", "dyn({'a': 1}).a == 1", "type(null) == null_type", "null == null",
		"oldSelf.n == self.n", "self.n >= oldSelf.n || !has(oldSelf.name)", "oldSelf == self", "self.list.all(x, oldSelf.list.exists(y, y == x))", "self.names.all(oldSelf, oldSelf == 'a')",
		strings.Repeat("(", 20) + "self.b" + strings.Repeat(")", 20), "self.b" + strings.Repeat(" && self.b", 100), "self.name + 'x' + self.long != self.name", "'\\u00fc' == self.name // why",
	}
	// badRulesOfMany: the marked ones pass the type check, and a program can't be made of them.
	badRulesOfMany = []string{
		"", "  \n", "self.", "(self.b", "self.nope == 1", "self.list.all(x, x.nope)", "nope", "self.n", "'a'", "self.name + 1 == 'a'", "self == 1", "self.name == self.n", "self == oldSelf.list", "nope(self)", "self.list.all(x)",
		"self.list.all(self.n, true)", "has(self)", "has(self.labels['a'])", "self.free.a == 1", "self.a-b == 'a'", "[1, 'a'].size() == 2", "{'a': 1, 'b': 'c'}.size() == 2", "self.list.map(x, x.n)",
		"self.name.matches('[')", "self.list.all(x, x.key.matches('(a'))", "self.name.matches(r'\\')", "matches(self.name, '[')" /* program */, "self.name.matches(string('['))" /* program */, "self.name.matches(dyn('['))", /* program */
		"matches('a', string(bytes('[')))" /* program */, "self.b ? true : self.name.matches(string('['))", /* program */
		"int('a') == 1" /* program */, "uint(-1) == 1u" /* program */, "double('a') == 1.0" /* program */, "bool('a')" /* program */, "bool(string('maybe'))" /* program */, "string(b'\\xff') == 'a'", /* program */
		"self.n in [int('a')]" /* program */, "self.list.all(x, x.n > int('x'))" /* program */, "int(18446744073709551615u) == 1" /* program */, "int(1e300) == 1" /* program */, "int(int(string('b'))) == 1", /* program */
		"duration('a') == self.wait", "duration('1' + 'x') == self.wait", "duration(string('a')) == self.wait" /* program */, "timestamp('a') == self.at", "timestamp(string('a')) == self.at", /* program */
		"timestamp(99999999999999) == self.at" /* program */, "self.at == timestamp(string(1))", /* program */
		"type(self.at) == timestamp" /* program */, "type(self.n) == any" /* program */, "dyn(self.n) == dyn" /* program */, "type(self.wait) == duration" /* program */, "list == map", "type(1) == selfType1",
		"dyn(self.n)[b'a'] == 1" /* program */, "dyn(self.n)[null] == 1" /* program */, "dyn(self.n)[[1]] == 1" /* program */, "dyn(self.n)[{'a': 1}] == 1" /* program */, "dyn(self.n)[?b'a'].hasValue()", /* program */
		"{b'a': 1}.size() == 1" /* panics */, "self.n in {b'a': 1}", "{null: 1}.size() == 1", "{1.5: 1}.size() == 1", "[{b'a': 1}].size() == 1", "1 in [?dyn(1)]", "1 in dyn([?dyn(1)])", "{?'a': dyn(1)}.size() == 1",
		"1 in dyn(1)", "string([1]) == 'a'", "string(type(1)) == 'int'", "int(dyn('a')) == 1" /* program */, "int(dyn([1])) == 1" /* program */, "uint(dyn({})) == 1u" /* program */, "bool(dyn(1))" /* program */, "bool(dyn(null))",
		"Object{}.a == 1", "selfType{}.a == 1", "google.protobuf.Any{} == null", "google.protobuf.Nope{} == 1", "google.protobuf.Int32Value{valu: 1} == 1",
		"quantity('a').sign() == 1", "url('a').getHost() == ''", "ip('a').family() == 4", "cidr('x').prefixLength() == 1", "semver('x').major() == 1", "self.name.find('[') == ''" /* program */, "self.name.findAll('[').size() == 1" /* program */, "self.name.findAll('[', 2).size() == 1" /* program */, "self.name.find(string('[')) == ''", /* program */
		"format.named('nope').value().validate('a').hasValue()",
		"self.at.getFullYear('nope') == 1", "'%z'.format([1]) == ''", "'%s'.format([1, 2]) == ''", "authorizer.path('/a').check('get').allowed()",
		strings.Repeat("(", 300) + "self.b" + strings.Repeat(")", 300), strings.Repeat("!", 2) + strings.Repeat("-", 300) + "1 == 1", strings.Repeat("[", 400) + strings.Repeat("]", 400) + " == []",
		"self.many.all(a, self.many.all(b, self.many.all(c, self.many.all(d, a + b == c + d))))", "self.name == '" + strings.Repeat("x", 200_000) + "'", "self.b\n&& self.nope\n|| self.", "self.n = 1", "self.name == \"a", "\x00",
	}
)

// TestCompile holds our compiler to find exactly what the one does that runs rules afterwards, of whatever people write into rules, and what they get wrong.
func TestCompile(t *testing.T) {
	c := newCompiler()
	for _, rules := range []struct {
		name string
		list []string
		good bool
	}{{"good", goodRulesOfMany, true}, {"bad", badRulesOfMany, false}} {
		t.Run(rules.name, func(t *testing.T) {
			s := structural(t, manyTypes)
			for _, rule := range rules.list {
				for _, optional := range []*bool{nil, new(false), new(true)} {
					s.XValidations = apiextensionsv1.ValidationRules{{Rule: rule, OptionalOldSelf: optional}}
					got := compare(t, s, true, c)
					if rules.good && optional == nil && (len(got) != 1 || got[0].Err != "") {
						t.Errorf("%s: %v", rule, got)
					}
				}
				if rules.good || len(rule) > 1000 {
					continue
				}
				s.XValidations = apiextensionsv1.ValidationRules{{Rule: "self.b", MessageExpression: "string(" + rule + ")"}}
				compare(t, s, true, c)
			}
		})
	}
}

func TestCompileOfOptionalOldSelf(t *testing.T) {
	c, s := newCompiler(), structural(t, manyTypes)
	for _, rule := range []string{"oldSelf.hasValue()", "oldSelf.n.orValue(1) == self.n", "oldSelf.optMap(o, o.n).orValue(0) <= self.n", "!oldSelf.hasValue() || oldSelf.value().n == self.n", "oldSelf == 1", "self == oldSelf"} {
		for _, optional := range []*bool{nil, new(true)} {
			s.XValidations = append(s.XValidations, apiextensionsv1.ValidationRule{Rule: rule, OptionalOldSelf: optional})
		}
	}
	compare(t, s, true, c)
}

func TestCompileOfMessages(t *testing.T) {
	c, s := newCompiler(), structural(t, manyTypes)
	for _, message := range []string{
		"'a'", "self.name + ' is not it'", "'%s: %d'.format([self.name, self.n])", "string(self.n)", "oldSelf.name", "self.list.map(x, x.key).join(', ')", "self.many.map(x, self.many.map(y, x + y).join('')).join('')",
		"self.b ? 'a' : string(type(self.port) == string)", "'a\\nb'", "'a'\n+ 'b'", "''", " ", "1", "self.b", "self.nope", "self.", "string(int('a'))", "'a' + string(self.name.matches(string('[')))", "self.name.matches('[') ? 'a' : 'b'",
		"string(type(self.at) == timestamp)", "dyn('a')", "null", "['a']",
	} {
		for _, rule := range []string{"self.b", "self.n >= oldSelf.n", "self.nope"} {
			s.XValidations = append(s.XValidations, apiextensionsv1.ValidationRule{Rule: rule, MessageExpression: message})
		}
	}
	compare(t, s, true, c)
}

// TestCompileOfAllTypes: what self is stands at the root or below, and is not always an object. One compiler has them all, one after the other, and again.
func TestCompileOfAllTypes(t *testing.T) {
	c := newCompiler()
	rules := apiextensionsv1.ValidationRules{}
	for _, rule := range []string{
		"self == oldSelf", "self == 1", "self == 'a'", "size(self) > 1", "self.matches('a')", "self.all(x, x == 'a')", "self.all(x, self[x] == 'a')", "self.a == 1", "has(self.a)", "self.metadata.name == 'a'", "self.exists(x, x.a == 1)",
		"self.exists(x, x.b == '1')", "type(self) == string", "self.size() < 3 || int(self) > 1", "self.startsWith('a')", "string(self) == 'a'", "self[0].a == 1", "self.x.a == 1", "list == type(self)", "self.any == any",
	} {
		rules = append(rules, apiextensionsv1.ValidationRule{Rule: rule}, apiextensionsv1.ValidationRule{Rule: rule, OptionalOldSelf: new(true)})
	}
	for range 2 {
		for name, prop := range structural(t, strings.Replace(manyTypes, "properties:", `properties:
  o1: {type: object, properties: {a: {type: integer}}}
  o2: {type: object, properties: {a: {type: string}, b: {type: string, maxLength: 3}}}
  l1: {type: array, items: {type: object, properties: {a: {type: integer}}}}
  l2: {type: array, maxItems: 2, items: {type: object, properties: {b: {type: string}}}}
  m1: {type: object, additionalProperties: {type: object, properties: {a: {type: integer}}}}
  m2: {type: object, additionalProperties: {type: object, properties: {b: {type: integer}}}}
  u: {x-kubernetes-preserve-unknown-fields: true}
  ul: {type: array, items: {x-kubernetes-preserve-unknown-fields: true}}
  e: {type: object}`, 1)).Properties {
			prop.XValidations = rules
			for _, root := range []bool{false, true} {
				if root && prop.Type != "object" {
					continue
				}
				t.Run(fmt.Sprintf("%s %v", name, root), func(t *testing.T) { compare(t, &prop, root, c) })
			}
		}
	}
}

// TestCompilerKeepsNoTypes: a definition whose schemas contain each other, with rules on each level, is judged in memory for one level, and a list of types that
// are all others in as much as for a few.
func TestCompilerKeepsNoTypes(t *testing.T) {
	inner := structuralschema.Structural{Generic: structuralschema.Generic{Type: "object"}, Properties: map[string]structuralschema.Structural{}}
	for i := range 500 {
		inner.Properties[fmt.Sprint("f", i)] = structuralschema.Structural{Generic: structuralschema.Generic{Type: "string"}}
	}
	list := structuralschema.Structural{Generic: structuralschema.Generic{Type: "string"}}
	c, rules := newCompiler(), apiextensionsv1.ValidationRules{{Rule: "true"}}
	var before uint64
	const levels = 100
	for i := range levels {
		inner = structuralschema.Structural{
			Generic: structuralschema.Generic{Type: "object"}, Properties: map[string]structuralschema.Structural{"a": inner}, ValidationExtensions: structuralschema.ValidationExtensions{XValidations: rules},
		}
		list = structuralschema.Structural{Generic: structuralschema.Generic{Type: "array"}, Items: new(list), ValidationExtensions: structuralschema.ValidationExtensions{XValidations: rules}}
		for _, s := range []*structuralschema.Structural{&inner, &list} {
			if got, err := c.compile(s, false); err != nil || got[0].err != nil {
				t.Fatalf("level %d: %v, %v", i, got, err)
			}
		}
		if i == mostEnvs {
			before = liveHeap()
		}
	}
	const most = 1 << 20
	if grown := liveHeap() - before; int64(grown) > most {
		t.Errorf("%d bytes are kept of %d levels, want %d at most", grown, levels-mostEnvs, most)
	}
	runtime.KeepAlive(c)
}

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestAllFunctionsCanBePlanned: that only what mayFailToPlan tells of can fail holds while all functions that pass the type check have a binding that
// takes as many arguments, where programs look for it: by the name of the overload, or by that of the function where the types leave several.
func TestAllFunctionsCanBePlanned(t *testing.T) {
	inlined := map[string]bool{
		operators.Conditional: true, operators.LogicalAnd: true, operators.LogicalOr: true, operators.Equals: true, operators.NotEquals: true,
		operators.Index: true, operators.OptIndex: true, operators.OptSelect: true,
	}
	base, seen := newCompiler().base, 0
	bound := map[string]*functions.Overload{}
	for _, fn := range base.Functions() {
		bindings, err := fn.Bindings()
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range bindings {
			bound[b.Operator] = b
		}
	}
	for name, fn := range base.Functions() {
		for _, o := range fn.OverloadDecls() {
			for _, key := range []string{o.ID(), name} {
				b := bound[key]
				if b == nil {
					b = bound[name]
				}
				args := len(o.ArgTypes())
				ok := b == nil && args > 0 || b != nil && (b.Function != nil || args == 1 && b.Unary != nil || args == 2 && b.Binary != nil)
				if !ok && !inlined[name] {
					t.Errorf("%s of %s with %d arguments has no binding by %q", o.ID(), name, args, key)
				}
				seen++
			}
		}
	}
	if seen < 200 {
		t.Errorf("%d overloads, want some hundred", seen)
	}
	for _, name := range []string{"cel.validator.matches", "cel.validator.duration", "cel.validator.timestamp"} {
		if !base.HasValidator(name) {
			t.Errorf("no %s: mayFailToPlan relies on it", name)
		}
	}
	checked, issues := base.Compile("true")
	if issues != nil {
		t.Fatal(issues)
	}
	if _, err := base.Program(checked); err != nil {
		t.Error(err)
	}
}
