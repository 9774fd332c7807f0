// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"log/slog"

	"kogge.dev/kogge/client"
)

// Scope is what every controller is made from: who it acts as, what it sees, and where it reports. Each controller is
// one package with New(Scope) *Loop, and nothing else that others need.
type Scope struct {
	// Client acts under the controller's own service account.
	Client *client.Client
	// Informers are shared by all controllers of the process.
	Informers *client.Informers
	// Events writes Events as the controller.
	Events *Recorder
	Log    *slog.Logger
}
