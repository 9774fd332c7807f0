// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package devices

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	plugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// connectTimeout and startTimeout bound calls to a plugin as upstream's kubelet does; Allocate has no bound but the pod's life.
const (
	connectTimeout = 10 * time.Second
	startTimeout   = plugin.KubeletPreStartContainerRPCTimeoutInSecs * time.Second
)

// endpoint is a connection to one plugin.
type endpoint struct {
	path string
	conn *grpc.ClientConn
	api  plugin.DevicePluginClient
	stop context.CancelFunc
}

func dial(path string) (*endpoint, error) {
	conn, err := grpc.NewClient("passthrough:///"+path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}))
	if err != nil {
		return nil, fmt.Errorf("connect device plugin at %s: %w", path, err)
	}
	return &endpoint{path: path, conn: conn, api: plugin.NewDevicePluginClient(conn)}, nil
}

// prefer asks which of the available devices the plugin would choose, if it wants to be asked.
func (e *endpoint) prefer(ctx context.Context, options *plugin.DevicePluginOptions, available, must []string, size int) ([]string, error) {
	if !options.GetGetPreferredAllocationAvailable() || len(available) == size {
		return nil, nil
	}
	answer, err := e.api.GetPreferredAllocation(ctx, &plugin.PreferredAllocationRequest{ContainerRequests: []*plugin.ContainerPreferredAllocationRequest{{
		AvailableDeviceIDs: available, MustIncludeDeviceIDs: must, AllocationSize: int32(size),
	}}})
	if err != nil {
		return nil, fmt.Errorf("device plugin GetPreferredAllocation rpc failed with err: %w", err)
	}
	if len(answer.GetContainerResponses()) == 0 {
		return nil, nil
	}
	return answer.GetContainerResponses()[0].GetDeviceIDs(), nil
}

func (e *endpoint) allocate(ctx context.Context, ids []string) (*plugin.ContainerAllocateResponse, error) {
	answer, err := e.api.Allocate(ctx, &plugin.AllocateRequest{ContainerRequests: []*plugin.ContainerAllocateRequest{{DevicesIds: ids}}})
	if err != nil {
		return nil, err
	}
	if len(answer.GetContainerResponses()) == 0 {
		return nil, errors.New("no containers return in allocation response")
	}
	return answer.GetContainerResponses()[0], nil
}

func (e *endpoint) start(ctx context.Context, ids []string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if _, err := e.api.PreStartContainer(ctx, &plugin.PreStartContainerRequest{DevicesIds: ids}); err != nil {
		return fmt.Errorf("device plugin PreStartContainer rpc failed with err: %w", err)
	}
	return nil
}
