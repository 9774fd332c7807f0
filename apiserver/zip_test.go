// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"compress/gzip"
	"io"
	"testing"
)

// A zip that is used again knows nothing of the answer before, also when that could not be sent.
func TestZipIsUsedAgain(t *testing.T) {
	gone, broken := io.Pipe()
	_ = gone.Close()
	for _, answer := range []string{"the first answer, long enough for a match with the next", "", "the first answer, and a second"} {
		var sent bytes.Buffer
		for _, w := range []io.Writer{broken, &sent} {
			z := zipTo(w)
			_, _ = io.WriteString(z, answer)
			if err := z.Close(); (err != nil) != (w == broken) {
				t.Errorf("Close of %q = %v, broken %v", answer, err, w == broken)
			}
		}
		r, err := gzip.NewReader(&sent)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != answer {
			t.Errorf("%q arrives as %q, %v", answer, got, err)
		}
	}
}
