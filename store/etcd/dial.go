// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// DialConfig says where an external etcd is.
type DialConfig struct {
	// Endpoints are the members' client URLs. At least one.
	Endpoints []string
	// TLS of the client. Required for https endpoints that want client certificates.
	TLS TLS
	// Logger; nil means none.
	Logger *slog.Logger
}

// Remote is a store on an external etcd.
type Remote struct{ *Store }

// Dial makes a store on an external etcd. It does not wait for a connection: requests do, for as long as their contexts last.
func Dial(cfg DialConfig) (*Remote, error) {
	if len(cfg.Endpoints) == 0 {
		return nil, errors.New("external etcd without endpoints")
	}
	if err := cfg.TLS.validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	config := clientv3.Config{
		Endpoints:            cfg.Endpoints,
		DialKeepAliveTime:    30 * time.Second,
		DialKeepAliveTimeout: 10 * time.Second,
		Logger:               zapLogger(cfg.Logger),
	}
	if cfg.TLS != (TLS{}) {
		tls, err := cfg.TLS.client().ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("external etcd: %w", err)
		}
		config.TLS = tls
	}
	client, err := clientv3.New(config)
	if err != nil {
		return nil, fmt.Errorf("external etcd: %w", err)
	}
	return &Remote{Store: newStore(newConnection(client), client)}, nil
}

// Close ends the connections.
func (r *Remote) Close() error { return r.client.Close() }
