// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package residency

import (
	"strings"
	"testing"
)

func TestOnlyCleanReadOnlyPagesOfTheProgramAreDropped(t *testing.T) {
	smaps := `00400000-00800000 r-xp 00000000 08:01 1 /bin/kogge
Rss: 4096 kB
Anonymous: 0 kB
00800000-00900000 r--p 00400000 08:01 1 /bin/kogge
Anonymous: 4 kB
00900000-00a00000 rw-p 00500000 08:01 1 /bin/kogge
Anonymous: 0 kB
00a00000-00b00000 r-xp 00000000 08:01 2 /lib/other
Anonymous: 0 kB
c000000000-c000400000 rw-p 00000000 00:00 0
Anonymous: 0 kB
00c00000-00d00000 r--p 00600000 08:01 1 /bin/kogge
Anonymous: 0 kB
`
	got, err := droppable(strings.NewReader(smaps), "/bin/kogge")
	if err != nil || len(got) != 2 || got[0] != (span{0x400000, 0x800000}) || got[1] != (span{0xc00000, 0xd00000}) {
		t.Errorf("droppable = %x, %v, want the first and the last mapping of the program", got, err)
	}
}

func TestProgramRunsOnAfterTrim(t *testing.T) {
	if err := Trim(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Repeat("a", 3); got != "aaa" {
		t.Errorf("after Trim: %q", got)
	}
}
