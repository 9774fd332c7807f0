// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"slices"
	"strings"
)

// Code is how a plugin judges.
type Code int

// The judgements, from best to worst. A nil *Status is a success.
const (
	// Unschedulable: not now; preempting other pods may help.
	Unschedulable Code = iota + 1
	// Unresolvable: not now, and no preemption on that node can help.
	Unresolvable
	// Failed: the plugin could not judge.
	Failed
)

// Status is a refusal with its reasons, as users read them.
type Status struct {
	Code    Code
	Plugin  string
	Reasons []string
}

// Refuse makes an Unschedulable status.
func Refuse(plugin string, reasons ...string) *Status {
	return &Status{Code: Unschedulable, Plugin: plugin, Reasons: reasons}
}

// RefuseForGood makes an Unresolvable status.
func RefuseForGood(plugin string, reasons ...string) *Status {
	return &Status{Code: Unresolvable, Plugin: plugin, Reasons: reasons}
}

// Fail makes a Failed status.
func Fail(plugin string, err error) *Status {
	return &Status{Code: Failed, Plugin: plugin, Reasons: []string{err.Error()}}
}

// Message joins the reasons.
func (s *Status) Message() string { return strings.Join(s.Reasons, ", ") }

// Fit is why a pod fits nowhere: what each node was refused for, or what holds for all.
type Fit struct {
	// Nodes is how many nodes there are.
	Nodes int
	// All is the refusal that holds before any node is looked at; nil when nodes were judged.
	All *Status
	// ByNode are the refusals of single nodes; Rest that of the nodes that it does not name.
	ByNode map[string]*Status
	Rest   *Status
	// After is what was tried after that, in words: why preemption does not help.
	After string
	// Plugins are the names of those that refused, in order of names.
	Plugins []string
}

// Error returns the message that goes into the pod's condition and event.
func (f *Fit) Error() string {
	if f.Nodes == 0 {
		return f.After
	}
	var b strings.Builder
	fmt.Fprintf(&b, "0/%d nodes are available:", f.Nodes)
	if f.All != nil {
		fmt.Fprintf(&b, " %s.", f.All.Message())
	} else if text := f.histogram(); text != "" {
		fmt.Fprintf(&b, " %s.", text)
	}
	if f.After != "" {
		b.WriteString(" " + f.After)
	}
	return b.String()
}

func (f *Fit) histogram() string {
	counts := map[string]int{}
	for _, status := range f.ByNode {
		for _, reason := range status.Reasons {
			counts[reason]++
		}
	}
	if rest := f.Nodes - len(f.ByNode); rest > 0 && f.Rest != nil {
		for _, reason := range f.Rest.Reasons {
			counts[reason] += rest
		}
	}
	lines := make([]string, 0, len(counts))
	for reason, n := range counts {
		lines = append(lines, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(lines)
	return strings.Join(lines, ", ")
}

// Of returns the refusal of one node.
func (f *Fit) Of(node string) *Status {
	if f.All != nil {
		return f.All
	}
	if s := f.ByNode[node]; s != nil {
		return s
	}
	return f.Rest
}

func (f *Fit) refusedBy(plugins ...string) {
	for _, plugin := range plugins {
		if i, found := slices.BinarySearch(f.Plugins, plugin); !found && plugin != "" {
			f.Plugins = slices.Insert(f.Plugins, i, plugin)
		}
	}
}
