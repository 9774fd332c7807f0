// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package authz

import "strconv"

func quote(s string) string { return strconv.Quote(s) }
