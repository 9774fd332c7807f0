// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package core decides which node each pod gets. It has no goroutines, no locks, no clock and no I/O: a driver feeds it
// objects, asks it for decisions, and carries them out.
//
//	Put, Drop -> State --Snapshot--> Cycle: filter, score, choose -> Decision
//	                \--Event--> Queue: active, backoff, unschedulable, gated
package core
