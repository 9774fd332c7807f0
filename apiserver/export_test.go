// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"

	"kogge.dev/kogge/apiserver/rest"
	"kogge.dev/kogge/apiserver/watch"
	"kogge.dev/kogge/codec"
)

// PollOf polls a stream as its connection does, for events in JSON.
func PollOf(target *rest.Target, stream *rest.Stream) func(ctx context.Context) (events []watch.Event, more bool, err error) {
	return (&watchSource{answer: &answer{Accepted: codec.Accepted{Format: codec.JSON}, target: target}, stream: stream}).Poll
}
