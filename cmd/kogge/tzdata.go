// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package main

// CronJobs name time zones, and the host may have no table of them. The standard library takes the embedded one only by a
// blank import.
import _ "time/tzdata"
