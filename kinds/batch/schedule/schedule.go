// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package schedule reads the schedules of cron jobs and computes when they are due.
package schedule

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// Schedule says when something is due: at a set of minutes, or every so often.
type Schedule struct {
	// Sets of admitted values, one bit each. Unused when every is set.
	minute, hour, day, month, weekday uint64
	// anyDay and anyWeekday are set where the field was a star: then only the other of the two must match, else either.
	anyDay, anyWeekday bool
	// every is the distance of "@every"; at least one second.
	every time.Duration
	// zone that the schedule names itself; nil means that of the time asked for.
	zone *time.Location
}

// horizon is how far Next looks: a 29th of February is at most eight years away, and five is what cron has always used.
const horizon = 5

type bounds struct {
	min, max int
	names    map[string]int
}

func minutes() bounds { return bounds{min: 0, max: 59} }
func hours() bounds   { return bounds{min: 0, max: 23} }
func days() bounds    { return bounds{min: 1, max: 31} }
func months() bounds {
	return bounds{min: 1, max: 12, names: numbered(1, "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")}
}

func weekdays() bounds {
	return bounds{min: 0, max: 6, names: numbered(0, "sun", "mon", "tue", "wed", "thu", "fri", "sat")}
}

func numbered(first int, names ...string) map[string]int {
	out := make(map[string]int, len(names))
	for i, name := range names {
		out[name] = first + i
	}
	return out
}

// Parse reads a schedule in cron's five fields or as one of the descriptors ("@daily", "@every 1h30m"), optionally
// preceded by "TZ=" or "CRON_TZ=" and a time zone.
func Parse(text string) (*Schedule, error) {
	if text == "" {
		return nil, errors.New("empty spec string")
	}
	var zone *time.Location
	if strings.HasPrefix(text, "TZ=") || strings.HasPrefix(text, "CRON_TZ=") {
		head, rest, found := strings.Cut(text, " ")
		if !found {
			return nil, errors.New("invalid schedule format: a time zone with no schedule")
		}
		_, name, _ := strings.Cut(head, "=")
		location, err := time.LoadLocation(name)
		if err != nil {
			return nil, fmt.Errorf("provided bad location %s: %w", name, err)
		}
		zone, text = location, strings.TrimSpace(rest)
	}
	s, err := parse(text)
	if err != nil {
		return nil, err
	}
	s.zone = zone
	return s, nil
}

