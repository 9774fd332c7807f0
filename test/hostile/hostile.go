// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package hostile holds attacks on the API server by clients that may use it but mean no good. Each attack is a test with a comment: what the
// attacker does, and what must hold. The server is a whole control plane behind a real TLS socket.
//
// During every attack an innocent client, who is another user on another connection, writes and reads an object all the time. It must get every
// answer, each within a generous time; memory must stay below a bound; and when the attacker is gone, memory and goroutines must come back.
package hostile
