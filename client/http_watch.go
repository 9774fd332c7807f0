// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	jsonserializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	protoserializer "k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/watch"
)

// maxFrame bounds one watch event, well above the largest object that an API server stores.
const maxFrame = 16 << 20

// httpStream reads watch frames off a response body.
type httpStream struct {
	cancel context.CancelFunc
	events chan watch.Event
}

// Events implements Stream. The channel holds nothing: a slow reader slows the server's connection.
func (s *httpStream) Events() <-chan watch.Event { return s.events }

// Stop implements Stream.
func (s *httpStream) Stop() { s.cancel() }

// Watch implements Backend.
func (h *HTTP) Watch(ctx context.Context, req *Request) (Stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	resp, err := h.send(ctx, req, true) //nolint:bodyclose // the stream closes it
	if err != nil {
		cancel()
		return nil, err
	}
	s := &httpStream{cancel: cancel, events: make(chan watch.Event)}
	next, err := h.decoder(resp, req)
	if err != nil {
		cancel()
		resp.Body.Close()
		return nil, err
	}
	go func() {
		defer close(s.events)
		defer resp.Body.Close()
		for {
			event, err := next()
			if err != nil {
				if ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
					return
				}
				event = watch.Event{Type: watch.Error, Object: &metav1.Status{
					Status: metav1.StatusFailure, Code: http.StatusInternalServerError,
					Reason: metav1.StatusReasonInternalError, Message: fmt.Sprintf("watch stream broke: %v", err),
				}}
			}
			select {
			case s.events <- event:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return s, nil
}

// decoder returns a function that reads the next event in the answer's format.
func (h *HTTP) decoder(resp *http.Response, req *Request) (func() (watch.Event, error), error) {
	media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	switch media {
	case mediaProtobuf:
		reader := protoserializer.LengthDelimitedFramer.NewFrameReader(resp.Body)
		buf := make([]byte, 4096)
		return func() (watch.Event, error) {
			frame, err := readFrame(reader, &buf)
			if err != nil {
				return watch.Event{}, err
			}
			var raw metav1.WatchEvent
			if _, _, err := h.frames.Decode(frame, nil, &raw); err != nil {
				return watch.Event{}, err
			}
			obj, _, err := h.proto.Decode(raw.Object.Raw, nil, nil)
			return watch.Event{Type: watch.EventType(raw.Type), Object: obj}, err
		}, nil
	case mediaJSON:
		reader := jsonserializer.Framer.NewFrameReader(resp.Body)
		dynamic := !h.builtIn(req)
		buf := make([]byte, 4096)
		return func() (watch.Event, error) {
			frame, err := readFrame(reader, &buf)
			if err != nil {
				return watch.Event{}, err
			}
			var raw struct {
				Type   watch.EventType
				Object json.RawMessage
			}
			if err := json.Unmarshal(frame, &raw); err != nil {
				return watch.Event{}, err
			}
			var obj runtime.Object
			if dynamic {
				obj, err = decodeDynamic(raw.Object)
			} else {
				obj, _, err = h.json.Decode(raw.Object, nil, nil)
			}
			return watch.Event{Type: raw.Type, Object: obj}, err
		}, nil
	}
	return nil, fmt.Errorf("watch answered with content type %q", resp.Header.Get("Content-Type"))
}

// readFrame reads one frame, growing buf as needed.
func readFrame(r io.Reader, buf *[]byte) ([]byte, error) {
	filled := 0
	for {
		n, err := r.Read((*buf)[filled:])
		filled += n
		if !errors.Is(err, io.ErrShortBuffer) {
			return (*buf)[:filled], err
		}
		if len(*buf) >= maxFrame {
			return nil, fmt.Errorf("watch frame is larger than %d bytes", maxFrame)
		}
		*buf = append(*buf, make([]byte, len(*buf))...)
	}
}
