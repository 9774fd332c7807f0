// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"

	"kogge.dev/kogge/apiserver/admission/configured"
	"kogge.dev/kogge/apiserver/admission/plugins"
)

// AdmissionSettings say which admission plugins judge requests.
type AdmissionSettings struct {
	// EnablePlugins are on besides the default ones: EventRateLimit, DenyServiceExternalIPs.
	EnablePlugins []string `json:"enablePlugins,omitempty"`
	// DisablePlugins are off although they are default ones.
	DisablePlugins []string `json:"disablePlugins,omitempty"`
	// ConfigFile holds an AdmissionConfiguration (apiserver.config.k8s.io/v1) for EventRateLimit and PodSecurity. It is read at the start.
	ConfigFile string `json:"configFile,omitempty"`
}

// choice reads what the settings name.
func (s AdmissionSettings) choice() (plugins.Choice, error) {
	out := plugins.Choice{Enabled: s.EnablePlugins, Disabled: s.DisablePlugins}
	if s.ConfigFile == "" {
		return out, nil
	}
	var err error
	if out.Configured, err = configured.Read(s.ConfigFile); err != nil {
		return plugins.Choice{}, fmt.Errorf("api.admission.configFile: %w", err)
	}
	return out, nil
}
