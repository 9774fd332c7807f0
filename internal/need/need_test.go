// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package need

import (
	"errors"
	"runtime"
	"strings"
	"testing"
)

// spy is a test that records how it ends; only the methods that this package calls are there.
type spy struct {
	testing.TB
	skipped, failed string
}

func (s *spy) Helper() {}

func (s *spy) Skip(args ...any) {
	s.skipped, _ = args[0].(string)
	runtime.Goexit()
}

func (s *spy) Fatalf(_ string, args ...any) {
	s.failed, _ = args[0].(string)
	runtime.Goexit()
}

// end runs f as a test of its own and returns how that ended.
func end(f func(testing.TB)) *spy {
	s, done := &spy{}, make(chan struct{})
	go func() {
		defer close(done)
		f(s)
	}()
	<-done
	return s
}

func TestWhatIsMissingSkipsAndUnderCIFails(t *testing.T) {
	absent := func(t testing.TB) { No(t, "compass", errors.New("not aboard")) }
	t.Setenv("CI", "")
	if s := end(absent); !strings.Contains(s.skipped, "no compass: not aboard") || s.failed != "" {
		t.Errorf("outside CI: skipped %q, failed %q", s.skipped, s.failed)
	}
	t.Setenv("CI", "true")
	if s := end(absent); s.skipped != "" || !strings.Contains(s.failed, "no compass: not aboard") {
		t.Errorf("under CI: skipped %q, failed %q", s.skipped, s.failed)
	}
	if s := end(func(t testing.TB) { No(t, "compass", nil) }); s.skipped != "" || s.failed != "" {
		t.Errorf("nothing is missing: skipped %q, failed %q", s.skipped, s.failed)
	}
}
