// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package fairness

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"kogge.dev/kogge/apiserver/fairness/queues"
)

// tally counts what has become of a level's requests.
type tally struct{ dispatched, rejected, timedOut, cancelled int }

func (t *tally) gaveUp(reason string) {
	if reason == timeOut {
		t.timedOut++
	} else {
		t.cancelled++
	}
}

// Dumps are pages that show the levels, their queues and the requests inside, as upstream's do, by path.
func (l *Limiter) Dumps() map[string]http.Handler {
	out := map[string]http.Handler{}
	for name, write := range map[string]func(page *table, details bool){
		"dump_priority_levels": l.dumpLevels, "dump_queues": l.dumpQueues, "dump_requests": l.dumpRequests,
	} {
		out["/debug/api_priority_and_fairness/"+name] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			page := newTable()
			l.mu.Lock()
			write(page, r.URL.Query().Get("includeRequestDetails") != "")
			l.mu.Unlock()
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			page.write(w)
		})
	}
	return out
}

func (l *Limiter) dumpLevels(page *table, _ bool) {
	page.row("PriorityLevelName", "ActiveQueues", "IsIdle", "IsQuiescing", "WaitingRequests", "ExecutingRequests",
		"DispatchedRequests", "RejectedRequests", "TimedoutRequests", "CancelledRequests")
	for _, lv := range l.sortedLocked() {
		active, waiting, executing := 0, 0, 0
		for _, q := range lv.core.Queues() {
			if len(q.Waiting) > 0 {
				active++
			}
		}
		for _, p := range l.inside {
			switch {
			case p.level != lv:
			case p.waits:
				waiting++
			default:
				executing++
			}
		}
		// A level that the configuration has no more is not listed, so that none is quiescing.
		page.row(lv.name, active, waiting+executing == 0, false, waiting, executing,
			lv.tally.dispatched, lv.tally.rejected, lv.tally.timedOut, lv.tally.cancelled)
	}
}

func (l *Limiter) dumpQueues(page *table, _ bool) {
	page.row("PriorityLevelName", "Index", "PendingRequests", "ExecutingRequests", "SeatsInUse", "NextDispatchR", "InitialSeatsSum", "MaxSeatsSum", "TotalWorkSum")
	for _, lv := range l.sortedLocked() {
		for i, q := range lv.core.Queues() {
			initial, most, all := 0, 0, 0.0
			for _, t := range q.Waiting {
				w := l.inside[t].work
				initial += w.initial
				most += w.seats()
				all += float64(w.initial)*queues.Guess.Seconds() + float64(w.final)*w.after.Seconds()
			}
			page.row(lv.name, i, len(q.Waiting), q.Executing, q.Seats, seatSeconds(q.Next), initial, most, seatSeconds(all))
		}
	}
}

func seatSeconds(x float64) string { return strconv.FormatFloat(x, 'f', 8, 64) + "ss" }

func (l *Limiter) dumpRequests(page *table, details bool) {
	head := []any{
		"PriorityLevelName", "FlowSchemaName", "QueueIndex", "RequestIndexInQueue", "FlowDistingsher", "ArriveTime", "InitialSeats", "FinalSeats", "AdditionalLatency", "StartTime",
	}
	if details {
		head = append(head, "UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource")
	}
	page.row(head...)
	for _, lv := range l.sortedLocked() {
		queued := map[*queues.Ticket][2]int{}
		for i, q := range lv.core.Queues() {
			for n, t := range q.Waiting {
				queued[t] = [2]int{i, n}
			}
		}
		var inside []*place
		for _, p := range l.inside {
			if p.level == lv {
				inside = append(inside, p)
			}
		}
		slices.SortFunc(inside, func(a, b *place) int { return a.arrived.Compare(b.arrived) })
		for _, p := range inside {
			at, waits := queued[p.ticket]
			if !waits {
				at = [2]int{lv.core.QueueOf(p.ticket), -1}
			}
			p.row(page, at, details)
		}
	}
}

// row shows a request at a place in its queues.
func (p *place) row(page *table, at [2]int, details bool) {
	started := time.Time{}
	if !p.waits {
		started = p.started
	}
	cells := []any{
		p.level.name, p.labels.schema, at[0], at[1], p.flow, p.arrived.UTC().Format(time.RFC3339Nano), p.work.initial, p.work.final, p.work.after,
		started.UTC().Format(time.RFC3339Nano),
	}
	if details {
		i := &p.state.Info
		cells = append(cells, p.user, i.Verb, i.Path, i.Namespace, i.Name, i.GroupVersion(), i.Resource, i.Subresource)
	}
	page.row(cells...)
}

func (l *Limiter) sortedLocked() []*level {
	return slices.SortedFunc(maps.Values(l.levels), func(a, b *level) int { return cmp.Compare(a.name, b.name) })
}

// table is text in columns that commas end.
type table struct{ text strings.Builder }

func newTable() *table { return &table{} }

func (t *table) row(cells ...any) {
	for i, cell := range cells {
		if i > 0 {
			t.text.WriteString(",\t")
		}
		fmt.Fprint(&t.text, cell)
	}
	t.text.WriteByte('\n')
}

func (t *table) write(to io.Writer) {
	const width = 8
	columns := tabwriter.NewWriter(to, width, 0, 1, ' ', 0)
	_, _ = io.WriteString(columns, t.text.String()) // A client that went away is no error of ours.
	_ = columns.Flush()
}
