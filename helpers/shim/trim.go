// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// trimLater unmaps, once the pod's start is over, the pages of the program that only the start needed. A node has one
// shim per pod, so each counts. What is used again is mapped again from the page cache. Only mappings of this program
// that cannot be written and hold no private page are touched; package internal/residency of the product does the same
// and explains it.
func trimLater() {
	time.AfterFunc(2*time.Second, func() {
		debug.FreeOSMemory()
		exe, err := os.Readlink("/proc/self/exe")
		if err != nil {
			return
		}
		smaps, err := os.Open("/proc/self/smaps")
		if err != nil {
			return
		}
		defer smaps.Close()
		var start, end uint64
		candidate := false
		for lines := bufio.NewScanner(smaps); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) >= 5 && strings.Contains(fields[0], "-") {
				from, to, _ := strings.Cut(fields[0], "-")
				start, _ = strconv.ParseUint(from, 16, 64)
				end, _ = strconv.ParseUint(to, 16, 64)
				candidate = len(fields) == 6 && fields[5] == exe && (fields[1] == "r-xp" || fields[1] == "r--p")
			} else if candidate && len(fields) > 1 && fields[0] == "Anonymous:" {
				if fields[1] == "0" && end > start {
					_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, uintptr(start), uintptr(end-start), syscall.MADV_DONTNEED)
				}
				candidate = false
			}
		}
	})
}
