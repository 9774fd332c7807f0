// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// example is one request that showed a difference.
type example struct {
	title string
	call  *call
	difference
}

// group are differences of one kind: the same place, said in the same words.
type group struct {
	key      string
	count    int
	subjects map[string]bool
	first    []example
}

// Report is what a run found.
type Report struct {
	// Requests is how many were compared.
	Requests int
	groups   map[string]*group
	allowed  []*allowance
}

// examples is how many are kept of each kind of difference.
const examples = 3

// NewReport makes an empty report that knows what may differ, from the checkout at root.
func NewReport(root string) (*Report, error) {
	allowed, err := readAllowed(filepath.Join(root, "test/peers/differential/allowed.yaml"))
	if err != nil {
		return nil, err
	}
	return newReport(allowed), nil
}

func newReport(allowed []*allowance) *Report {
	return &Report{groups: map[string]*group{}, allowed: allowed}
}

func (r *Report) add(subject, title string, c *call, d difference) {
	key := keyOf(d)
	g := r.groups[key]
	if g == nil {
		g = &group{key: key, subjects: map[string]bool{}}
		r.groups[key] = g
	}
	g.count++
	g.subjects[subject] = true
	if len(g.first) < examples {
		g.first = append(g.first, example{title: title, call: c, difference: d})
	}
}

var (
	quoted = regexp.MustCompile(`"(\\.|[^"\\])*"`)
	number = regexp.MustCompile(`-?\b\d+(\.\d+)?\b`)
	index  = regexp.MustCompile(`\[[^\]]*\]`)
)

// keyOf names the kind of a difference: values are taken out of the texts.
func keyOf(d difference) string {
	return d.where + "\n  kogge:    " + general(d.ours) + "\n  upstream: " + general(d.upstream)
}

func general(s string) string {
	s = index.ReplaceAllString(s, "[]")
	s = quoted.ReplaceAllString(s, `"…"`)
	s = number.ReplaceAllString(s, "N")
	const most = 300
	if len(s) > most {
		s = s[:most] + "…"
	}
	return s
}

// allowance is an entry of the list of allowed differences.
type allowance struct {
	// Name in a few words.
	Name string `json:"name"`
	// Match is a regular expression over "SUBJECT\nKEY" of a kind of difference.
	Match string `json:"match"`
	// Reason why upstream's behaviour is not followed.
	Reason string `json:"reason"`

	pattern *regexp.Regexp
	used    int
}

func readAllowed(file string) ([]*allowance, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	out, err := parseAllowed(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return out, nil
}

func parseAllowed(text []byte) ([]*allowance, error) {
	var out []*allowance
	if err := yaml.UnmarshalStrict(text, &out); err != nil {
		return nil, err
	}
	for _, a := range out {
		if a.Name == "" || a.Match == "" || a.Reason == "" {
			return nil, fmt.Errorf("an entry needs name, match and reason: %+v", *a)
		}
		var err error
		if a.pattern, err = regexp.Compile(a.Match); err != nil {
			return nil, fmt.Errorf("%s: %w", a.Name, err)
		}
	}
	return out, nil
}

// allowedBy finds the entry that covers a kind of difference. Every subject must be covered by it.
func (r *Report) allowedBy(g *group) *allowance {
	for _, a := range r.allowed {
		covered := true
		for subject := range g.subjects {
			covered = covered && a.pattern.MatchString(subject+"\n"+g.key)
		}
		if covered {
			return a
		}
	}
	return nil
}

// Write prints the kinds of difference that nothing allows, the frequent ones first, then what is allowed and seen. It
// returns what is wrong: differences that are not listed, and listed ones that did not occur. whole says whether the run was
// complete, so that absence means something.
func (r *Report) Write(out io.Writer, whole bool) error {
	groups := slices.SortedFunc(maps.Values(r.groups), func(a, b *group) int {
		if a.count != b.count {
			return b.count - a.count
		}
		return strings.Compare(a.key, b.key)
	})
	unlisted := 0
	for _, g := range groups {
		if a := r.allowedBy(g); a != nil {
			a.used += g.count
			continue
		}
		unlisted++
		fmt.Fprintf(out, "\n=== %d times, %s\n%s\n", g.count, summary(g.subjects), g.key)
		for _, e := range g.first {
			fmt.Fprintf(out, "--- %s: %s\n  kogge:    %s\n  upstream: %s\n", e.title, e.call, cut(e.ours, e.upstream), cut(e.upstream, e.ours))
		}
		fmt.Fprintf(out, "%s", indent(g.first[0].call.manifest()))
	}
	fmt.Fprintf(out, "\n%d requests, %d kinds of difference that are not listed\n", r.Requests, unlisted)
	stale := 0
	for _, a := range r.allowed {
		fmt.Fprintf(out, "allowed, %d times: %s\n", a.used, a.Name)
		if a.used == 0 && whole {
			stale++
		}
	}
	switch {
	case unlisted > 0:
		return fmt.Errorf("%d kinds of difference are not listed", unlisted)
	case stale > 0:
		return fmt.Errorf("%d listed differences no longer occur: take them off the list", stale)
	}
	return nil
}

// cut shortens a long text to the part where it begins to differ from another.
func cut(text, other string) string {
	const most, before = 700, 200
	if len(text) <= most {
		return text
	}
	same := 0
	for same < len(text) && same < len(other) && text[same] == other[same] {
		same++
	}
	from := max(0, same-before)
	end := min(len(text), from+most)
	return fmt.Sprintf("(%d bytes) …%s…", len(text), text[from:end])
}

func summary(subjects map[string]bool) string {
	names := slices.Sorted(maps.Keys(subjects))
	const most = 6
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

func indent(s string) string {
	if s == "" {
		return ""
	}
	const most = 4000
	if len(s) > most {
		s = s[:most] + "\n(cut)"
	}
	return "    " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n    ") + "\n"
}
