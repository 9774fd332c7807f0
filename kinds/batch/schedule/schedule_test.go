// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package schedule_test

import (
	"testing"
	"time"

	"kogge.dev/kogge/internal/need"
	"kogge.dev/kogge/kinds/batch/schedule"
)

func TestNext(t *testing.T) {
	for _, c := range []struct{ text, after, want string }{
		{"* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"},
		{"* * * * *", "2026-01-01T00:00:59.5Z", "2026-01-01T00:01:00Z"},
		{"*/15 * * * *", "2026-01-01T00:46:00Z", "2026-01-01T01:00:00Z"},
		{"30 4 1,15 * 5", "2026-01-02T05:00:00Z", "2026-01-09T04:30:00Z"},
		{"0 0 1 1 *", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		{"0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"},
		{"0 9 * * mon-fri", "2026-01-02T09:00:00Z", "2026-01-05T09:00:00Z"},
		{"5/20 1 * * *", "2026-01-01T01:25:00Z", "2026-01-01T01:45:00Z"},
		{"@hourly", "2026-01-01T01:25:00Z", "2026-01-01T02:00:00Z"},
		{"@every 90s", "2026-01-01T00:00:00.25Z", "2026-01-01T00:01:30Z"},
		{"0 0 31 2 *", "2026-01-01T00:00:00Z", ""},
		{"0 12 * * 1-5/2", "2026-01-05T12:00:00Z", "2026-01-07T12:00:00Z"},
	} {
		s, err := schedule.Parse(c.text)
		if err != nil {
			t.Errorf("Parse(%q): %v", c.text, err)
			continue
		}
		after, err := time.Parse(time.RFC3339, c.after)
		if err != nil {
			t.Fatal(err)
		}
		var want time.Time
		if c.want != "" {
			if want, err = time.Parse(time.RFC3339, c.want); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.Next(after); !got.Equal(want) {
			t.Errorf("Parse(%q).Next(%s) = %s, want %s", c.text, c.after, got, want)
		}
	}
}

func TestNextAcrossAClockChange(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	need.No(t, "time zone data", err)
	s, err := schedule.Parse("30 2 * * *")
	if err != nil {
		t.Fatal(err)
	}
	// On 2026-03-29 there is no 02:30.
	got := s.Next(time.Date(2026, 3, 28, 3, 0, 0, 0, berlin))
	if want := time.Date(2026, 3, 30, 2, 30, 0, 0, berlin); !got.Equal(want) {
		t.Errorf("Next = %s, want %s", got, want)
	}
}

func TestRefusals(t *testing.T) {
	for text, want := range map[string]string{
		"":              "empty spec string",
		"* * * *":       "expected exactly 5 fields, found 4: [* * * *]",
		"60 * * * *":    "end of range (60) above maximum (59): 60",
		"* * 0 * *":     "beginning of range (0) below minimum (1): 0",
		"5-1 * * * *":   "beginning of range (5) beyond end of range (1): 5-1",
		"*/0 * * * *":   "step of range should be a positive number: */0",
		"a * * * *":     `failed to parse int from a: strconv.Atoi: parsing "a": invalid syntax`,
		"1-2-3 * * * *": "too many hyphens: 1-2-3",
		"1/2/3 * * * *": "too many slashes: 1/2/3",
		"@fortnightly":  "unrecognized descriptor: @fortnightly",
		"TZ=0":          "invalid schedule format: a time zone with no schedule",
	} {
		if _, err := schedule.Parse(text); err == nil || err.Error() != want {
			t.Errorf("Parse(%q) error = %v, want %q", text, err, want)
		}
	}
}
