// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package cluster runs whole machines: it turns settings into a control plane and a node, in the order in which they
// start, and takes them down, or off the machine, again.
package cluster
