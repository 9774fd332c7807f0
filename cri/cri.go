// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package cri is the kubelet's view of a container runtime: the two services of the Container Runtime Interface, version
// runtime/v1, over the runtime's unix socket.
//
// A Runtime carries the two generated client interfaces, so that a caller uses the protocol's own messages and a fake
// (cri/fake) can stand in for a process. Every implementation passes the suite of cri/critest.
package cri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ErrUnavailable is returned by Connect when the runtime did not answer before the context ended.
var ErrUnavailable = errors.New("container runtime unavailable")

// maxMessage bounds one CRI message, in bytes; upstream's kubelet uses the same bound. A list of a few thousand
// containers exceeds gRPC's default of 4 MiB.
const maxMessage = 1024 * 1024 * 16

// Runtime is one connection to one container runtime. Its methods and both services are safe for concurrent use.
// The zero value is not usable; Connect makes one for a socket, and cri/fake one in memory.
type Runtime struct {
	// Containers runs sandboxes and containers.
	Containers runtimeapi.RuntimeServiceClient
	// Images pulls, lists and removes images.
	Images runtimeapi.ImageServiceClient
	// Closer releases the connection; nil if there is nothing to release.
	Closer io.Closer
}

// Connect dials the runtime at socket, which is an absolute path or a unix:// URL, and returns once it has answered a
// Version request, trying again until ctx ends. It holds one connection, which gRPC re-establishes after a restart of
// the runtime: calls that meet the gap fail with codes.Unavailable (IsUnavailable).
func Connect(ctx context.Context, socket string) (*Runtime, error) {
	path, err := socketPath(socket)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///"+path,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(math.MaxInt32)),
		// A runtime on the same machine comes back within milliseconds, so the delay between attempts stays short.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("connect container runtime %s: %w", path, err)
	}
	r := &Runtime{
		Containers: runtimeapi.NewRuntimeServiceClient(conn),
		Images:     runtimeapi.NewImageServiceClient(conn),
		Closer:     conn,
	}
	if err := r.waitAnswer(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connect container runtime %s: %w", path, err), conn.Close())
	}
	return r, nil
}

// waitAnswer returns when a Version request has succeeded.
func (r *Runtime) waitAnswer(ctx context.Context) error {
	for {
		_, err := r.Containers.Version(ctx, &runtimeapi.VersionRequest{}, grpc.WaitForReady(true))
		if err == nil {
			return nil
		}
		switch status.Code(err) {
		case codes.Unavailable, codes.Unknown, codes.Unimplemented:
			// Unimplemented and Unknown: the socket is up and the CRI plugin is not registered or not initialised yet.
		default:
			return errors.Join(ErrUnavailable, err)
		}
		select {
		case <-ctx.Done():
			return errors.Join(ErrUnavailable, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Close releases the connection.
func (r *Runtime) Close() error {
	if r.Closer == nil {
		return nil
	}
	return r.Closer.Close()
}

// Events calls handle for each container and sandbox event, in the order in which the runtime sends them, until the
// stream breaks or ctx ends, and returns why. connected, if not nil, is called once the stream is established: events
// after that point are not lost, so that a caller who lists after connected and then follows misses nothing.
// Events of one container arrive in order; a stream that broke has lost events, and the caller must list again.
func (r *Runtime) Events(ctx context.Context, connected func(), handle func(*runtimeapi.ContainerEventResponse)) error {
	stream, err := r.Containers.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
	if err != nil {
		return fmt.Errorf("open container event stream: %w", err)
	}
	// The stub returns before the server has seen the request. A runtime that sends its header early settles it; one
	// that sends none before its first event (containerd) has subscribed by the time that it answers another request on
	// the same connection only with high probability, which is why callers also list at long intervals.
	if connected != nil {
		if _, err := r.Containers.Version(ctx, &runtimeapi.VersionRequest{}); err != nil {
			return fmt.Errorf("open container event stream: %w", err)
		}
		connected()
	}
	for {
		event, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("read container event: %w", err)
		}
		handle(event)
	}
}

// IsNotFound reports whether a CRI call failed because the object named in it does not exist.
func IsNotFound(err error) bool { return status.Code(unwrapStatus(err)) == codes.NotFound }

// IsUnavailable reports whether a CRI call failed because the runtime could not be reached.
func IsUnavailable(err error) bool {
	return errors.Is(err, ErrUnavailable) || status.Code(unwrapStatus(err)) == codes.Unavailable
}

// unwrapStatus finds the gRPC status in a wrapped error; status.Code alone looks at wrapped errors only since gRPC 1.55
// and returns Unknown for joined ones.
func unwrapStatus(err error) error {
	var se interface{ GRPCStatus() *status.Status }
	if errors.As(err, &se) {
		return se.GRPCStatus().Err()
	}
	return err
}

// socketPath turns a path or unix URL into a path.
func socketPath(socket string) (string, error) {
	path := strings.TrimPrefix(socket, "unix://")
	if !strings.HasPrefix(path, "/") {
		return "", fmt.Errorf("container runtime endpoint %q: need an absolute path or unix:///path", socket)
	}
	return path, nil
}
