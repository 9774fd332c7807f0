// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package repo holds the guard tests: rules of this repository that a machine can check, each with a message that says
// what to do instead.
package repo
