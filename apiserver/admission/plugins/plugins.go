// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package plugins lists the admission plugins in their order and holds the small ones.
package plugins
