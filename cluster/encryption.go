// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"kogge.dev/kogge/apiserver"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/encryption"
)

// EncryptionSettings say what the store keeps encrypted.
type EncryptionSettings struct {
	// ConfigFile holds an EncryptionConfiguration (apiserver.config.k8s.io/v1). It is read again when it changes.
	ConfigFile string `json:"configFile,omitempty"`
}

// encrypted is a store, and what keeps its encryption working.
type encrypted struct {
	store      store.Store
	run        func(ctx context.Context) error
	checks     []apiserver.Check
	collectors []prometheus.Collector
}

// openEncryption puts encryption above a store, if the settings ask for it.
func openEncryption(s EncryptionSettings, under store.Store, log *slog.Logger) (encrypted, error) {
	if s.ConfigFile == "" {
		return encrypted{store: under, run: func(context.Context) error { return nil }}, nil
	}
	e, err := encryption.Open(encryption.Config{Path: s.ConfigFile, Under: under, Resource: control.ResourceOf(), Log: log.With("component", "encryption")})
	if err != nil {
		return encrypted{}, fmt.Errorf("api.encryption.configFile: %w", err)
	}
	return encrypted{
		store: e, run: e.Run, checks: []apiserver.Check{{Name: "kms-providers", Probe: e.Check}}, collectors: e.Collectors(),
	}, nil
}
