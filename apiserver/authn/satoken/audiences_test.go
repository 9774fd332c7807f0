// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package satoken

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestAudiencesAreReadInEitherForm: tokens that were issued before have a single one as a text.
func TestAudiencesAreReadInEitherForm(t *testing.T) {
	for text, want := range map[string]string{`{"aud":"a"}`: "a", `{"aud":["a","b"]}`: "a b", `{}`: ""} {
		var c claims
		if err := json.Unmarshal([]byte(text), &c); err != nil || strings.Join(c.Audiences, " ") != want {
			t.Errorf("%s has audiences %q, %v; want %q", text, c.Audiences, err, want)
		}
	}
}
