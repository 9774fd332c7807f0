// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/apiserver/watch"
	"kogge.dev/kogge/codec"
)

// batches yields events a batch at a time.
type batches [][]watch.Event

// Next implements watch.Source.
func (b *batches) Next(context.Context) ([]watch.Event, error) {
	if len(*b) == 0 {
		return nil, io.EOF
	}
	next := (*b)[0]
	*b = (*b)[1:]
	return next, nil
}

func (b *batches) Poll(ctx context.Context) ([]watch.Event, bool, error) {
	events, err := b.Next(ctx)
	return events, true, err
}

// sized makes events whose objects are strings of JSON of these sizes.
func sized(sizes ...int) []watch.Event {
	out := make([]watch.Event, 0, len(sizes))
	for _, n := range sizes {
		out = append(out, watch.Event{Type: "ADDED", Object: []byte(`"` + strings.Repeat("x", n) + "\"\n")})
	}
	return out
}

// TestEveryEventArrives sends small, large and no objects, which are written together, apart, and without a copy.
func TestEveryEventArrives(t *testing.T) {
	all := func() batches {
		return batches{sized(0, 10, 10), sized(watch.Enough), sized(10, 2*watch.Enough, 10), sized(watch.Enough/2, watch.Enough/2, watch.Enough/2, 1), sized(3 * watch.Enough)}
	}
	for _, format := range []codec.Format{codec.JSON, codec.Protobuf} {
		t.Run(string(format), func(t *testing.T) {
			source, rec := all(), httptest.NewRecorder()
			if err := watch.Serve(rec, httptest.NewRequest(http.MethodGet, "/", nil), format, &source); err != nil {
				t.Fatal(err)
			}
			stream := rec.Body.Bytes()
			for _, batch := range all() {
				for _, want := range batch {
					var found metav1.WatchEvent
					if stream, found = first(t, stream, format); found.Type != want.Type || !bytes.Equal(found.Object.Raw, object(want, format)) {
						t.Errorf("event is %s of %d bytes, want %s of %d", found.Type, len(found.Object.Raw), want.Type, len(want.Object))
					}
				}
			}
			if len(stream) > 0 {
				t.Errorf("%d bytes are left", len(stream))
			}
		})
	}
}

// object is how an event's object travels: JSON without the end of its line.
func object(ev watch.Event, format codec.Format) []byte {
	if format == codec.JSON {
		return bytes.TrimSpace(ev.Object)
	}
	return ev.Object
}

// first takes the first event from a stream.
func first(t *testing.T, stream []byte, format codec.Format) (rest []byte, found metav1.WatchEvent) {
	t.Helper()
	if format == codec.JSON {
		line, rest, _ := bytes.Cut(stream, []byte("\n"))
		if err := json.Unmarshal(line, &found); err != nil {
			t.Fatal(err)
		}
		return rest, found
	}
	if len(stream) < 4 || len(stream)-4 < int(binary.BigEndian.Uint32(stream)) {
		t.Fatalf("stream of %d bytes ends in an event", len(stream))
	}
	n := binary.BigEndian.Uint32(stream)
	if err := found.Unmarshal(stream[4 : 4+n]); err != nil {
		t.Fatal(err)
	}
	return stream[4+n:], found
}
