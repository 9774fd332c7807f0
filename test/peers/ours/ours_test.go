// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package ours_test

import (
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"kogge.dev/kogge/test/peers/ours"
)

func TestServerAnswersItsAdministrator(t *testing.T) {
	t.Parallel()
	s, err := ours.Start(t.Context(), ours.Config{
		Dir: t.TempDir(), ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), Advertise: netip.MustParseAddr("192.0.2.1"),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(); err != nil {
			t.Errorf("Stop() = %v", err)
		}
	}()
	admin, err := s.Access()
	if err != nil {
		t.Fatal(err)
	}
	client, err := admin.Client()
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+"/api/v1/namespaces/default", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || !strings.Contains(string(body), `"name":"default"`) {
		t.Errorf("GET namespace default = %d %s, %v", res.StatusCode, body, err)
	}
}
