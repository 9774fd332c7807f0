// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// difference is one place in which two answers to the same request differ.
type difference struct {
	// where is a path into the answer with list indices left out, or "code", "cause", "message", "warning", ...
	where string
	// ours and upstream are what was found there; absent where there was nothing.
	ours, upstream string
}

const absent = "(absent)"

// comparer compares answers. asked is the request's body: what it fixes itself is not masked.
type comparer struct {
	asked string
	out   []difference
}

// compare returns how the answers differ, once each.
func compare(c *call, ours, upstream *answer) []difference {
	cmp := &comparer{asked: string(c.body)}
	switch {
	case ours.code != upstream.code:
		cmp.add("code", brief(ours), brief(upstream))
	case ours.refused():
		cmp.refusals(ours.body, upstream.body)
	default:
		cmp.values("", ours.body, upstream.body)
	}
	cmp.sets("warning", ours.warnings, upstream.warnings)
	if ours.code == upstream.code && ours.contentType != upstream.contentType {
		cmp.add("content type", ours.contentType, upstream.contentType)
	}
	if ours.code == upstream.code {
		for _, name := range slices.Sorted(maps.Keys(comparedHeaders)) {
			if a, b := cmp.header(ours, name), cmp.header(upstream, name); a != b {
				cmp.add("header "+name, a, b)
			}
		}
	}
	return cmp.out
}

func (c *comparer) header(a *answer, name string) string {
	if value, ok := a.headers[name]; ok {
		return scrub(value)
	}
	return absent
}

func (c *comparer) add(where, ours, upstream string) {
	d := difference{where: where, ours: ours, upstream: upstream}
	if !slices.Contains(c.out, d) {
		c.out = append(c.out, d)
	}
}

// brief is an answer in one line.
func brief(a *answer) string {
	if !a.refused() {
		return fmt.Sprint(a.code)
	}
	status, ok := a.body.(map[string]any)
	if !ok {
		return fmt.Sprintf("%d %v", a.code, a.body)
	}
	return fmt.Sprintf("%d %v: %v", a.code, status["reason"], scrub(fmt.Sprint(status["message"])))
}

// refusals compares two Status objects. Causes are compared as a set before anything else: where they differ, the messages
// that are made of them do too.
func (c *comparer) refusals(ours, upstream any) {
	a, aok := ours.(map[string]any)
	b, bok := upstream.(map[string]any)
	if !aok || !bok {
		c.leaf("body", ours, upstream)
		return
	}
	before := len(c.out)
	mine, theirs := causes(a), causes(b)
	plainMine, plainTheirs := plain(mine), plain(theirs)
	c.sets("cause", plainMine, plainTheirs)
	if len(c.out) > before {
		return
	}
	if once := distinct(plainTheirs); len(once) != len(plainTheirs) && slices.Equal(distinct(plainMine), once) {
		c.add("repeated causes", "each once", "some twice")
		return
	}
	if !slices.Equal(plainMine, plainTheirs) {
		c.add("order of causes", strings.Join(plainMine, "\n"), strings.Join(plainTheirs, "\n"))
		return
	}
	if !slices.Equal(mine, theirs) {
		c.add("structure in a message", "its JSON names", "upstream's internal names")
		return
	}
	for _, status := range []map[string]any{a, b} {
		if details, ok := status["details"].(map[string]any); ok {
			delete(details, "causes")
		}
	}
	c.values("", a, b)
}

var (
	structure = regexp.MustCompile(`(?s)((?:Invalid|Duplicate|Unsupported) value: )[\[{]?\{.*\}\]?(: |$)`)
	printed   = regexp.MustCompile(`(?s)\n.*`)
)

// plain takes out of causes what is written in the names of the program's own types: values that are structures, and the
// differences between two of them.
func plain(causes []string) []string {
	var out []string
	for _, cause := range causes {
		cause = structure.ReplaceAllString(cause, "${1}{}${2}")
		out = append(out, printed.ReplaceAllString(cause, " (difference)"))
	}
	return out
}

