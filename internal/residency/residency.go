// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package residency decides how much memory a process holds. It gives memory back to the kernel that was touched at the start and will hardly
// be needed again (the garbage of initialisation, and the pages of the program file), lets a heap grow further while much is allocated, keeps it dense while
// much is made that stays, and gives back what is left free of it. What the runtime notes for heap profiles is memory, too.
//
// kogge's binary is large, and starting reads all over it: package initialisation, tables, function metadata. Those pages
// stay mapped, and count as the process's memory, until the machine is short of it. Unmapped, they remain in the page
// cache; what is used again is mapped again by a minor fault.
package residency

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
)

// Trim collects garbage, returns free heap to the kernel, and unmaps the resident pages of the program file. It costs a
// few milliseconds now and some microseconds of faults later; call it once, when a start is over.
func Trim() error {
	debug.FreeOSMemory()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("trim memory: %w", err)
	}
	file, err := os.Open("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("trim memory: %w", err)
	}
	defer file.Close()
	ranges, err := droppable(file, exe)
	if err != nil {
		return fmt.Errorf("trim memory: %w", err)
	}
	var errs []error
	for _, r := range ranges {
		errs = append(errs, drop(r))
	}
	return errors.Join(errs...)
}

// span is a range of addresses, the end excluded.
type span struct{ start, end uintptr }

// droppable finds, in the format of /proc/<pid>/smaps, the mappings of the file exe whose every page equals the file's:
// private, not writable, and without anonymous pages, which a relocated table would have. To drop any other page would
// lose what was written to it.
func droppable(smaps io.Reader, exe string) ([]span, error) {
	var out []span
	var current span
	candidate := false
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 {
			continue
		}
		if s, ok := parseSpan(fields[0]); ok {
			current = s
			candidate = len(fields) >= 6 && (fields[1] == "r-xp" || fields[1] == "r--p") && strings.Join(fields[5:], " ") == exe
			continue
		}
		if candidate && fields[0] == "Anonymous:" && len(fields) > 1 {
			if fields[1] == "0" {
				out = append(out, current)
			}
			candidate = false
		}
	}
	return out, lines.Err()
}

func parseSpan(text string) (span, bool) {
	from, to, ok := strings.Cut(text, "-")
	if !ok {
		return span{}, false
	}
	start, err1 := strconv.ParseUint(from, 16, 64)
	end, err2 := strconv.ParseUint(to, 16, 64)
	return span{uintptr(start), uintptr(end)}, err1 == nil && err2 == nil
}

// drop unmaps the pages of a range; the next access maps them from the file again.
func drop(s span) error {
	// The raw call, because the range is no Go object that a slice could stand for.
	if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, s.start, s.end-s.start, syscall.MADV_DONTNEED); errno != 0 {
		return fmt.Errorf("trim memory: %w", errno)
	}
	return nil
}
