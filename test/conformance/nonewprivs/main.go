// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Command nonewprivs prints its effective user. Its image gives the file the setuid bit, so that a container without
// allowPrivilegeEscalation must not see user 0.
package main

import (
	"fmt"
	"os"
)

func main() { fmt.Fprintf(os.Stdout, "Effective uid: %d\n", os.Geteuid()) }
