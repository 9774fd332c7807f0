// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"fmt"
	"strings"
	"testing"
)

// answerOf makes an answer of JSON.
func answerOf(code int, text string) *answer {
	return &answer{code: code, contentType: "application/json", body: tree([]byte(text), "application/json")}
}

func refusal(causes ...string) string {
	return `{"kind":"Status","code":422,"reason":"Invalid","message":"m","details":{"causes":[` + strings.Join(causes, ",") + `]}}`
}

func cause(field, message string) string {
	return fmt.Sprintf(`{"reason":"FieldValueInvalid","field":%q,"message":%q}`, field, message)
}

func TestCompare(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ours, upstream *answer
		want           string // "where: ours | upstream", one a line
	}{
		"what servers choose": {
			answerOf(200, `{"metadata":{"uid":"a","resourceVersion":"1"},"spec":{"clusterIP":"10.96.0.7"}}`),
			answerOf(200, `{"metadata":{"uid":"b","resourceVersion":"9"},"spec":{"clusterIP":"10.96.3.9"}}`), "",
		},
		"a value":         {answerOf(200, `{"spec":{"a":1}}`), answerOf(200, `{"spec":{"a":2}}`), ".spec.a: 1 | 2"},
		"a field less":    {answerOf(200, `{"spec":{}}`), answerOf(200, `{"spec":{"a":2}}`), ".spec.a: (absent) | 2"},
		"a uid less":      {answerOf(200, `{"metadata":{}}`), answerOf(200, `{"metadata":{"uid":"b"}}`), ".metadata.uid: (absent) | (present)"},
		"another verdict": {answerOf(201, `{}`), answerOf(422, refusal(cause("spec", "bad"))), "code: 201 | 422 Invalid: m"},
		"another cause": {
			answerOf(422, refusal(cause("a", "x"), cause("b", "y"))), answerOf(422, refusal(cause("a", "x"), cause("b", "z"))),
			"cause: FieldValueInvalid b: y | FieldValueInvalid b: z",
		},
		"other names in a structure": {
			answerOf(422, refusal(cause("a", `Invalid value: {"name":"x"}: no`))), answerOf(422, refusal(cause("a", `Invalid value: {"Name":"x"}: no`))),
			"structure in a message: its JSON names | upstream's internal names",
		},
		"another field behind a structure": {
			answerOf(422, refusal(cause("a", `Invalid value: {"name":"x"}: no`))), answerOf(422, refusal(cause("b", `Invalid value: {"Name":"x"}: no`))),
			"cause: FieldValueInvalid a: Invalid value: {}: no | FieldValueInvalid b: Invalid value: {}: no",
		},
		"a cause twice": {
			answerOf(422, refusal(cause("a", "x"))), answerOf(422, refusal(cause("a", "x"), cause("a", "x"))), "repeated causes: each once | some twice",
		},
		"an entry less": {answerOf(200, `{"a":["x"]}`), answerOf(200, `{"a":["x","y"]}`), ".a[]: (absent) | y"},
		"a warning":     {answerOf(200, `{}`), &answer{code: 200, contentType: "application/json", body: map[string]any{}, warnings: []string{"299 - w"}}, "warning: (absent) | 299 - w"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, d := range compare(&call{}, c.ours, c.upstream) {
				got = append(got, fmt.Sprintf("%s: %s | %s", d.where, d.ours, d.upstream))
			}
			if text := strings.Join(got, "\n"); text != c.want {
				t.Errorf("compare() = %q, want %q", text, c.want)
			}
		})
	}
}

func TestReportFailsOnWhatIsNotListedAndOnWhatIsListedInVain(t *testing.T) {
	t.Parallel()
	listed := func() []*allowance {
		allowed, err := parseAllowed([]byte("[{name: n, match: '^v1 Pod create\\n\\.spec\\.a\\n', reason: r}]"))
		if err != nil {
			t.Fatal(err)
		}
		return allowed
	}
	write := func(r *Report) error { return r.Write(&strings.Builder{}, true) }

	r := newReport(listed())
	r.add("v1 Pod create", "one", &call{}, difference{where: ".spec.a", ours: "1", upstream: "2"})
	if err := write(r); err != nil {
		t.Errorf("only what is listed: %v", err)
	}
	r.add("v1 Node create", "two", &call{}, difference{where: ".spec.a", ours: "1", upstream: "2"})
	if err := write(r); err == nil {
		t.Error("an entry covers subjects that it does not match")
	}
	if err := write(newReport(listed())); err == nil || !strings.Contains(err.Error(), "no longer occur") {
		t.Errorf("listed in vain: %v", err)
	}
}

func TestParseScript(t *testing.T) {
	t.Parallel()
	steps, err := parseScript("# note\n> GET /a accept=text/plain\n> POST /b content-type=application/yaml\na: b\n> POST /c\na: b\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) != 3 || steps[0].accept != "text/plain" || string(steps[1].body) != "a: b\n" || string(steps[2].body) != `{"a":"b"}` || steps[2].line != 5 {
		t.Errorf("parseScript() = %+v", steps)
	}
	if _, err := parseScript("> GET /a what=ever\n"); err == nil {
		t.Error("an unknown option passes")
	}
}
