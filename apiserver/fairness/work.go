// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package fairness

import (
	"net/http"
	"strconv"
	"time"

	"kogge.dev/kogge/apiserver/request"
)

// What seats stand for.
const (
	// bytesPerSeat of a list, whose cost grows no more above mostBytes: it is written as it is read.
	bytesPerSeat = 100_000
	mostBytes    = 1_000_000
	// watchersPerSeat of a write, for the time that telling them takes.
	watchersPerSeat = 10
	telling         = 5 * time.Millisecond
)

// work is what a request costs: seats while it executes, and final ones for some time after. It holds the greater number for both.
type work struct {
	initial, final int
	after          time.Duration
}

func (w work) seats() int { return max(w.initial, w.final) }

// workOf judges a request. Widest is how many seats it may take; what costs more takes that many for longer.
func (l *Limiter) workOf(r *http.Request, i *request.Info, widest int) work {
	switch i.Verb {
	case "list", "watch":
		return work{initial: min(l.listSeats(r, i), widest)}
	case "create", "update", "patch", "delete":
		return l.writeWork(i, widest)
	default:
		return work{initial: 1}
	}
}

// listSeats are for the bytes that are read: a list of many is as much work as several small requests. A watch costs that when it begins with
// the objects that are there.
func (l *Limiter) listSeats(r *http.Request, i *request.Info) int {
	if l.cfg.Size == nil || i.Name != "" {
		return 1
	}
	query := r.URL.Query()
	initial, _ := strconv.ParseBool(query.Get("sendInitialEvents")) // What it is not is refused later.
	if version := query.Get("resourceVersion"); i.Verb == "watch" && version != "" && version != "0" && !initial {
		return 1
	}
	objects, size := l.cfg.Size(i.GroupVersionResource)
	if limit, err := strconv.Atoi(query.Get("limit")); err == nil && limit > 0 && limit < objects {
		size = size / int64(objects) * int64(limit)
	}
	return max(int((min(size, mostBytes)+bytesPerSeat-1)/bytesPerSeat), 1)
}

// writeWork is one seat for the write and, when many watchers hear of it, more for telling them.
func (l *Limiter) writeWork(i *request.Info, widest int) work {
	out := work{initial: 1}
	if l.cfg.Watchers == nil || !i.IsResource || i.Resource == "serviceaccounts" && i.Subresource == "token" {
		return out
	}
	watchers := l.cfg.Watchers(i.GroupVersionResource, i.Namespace, i.Name)
	if watchers < watchersPerSeat {
		return out
	}
	all := (watchers + watchersPerSeat - 1) / watchersPerSeat
	out.final = min(all, widest)
	out.after = telling * time.Duration(all) / time.Duration(out.final)
	return out
}