// distinct keeps the first of equal entries.
func distinct(list []string) []string {
	var out []string
	for _, entry := range list {
		if !slices.Contains(out, entry) {
			out = append(out, entry)
		}
	}
	return out
}

// causes are the lines of a Status' details, in order.
func causes(status map[string]any) []string {
	details, _ := status["details"].(map[string]any)
	list, _ := details["causes"].([]any)
	var out []string
	for _, entry := range list {
		cause, _ := entry.(map[string]any)
		out = append(out, scrub(fmt.Sprintf("%v %v: %v", cause["reason"], cause["field"], cause["message"])))
	}
	return out
}

// sets reports what only one of two lists holds.
func (c *comparer) sets(where string, ours, upstream []string) {
	var mine, theirs []string
	for _, one := range ours {
		if !slices.Contains(upstream, one) {
			mine = append(mine, one)
		}
	}
	for _, one := range upstream {
		if !slices.Contains(ours, one) {
			theirs = append(theirs, one)
		}
	}
	// One against one is most often the same thing said differently.
	for i := range max(len(mine), len(theirs)) {
		a, b := absent, absent
		if i < len(mine) {
			a = mine[i]
		}
		if i < len(theirs) {
			b = theirs[i]
		}
		c.add(where, a, b)
	}
}

func (c *comparer) values(path string, ours, upstream any) {
	switch a := ours.(type) {
	case map[string]any:
		if b, ok := upstream.(map[string]any); ok {
			c.maps(path, a, b)
			return
		}
	case []any:
		if b, ok := upstream.([]any); ok {
			c.lists(path, a, b)
			return
		}
	}
	c.leaf(path, ours, upstream)
}

func (c *comparer) maps(path string, ours, upstream map[string]any) {
	keys := slices.Sorted(maps.Keys(ours))
	for key := range upstream {
		if _, both := ours[key]; !both {
			keys = append(keys, key)
		}
	}
	for _, key := range keys {
		a, inA := ours[key]
		b, inB := upstream[key]
		at := path + "." + key
		switch {
		case masked(at):
			if inA != inB {
				c.add(at, presence(inA), presence(inB))
			}
		case !inA:
			c.add(at, absent, text(b))
		case !inB:
			c.add(at, text(a), absent)
		default:
			c.values(at, a, b)
		}
	}
}

func (c *comparer) lists(path string, ours, upstream []any) {
	switch {
	case strings.HasSuffix(path, ".metadata.managedFields"): // Ordered by time, in seconds.
		ours, upstream = sorted(ours, identity), sorted(upstream, identity)
	case userRules.MatchString(path):
		ours, upstream = sorted(ours, text), sorted(upstream, text)
	}
	if len(ours) != len(upstream) {
		c.sets(path+"[]", texts(ours), texts(upstream))
		if len(c.out) == 0 { // the same entries, not as often
			c.add(path+" length", fmt.Sprint(len(ours)), fmt.Sprint(len(upstream)))
		}
		return
	}
	for i := range ours {
		c.values(path+"[]", ours[i], upstream[i])
	}
}

// sorted orders entries that a server may list in any order.
func sorted(list []any, by func(any) string) []any {
	out := slices.Clone(list)
	slices.SortStableFunc(out, func(a, b any) int { return strings.Compare(by(a), by(b)) })
	return out
}

// userRules are what a user may do, by SelfSubjectRulesReview.
var userRules = regexp.MustCompile(`^\.status\.(nonR|r)esourceRules$`)

func identity(entry any) string {
	m, _ := entry.(map[string]any)
	return fmt.Sprint(m["manager"], m["operation"], m["subresource"], m["apiVersion"])
}

func (c *comparer) leaf(path string, ours, upstream any) {
	if reflect.DeepEqual(ours, upstream) {
		return
	}
	a, b := text(ours), text(upstream)
	if ownWords.MatchString(path) {
		a, b = "its own words", "upstream's words"
	}
	if a == b || c.generated(path, a, b) || strings.HasSuffix(path, ".cells[]") && ages.MatchString(a) && ages.MatchString(b) || allocated(path, a, b) && !strings.Contains(c.asked, a) {
		return
	}
	c.add(path, a, b)
}