func parse(text string) (*Schedule, error) {
	if strings.HasPrefix(text, "@") {
		return parseDescriptor(text)
	}
	fields := strings.Fields(text)
	if len(fields) != 5 {
		return nil, fmt.Errorf("expected exactly 5 fields, found %d: %s", len(fields), fields)
	}
	s := &Schedule{}
	var ignored bool
	for i, f := range []struct {
		set  *uint64
		star *bool
		in   bounds
	}{
		{&s.minute, &ignored, minutes()},
		{&s.hour, &ignored, hours()},
		{&s.day, &s.anyDay, days()},
		{&s.month, &ignored, months()},
		{&s.weekday, &s.anyWeekday, weekdays()},
	} {
		if err := parseField(fields[i], f.in, f.set, f.star); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func parseDescriptor(text string) (*Schedule, error) {
	switch text {
	case "@yearly", "@annually":
		return parse("0 0 1 1 *")
	case "@monthly":
		return parse("0 0 1 * *")
	case "@weekly":
		return parse("0 0 * * 0")
	case "@daily", "@midnight":
		return parse("0 0 * * *")
	case "@hourly":
		return parse("0 * * * *")
	}
	rest, found := strings.CutPrefix(text, "@every ")
	if !found {
		return nil, fmt.Errorf("unrecognized descriptor: %s", text)
	}
	every, err := time.ParseDuration(rest)
	if err != nil {
		return nil, fmt.Errorf("failed to parse duration %s: %w", text, err)
	}
	return &Schedule{every: max(every.Truncate(time.Second), time.Second)}, nil
}

// parseField reads a comma-separated list of ranges.
func parseField(text string, in bounds, set *uint64, star *bool) error {
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		if err := parseRange(part, in, set, star); err != nil {
			return err
		}
	}
	return nil
}

// parseRange reads "number", "number-number" or a star, each with an optional "/step".
func parseRange(text string, in bounds, set *uint64, star *bool) error {
	body, stepText, stepped := strings.Cut(text, "/")
	if strings.Contains(stepText, "/") {
		return fmt.Errorf("too many slashes: %s", text)
	}
	first, last, err := parseEnds(body, in)
	if err != nil {
		return err
	}
	step := 1
	if stepped {
		if step, err = parseNumber(stepText); err != nil {
			return err
		}
		// "N/step" means from N to the end.
		if !strings.Contains(body, "-") {
			last = in.max
		}
	}
	switch {
	case first < in.min:
		return fmt.Errorf("beginning of range (%d) below minimum (%d): %s", first, in.min, text)
	case last > in.max:
		return fmt.Errorf("end of range (%d) above maximum (%d): %s", last, in.max, text)
	case first > last:
		return fmt.Errorf("beginning of range (%d) beyond end of range (%d): %s", first, last, text)
	case step == 0:
		return fmt.Errorf("step of range should be a positive number: %s", text)
	}
	if isStar(body) && step == 1 {
		*star = true
	}
	for n := first; n <= last; n += step {
		*set |= 1 << n
	}
	return nil
}

func isStar(text string) bool { return text == "*" || text == "?" }

func parseEnds(text string, in bounds) (first, last int, err error) {
	firstText, lastText, ranged := strings.Cut(text, "-")
	if isStar(firstText) {
		return in.min, in.max, nil
	}
	if strings.Contains(lastText, "-") {
		return 0, 0, fmt.Errorf("too many hyphens: %s", text)
	}
	if first, err = parseValue(firstText, in); err != nil {
		return 0, 0, err
	}
	if !ranged {
		return first, first, nil
	}
	last, err = parseValue(lastText, in)
	return first, last, err
}

func parseValue(text string, in bounds) (int, error) {
	if n, named := in.names[strings.ToLower(text)]; named {
		return n, nil
	}
	return parseNumber(text)
}

func parseNumber(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("failed to parse int from %s: %w", text, err)
	}
	if n < 0 {
		return 0, fmt.Errorf("negative number (%d) not allowed: %s", n, text)
	}
	return n, nil
}

// Next returns the first time after t at which the schedule is due, in t's location; zero when there is none.
func (s *Schedule) Next(t time.Time) time.Time {
	if s.every > 0 {
		return t.Add(s.every - time.Duration(t.Nanosecond()))
	}
	origin := t.Location()
	if s.zone != nil {
		t = t.In(s.zone)
	}
	t = t.Add(time.Minute - time.Duration(t.Second())*time.Second - time.Duration(t.Nanosecond()))
	limit := t.Year() + horizon
	for t.Year() <= limit {
		switch {
		case s.month&(1<<int(t.Month())) == 0:
			t = startOfMonth(t)
		case !s.dayMatches(t):
			t = startOfDay(t)
		case s.hour&(1<<t.Hour()) == 0:
			t = t.Add(time.Hour - time.Duration(t.Minute())*time.Minute)
		case s.minute&(1<<t.Minute()) == 0:
			t = s.nextMinute(t)
		default:
			return t.In(origin)
		}
	}
	return time.Time{}
}

// startOfMonth and startOfDay return the beginning of the next one. Where a change of clocks has cut midnight out, the day
// begins at the first hour that it has.
func startOfMonth(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, t.Location())
}

func startOfDay(t time.Time) time.Time {
	next := time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, t.Location())
	if next.Day() == t.Day() {
		next = next.Add(time.Duration(24-next.Hour()) * time.Hour)
	}
	return next
}

// nextMinute moves to the next admitted minute of the hour, or to the next hour.
func (s *Schedule) nextMinute(t time.Time) time.Time {
	later := s.minute &^ (1<<(t.Minute()+1) - 1)
	if later == 0 {
		return t.Add(time.Duration(60-t.Minute()) * time.Minute)
	}
	return t.Add(time.Duration(bits.TrailingZeros64(later)-t.Minute()) * time.Minute)
}

func (s *Schedule) dayMatches(t time.Time) bool {
	day, weekday := s.day&(1<<t.Day()) != 0, s.weekday&(1<<int(t.Weekday())) != 0
	if s.anyDay || s.anyWeekday {
		return day && weekday
	}
	return day || weekday
}
