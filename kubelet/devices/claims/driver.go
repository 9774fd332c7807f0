// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	dra "k8s.io/kubelet/pkg/apis/dra/v1"
	drabeta "k8s.io/kubelet/pkg/apis/dra/v1beta1"
)

// callTimeout bounds one call to a driver, as upstream's kubelet does.
const callTimeout = 45 * time.Second

// Services are the gRPC services of drivers that can be used here, the best one first. A driver lists its own at registration.
func Services() []string { return []string{dra.DRAPluginService, drabeta.DRAPluginService} }

// driver is one instance of a driver; during an upgrade there may be two of one name.
type driver struct {
	name, endpoint, service string
	conn                    *grpc.ClientConn
	connected               bool
	stop                    context.CancelFunc
}

func (d *driver) close(log *slog.Logger) {
	d.stop()
	if err := d.conn.Close(); err != nil {
		log.Debug("connection to a dra driver", "driver", d.name, "err", err)
	}
}

func (d *driver) prepare(ctx context.Context, in *dra.NodePrepareResourcesRequest) (*dra.NodePrepareResourcesResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if d.service == drabeta.DRAPluginService {
		return drabeta.V1Beta1ClientWrapper{DRAPluginClient: drabeta.NewDRAPluginClient(d.conn)}.NodePrepareResources(ctx, in)
	}
	return dra.NewDRAPluginClient(d.conn).NodePrepareResources(ctx, in)
}

func (d *driver) unprepare(ctx context.Context, in *dra.NodeUnprepareResourcesRequest) (*dra.NodeUnprepareResourcesResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if d.service == drabeta.DRAPluginService {
		return drabeta.V1Beta1ClientWrapper{DRAPluginClient: drabeta.NewDRAPluginClient(d.conn)}.NodeUnprepareResources(ctx, in)
	}
	return dra.NewDRAPluginClient(d.conn).NodeUnprepareResources(ctx, in)
}

// Register takes a driver that announced itself with the services that it offers.
func (c *Claims) Register(name, endpoint string, services []string) error {
	i := slices.IndexFunc(Services(), func(s string) bool { return slices.Contains(services, s) })
	if i < 0 {
		return fmt.Errorf("invalid supported gRPC versions of DRA driver plugin %s at endpoint %s: none of services supported by the plugin (%q) are supported by the kubelet (%q)",
			name, endpoint, services, Services())
	}
	path := strings.TrimPrefix(endpoint, "unix://")
	conn, err := grpc.NewClient("passthrough:///"+path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}))
	if err != nil {
		return fmt.Errorf("connect dra driver %s at %s: %w", name, endpoint, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx == nil || c.ctx.Err() != nil {
		return errors.Join(errors.New("the kubelet does not take drivers now"), conn.Close())
	}
	if slices.ContainsFunc(c.drivers[name], func(d *driver) bool { return d.endpoint == endpoint }) {
		return errors.Join(fmt.Errorf("endpoint %s already registered for DRA driver plugin %s", endpoint, name), conn.Close())
	}
	d := &driver{name: name, endpoint: endpoint, service: Services()[i], conn: conn}
	ctx, stop := context.WithCancel(c.ctx)
	d.stop = stop
	c.drivers[name] = append(c.drivers[name], d)
	c.judgeLocked(name)
	c.wg.Go(func() { c.follow(ctx, d) })
	c.wg.Go(func() { c.watchHealth(ctx, d) })
	return nil
}

// follow notes whether the driver can be reached, and keeps trying to reach it.
func (c *Claims) follow(ctx context.Context, d *driver) {
	for {
		state := d.conn.GetState()
		c.mu.Lock()
		d.connected = state == connectivity.Ready
		c.judgeLocked(d.name)
		c.mu.Unlock()
		if state == connectivity.Idle {
			d.conn.Connect()
		}
		if state == connectivity.Shutdown || !d.conn.WaitForStateChange(ctx, state) {
			return
		}
	}
}

// Unregister drops the instance of a driver whose registration socket is gone.
func (c *Claims) Unregister(name, endpoint string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.drivers[name], func(d *driver) bool { return d.endpoint == endpoint })
	if i < 0 {
		return
	}
	c.drivers[name][i].close(c.config.Logger)
	if c.drivers[name] = slices.Delete(c.drivers[name], i, i+1); len(c.drivers[name]) == 0 {
		delete(c.drivers, name)
	}
	c.judgeLocked(name)
}

// driver returns the instance to call: the newest that can be reached, else the newest.
func (c *Claims) driver(name string) (*driver, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.drivers[name]
	if len(list) == 0 {
		return nil, fmt.Errorf("DRA driver %s is not registered", name)
	}
	for _, d := range slices.Backward(list) {
		if d.connected {
			return d, nil
		}
	}
	return list[len(list)-1], nil
}

// judgeLocked arranges for a driver that can't be reached to lose its slices in a while, or calls that off.
func (c *Claims) judgeLocked(name string) {
	usable := slices.ContainsFunc(c.drivers[name], func(d *driver) bool { return d.connected })
	timer := c.wipes[name]
	switch {
	case usable && timer != nil:
		timer.Stop()
		delete(c.wipes, name)
	case !usable && timer == nil && c.ctx != nil && c.ctx.Err() == nil:
		ctx := c.ctx
		var own *time.Timer
		own = time.AfterFunc(c.config.WipeDelay, func() {
			c.mu.Lock()
			due := c.wipes[name] == own
			c.mu.Unlock()
			if !due {
				return
			}
			c.wipe(ctx, name)
			c.mu.Lock()
			if c.wipes[name] == own {
				delete(c.wipes, name)
			}
			c.mu.Unlock()
		})
		c.wipes[name] = own
	}
}

// wipe deletes published slices and does not give up before ctx ends.
func (c *Claims) wipe(ctx context.Context, name string) {
	for delay := time.Second; ; delay = min(2*delay, 5*time.Minute) {
		err := c.config.Wipe(ctx, name)
		if err == nil || ctx.Err() != nil {
			return
		}
		c.config.Logger.Debug("resource slices can't be deleted yet", "driver", name, "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
	}
}
