// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"strings"
	"testing"

	"kogge.dev/kogge/apiserver/admission"
	"kogge.dev/kogge/apiserver/admission/configured"
	"kogge.dev/kogge/apiserver/admission/eventratelimit"
)

func TestChoice(t *testing.T) {
	all := []admission.Plugin{{Name: "LimitRanger"}, {Name: "EventRateLimit"}, {Name: "DenyServiceExternalIPs"}, {Name: "PodSecurity"}}
	for _, test := range []struct {
		choice       Choice
		want, refuse string
	}{
		{Choice{}, "LimitRanger PodSecurity", ""},
		{Choice{Enabled: []string{"EventRateLimit", "PodSecurity"}}, "LimitRanger EventRateLimit PodSecurity", ""},
		{Choice{Enabled: []string{"DenyServiceExternalIPs"}, Disabled: []string{"LimitRanger"}}, "DenyServiceExternalIPs PodSecurity", ""},
		{Choice{Enabled: []string{"NodeRestrictions"}}, "", `admission plugin "NodeRestrictions" is not one of LimitRanger, EventRateLimit, DenyServiceExternalIPs, PodSecurity`},
		{Choice{Enabled: []string{"PodSecurity"}, Disabled: []string{"PodSecurity"}}, "", `admission plugin "PodSecurity" is both enabled and disabled`},
	} {
		pick := picker{Choice: test.choice}
		on := pick.of(all)
		if err := pick.check(); err != nil || test.refuse != "" {
			if err == nil || err.Error() != test.refuse {
				t.Errorf("%+v: %v, want %q", test.choice, err, test.refuse)
			}
			continue
		}
		var got []string
		for _, p := range on {
			got = append(got, p.Name)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%+v: %q, want %q", test.choice, got, test.want)
		}
	}
}

func TestEventRateLimitNeedsLimits(t *testing.T) {
	c := Choice{Enabled: []string{eventratelimit.Name}}
	if _, err := c.eventRates(); err == nil {
		t.Error("EventRateLimit is on without a configuration")
	}
	c.Configured = configured.Plugins{EventRateLimit: &eventratelimit.Configuration{Limits: []eventratelimit.Limit{{Type: eventratelimit.Server, QPS: 1, Burst: 1}}}}
	if p, err := c.eventRates(); err != nil || p == nil {
		t.Errorf("eventRates() = %v, %v", p, err)
	}
}