// maskedFields are those that every server fills in as it likes.
var maskedFields = regexp.MustCompile(`((^|\[\]|\.object|Object)\.metadata\.(uid|resourceVersion|creationTimestamp|continue|managedFields\[\]\.time)` +
	`|^\.events\[\]\.(requestReceivedTimestamp|stageTimestamp|objectRef\.(uid|resourceVersion)))$`)

func masked(path string) bool { return maskedFields.MatchString(path) }

func texts(list []any) []string {
	var out []string
	for _, entry := range list {
		out = append(out, text(entry))
	}
	return out
}

// ownWords are texts for people, which are no part of the contract.
var ownWords = regexp.MustCompile(`\.columnDefinitions\[\]\.description$|^\.paths\..*\.description$`)

// ages are cells of tables that count from now.
var ages = regexp.MustCompile(`^\d+s$`)

var generatedName = regexp.MustCompile(`^(.*)[a-z0-9]{5}$`)

// generated reports whether two names were made from the prefix that was asked for.
func (c *comparer) generated(path, ours, upstream string) bool {
	a, b := generatedName.FindStringSubmatch(ours), generatedName.FindStringSubmatch(upstream)
	return strings.HasSuffix(path, ".name") && a != nil && b != nil && a[1] == b[1] && strings.Contains(c.asked, `"generateName":"`+a[1]+`"`)
}

func presence(there bool) string {
	if there {
		return "(present)"
	}
	return absent
}

var (
	services  = netip.MustParsePrefix(serviceCIDR)
	nodePorts = regexp.MustCompile(`^3[0-2]\d{3}$`)
)

// allocated reports whether both values are addresses or ports that a server took from a range by chance.
func allocated(path, ours, upstream string) bool {
	if strings.HasSuffix(path, ".nodePort") || strings.HasSuffix(path, ".healthCheckNodePort") {
		return nodePorts.MatchString(ours) && nodePorts.MatchString(upstream)
	}
	if !strings.Contains(path, "clusterIP") {
		return false
	}
	a, errA := netip.ParseAddr(ours)
	b, errB := netip.ParseAddr(upstream)
	return errA == nil && errB == nil && services.Contains(a) && services.Contains(b)
}

// text writes a value in one line, without what differs from server to server.
func text(v any) string {
	if s, ok := v.(string); ok {
		return scrub(s)
	}
	out, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return scrub(string(out))
}

// scrubs replace what no two servers say alike.
var scrubs = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "(uid)"},
	{regexp.MustCompile(`kube-api-access-[a-z0-9]{5}`), "kube-api-access-(random)"},
	{regexp.MustCompile(`generated-[a-z0-9]{5}`), "generated-(random)"},
	{regexp.MustCompile(`eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+`), "(token)"},
	{regexp.MustCompile(`(\\?"resourceVersion\\?":\\?")\d+`), "${1}(version)"},
	{regexp.MustCompile(`X509SHA256=[0-9a-f]{64}`), "X509SHA256=(hash)"},
	{regexp.MustCompile(`in record \(\d+\)`), "in record (version)"},
	{regexp.MustCompile(`current: \d+`), "current: (version)"},
	// Times near now; those of manifests are long ago.
	{regexp.MustCompile(`202[6-9]-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "(now)"},
	{regexp.MustCompile(`202[6-9]-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? \+0000 UTC( m=\S+)?`), "(now)"},
	// Addresses of objects in Go's %v.
	{regexp.MustCompile(`0x[0-9a-f]{6,}`), "(pointer)"},
	// Ports that the servers themselves listen on.
	{regexp.MustCompile(`(127\.0\.0\.1|192\.0\.2\.1):\d+`), "$1:(port)"},
}

func scrub(s string) string {
	for _, one := range scrubs {
		s = one.what.ReplaceAllString(s, one.with)
	}
	return s
}
