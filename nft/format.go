// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"fmt"
	"strings"
)

// String renders the table for people and golden files, in a stable order.
func (t *Table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s\n", t.Name)
	for _, name := range sorted(t.Sets) {
		t.Sets[name].format(&b)
	}
	for _, name := range sorted(t.Chains) {
		t.Chains[name].format(&b)
	}
	return b.String()
}

func (s *Set) format(b *strings.Builder) {
	kind := "set"
	if s.IsMap() {
		kind = "map"
	}
	fmt.Fprintf(b, "%s %s", kind, s.Name)
	if s.Interval {
		b.WriteString(" ranges")
	}
	if s.Dynamic {
		b.WriteString(" dynamic")
	}
	b.WriteByte('\n')
	for _, id := range sorted(s.Elements) {
		e := s.Elements[id]
		b.WriteString("  " + Format(s.Key, e.Key))
		if e.End != nil {
			b.WriteString(" to " + Format(s.Key, e.End))
		}
		switch {
		case s.IsVerdictMap():
			b.WriteString(" : " + e.Verdict.String())
		case s.IsMap():
			b.WriteString(" : " + Format(s.Data, e.Data))
		}
		b.WriteByte('\n')
	}
}

func (c *Chain) format(b *strings.Builder) {
	fmt.Fprintf(b, "chain %s", c.Name)
	if c.Hook != NoHook {
		hooks := [...]string{Prerouting: "prerouting", Input: "input", Forward: "forward", Output: "output", Postrouting: "postrouting"}
		fmt.Fprintf(b, " (%s hook %s priority %d)", c.Kind, hooks[c.Hook], c.Priority)
	}
	b.WriteByte('\n')
	for _, r := range c.Rules {
		parts := make([]string, len(r.Ops))
		for i, op := range r.Ops {
			parts[i] = op.String()
		}
		b.WriteString("  " + strings.Join(parts, "; "))
		if r.Comment != "" {
			b.WriteString("  # " + r.Comment)
		}
		b.WriteByte('\n')
	}
}
