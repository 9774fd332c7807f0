// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

//go:build invariants

package invariant

// Enabled tells that costly checks run.
const Enabled = true
