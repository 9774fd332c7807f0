// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// subscriber is one open event stream. Events wait in a queue without bound: a test that does not read loses nothing.
type subscriber struct {
	grpc.ClientStream

	ctx context.Context //nolint:containedctx // a gRPC client stream carries the context of its call
	f   *Runtime
	// wake has room for one: set when the queue is not empty.
	wake chan struct{}
	// broken is closed by BreakStreams.
	broken chan struct{}

	mu sync.Mutex

	queue []*runtimeapi.ContainerEventResponse
}

// BreakStreams ends all event streams, as a restart of the runtime would.
func (f *Runtime) BreakStreams() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.subscribers {
		close(s.broken)
		delete(f.subscribers, s)
	}
}

// emitLocked sends an event of a container or, when both ids are equal, a sandbox to all subscribers. Sandbox and
// container states are those of this moment, as with containerd.
func (f *Runtime) emitLocked(id, sandboxID string, kind runtimeapi.ContainerEventType) {
	event := &runtimeapi.ContainerEventResponse{ContainerId: id, ContainerEventType: kind, CreatedAt: time.Now().UnixNano()}
	if s, ok := f.sandboxes[sandboxID]; ok {
		event.PodSandboxStatus = proto.CloneOf(s.status)
	}
	for _, c := range f.containers {
		if c.sandboxID == sandboxID {
			event.ContainersStatuses = append(event.ContainersStatuses, proto.CloneOf(c.status))
		}
	}
	for s := range f.subscribers {
		s.put(proto.CloneOf(event))
	}
}

func (s *subscriber) put(event *runtimeapi.ContainerEventResponse) {
	s.mu.Lock()
	s.queue = append(s.queue, event)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Recv implements the stream.
func (s *subscriber) Recv() (*runtimeapi.ContainerEventResponse, error) {
	for {
		s.mu.Lock()
		if len(s.queue) > 0 {
			event := s.queue[0]
			s.queue = s.queue[1:]
			s.mu.Unlock()
			return event, nil
		}
		s.mu.Unlock()
		select {
		case <-s.wake:
		case <-s.broken:
			return nil, io.EOF
		case <-s.ctx.Done():
			s.f.mu.Lock()
			delete(s.f.subscribers, s)
			s.f.mu.Unlock()
			return nil, status.FromContextError(s.ctx.Err()).Err()
		}
	}
}

func (s *subscriber) Header() (metadata.MD, error) { return metadata.MD{}, nil }
func (s *subscriber) Trailer() metadata.MD         { return nil }
func (s *subscriber) CloseSend() error             { return nil }
func (s *subscriber) Context() context.Context     { return s.ctx }

// GetContainerEvents opens a stream that misses nothing from here on.
func (r runtimeService) GetContainerEvents(ctx context.Context, _ *runtimeapi.GetEventsRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[runtimeapi.ContainerEventResponse], error) {
	if err := r.f.failure("GetContainerEvents"); err != nil {
		return nil, err
	}
	s := &subscriber{ctx: ctx, f: r.f, wake: make(chan struct{}, 1), broken: make(chan struct{})}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	r.f.subscribers[s] = struct{}{}
	return s, nil
}
