// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package e2e holds the end-to-end stories; they run with the build tag e2e (make e2e).
package e2e
