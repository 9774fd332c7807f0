// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

// Defaults of Config.
const (
	// DefaultQuota of the database in bytes, etcd's recommended maximum.
	DefaultQuota = 8 << 30
	// aloneTick is long, because a member that is alone has nobody to send heartbeats to; it only wakes the processor.
	// It also sets the shortest lease: seven ticks.
	aloneTick     = 500 * time.Millisecond
	clusteredTick = 100 * time.Millisecond
	maxTick       = 4 * time.Second
	// aloneElection and clusteredElection are the ticks of an election timeout, five at least.
	aloneElection, clusteredElection = 5, 10
	// Alone, nobody will ask for old log entries: one is kept in memory behind each compaction (5,000 are else, with all that they wrote). A
	// snapshot, which is small, lets go of the log before it every so many entries, so that a start reads little.
	aloneCatchUp, aloneSnapshot, aloneSegments = 1, 1000, 2
	// commitEvery is how often the database file follows the WAL when there was something to commit. After a crash the rest is
	// replayed from the WAL. Much that is written is committed sooner (commitLeast).
	commitEvery = time.Second
)

// Config of an embedded etcd.
type Config struct {
	// DataDir is the folder of the database. Required.
	DataDir string
	// Name of this member; empty means "kogge".
	Name string
	// Quota bounds the database, in bytes; zero means DefaultQuota. Beyond it writes fail.
	Quota int64
	// Tick is the time between heartbeats; zero means half a second alone and 100 ms in a cluster.
	Tick time.Duration
	// PeerURLs and ClientURLs are listened on (https only). Empty, as on a single node, means no socket at all: the only
	// client is this process. With PeerURLs this member belongs to a cluster.
	PeerURLs, ClientURLs []string
	PeerTLS, ClientTLS   TLS
	// InitialCluster maps the members' names to their peer URLs when a cluster is formed; Join says that the cluster
	// exists already and has been told of this member. Both matter only while DataDir is empty.
	InitialCluster map[string]string
	Join           bool
	// UnsafeNoFsync loses data when the machine stops, and is for tests.
	UnsafeNoFsync bool
	// Logger; nil means none.
	Logger *slog.Logger
}

// alone tells that no other member can exist.
func (c *Config) alone() bool { return len(c.PeerURLs) == 0 }

func (c *Config) validate() error {
	if c.DataDir == "" {
		return errors.New("etcd without a data folder")
	}
	if c.Name == "" {
		c.Name = "kogge"
	}
	if c.Quota == 0 {
		c.Quota = DefaultQuota
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.Tick == 0 && c.alone():
		c.Tick = aloneTick
	case c.Tick == 0:
		c.Tick = clusteredTick
	case c.Tick < time.Millisecond:
		return fmt.Errorf("etcd tick of %v is shorter than a millisecond", c.Tick)
	case c.Tick > maxTick: // etcd wants election timeouts of less than 50 s.
		return fmt.Errorf("etcd tick of %v is longer than %v", c.Tick, maxTick)
	}
	if info, err := os.Stat(c.DataDir); err == nil && !info.IsDir() {
		return fmt.Errorf("etcd data folder %s is a file", c.DataDir)
	}
	if c.alone() && (len(c.InitialCluster) > 0 || c.Join) {
		return errors.New("etcd cluster without a peer URL for this member")
	}
	return nil
}

// Embedded is an etcd in this process, and the store on it.
type Embedded struct {
	*Store
	etcd    *embed.Etcd
	commits *committer
	trim    *trimmer   // nil in a cluster, where other members may ask for the log
	fill    *prefiller // nil where nothing is synced
}

// Open opens (or creates) the database in cfg.DataDir and returns when it can serve. The caller closes it.
func Open(ctx context.Context, cfg Config) (*Embedded, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	config, err := embedConfig(&cfg)
	if err != nil {
		return nil, err
	}
	setSegmentSize()
	opening.Lock()
	defer opening.Unlock()
	if err := repairWAL(walDir(cfg.DataDir)); err != nil {
		return nil, fmt.Errorf("open etcd in %s: %w", cfg.DataDir, err)
	}
	if cfg.alone() {
		if err := removeUnborn(cfg.DataDir); err != nil {
			return nil, fmt.Errorf("open etcd in %s: %w", cfg.DataDir, err)
		}
	}
	server, err := startEtcd(config)
	if err != nil {
		return nil, fmt.Errorf("open etcd in %s: %w", cfg.DataDir, err)
	}
	if err := waitReady(ctx, server, cfg.alone()); err != nil {
		server.Close()
		return nil, fmt.Errorf("open etcd in %s: %w", cfg.DataDir, err)
	}
	own := newMember(server.Server)
	e := &Embedded{Store: newStore(own, v3client.New(server.Server)), etcd: server, commits: &committer{commit: own.commit}}
	e.alone = cfg.alone()
	if cfg.alone() {
		e.trim = newTrimmer(func(ctx context.Context) error {
			_, err := e.client.AlarmList(ctx) // It goes through the log and changes nothing.
			return err
		}, own.forget)
	}
	if !cfg.UnsafeNoFsync {
		e.fill = &prefiller{dir: walDir(cfg.DataDir), log: cfg.Logger}
	}
	e.wrote = func(bytes int) {
		e.commits.wrote(bytes)
		e.trim.wrote(bytes)
		e.fill.wrote(bytes)
	}
	return e, nil
}

// Close ends client and server, and with them the watches and requests that run. What was acknowledged is on the disk anyway.
func (e *Embedded) Close() error {
	e.trim.stop()
	e.fill.stop()
	err := e.client.Close()
	if errors.Is(err, context.Canceled) { // So says a client that never had a connection.
		err = nil
	}
	e.etcd.Close()
	return err
}

// Done is closed when etcd has stopped, by Close or by itself (when it was removed from its cluster).
func (e *Embedded) Done() <-chan struct{} { return e.etcd.Server.StopNotify() }

// Err brings the errors of listeners.
func (e *Embedded) Err() <-chan error { return e.etcd.Err() }

// startEtcd starts etcd. Where etcd would end the process because of what it finds in the folder, it returns an error.
func startEtcd(config *embed.Config) (server *embed.Etcd, err error) {
	defer func() {
		if r := recover(); r != nil {
			server, err = nil, fmt.Errorf("etcd gave up: %v", r)
		}
	}()
	return embed.StartEtcd(config)
}

// waitReady waits until the server serves.
func waitReady(ctx context.Context, server *embed.Etcd, alone bool) error {
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		if alone {
			if err := elect(ctx, server); err != nil {
				return err
			}
		}
		select {
		case <-server.Server.ReadyNotify():
			return nil
		case <-server.Server.StopNotify():
			return errors.New("etcd has stopped")
		case err := <-server.Err():
			return err
		case <-ctx.Done():
			return fmt.Errorf("wait for etcd: %w", context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

func embedConfig(cfg *Config) (*embed.Config, error) {
	peers, err := listenURLs("peer", cfg.PeerURLs, cfg.PeerTLS)
	if err != nil {
		return nil, err
	}
	clients, err := listenURLs("client", cfg.ClientURLs, cfg.ClientTLS)
	if err != nil {
		return nil, err
	}
	c := embed.NewConfig()
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapLogger(cfg.Logger))
	c.Name, c.Dir = cfg.Name, cfg.DataDir
	c.QuotaBackendBytes = cfg.Quota
	c.BackendBatchInterval = commitEvery
	c.UnsafeNoFsync = cfg.UnsafeNoFsync
	c.ListenPeerUrls, c.AdvertisePeerUrls = peers, peers
	c.ListenClientUrls, c.AdvertiseClientUrls = clients, clients
	c.PeerTLSInfo, c.ClientTLSInfo = cfg.PeerTLS.server(), cfg.ClientTLS.server()
	c.EnableGRPCGateway = false
	c.TickMs = uint(cfg.Tick.Milliseconds())
	c.ElectionMs = clusteredElection * c.TickMs
	if cfg.alone() {
		// A name that nobody resolves, in place of an address; changed when peers are to find it.
		self := url.URL{Scheme: "https", Host: cleanURL(cfg.Name) + ".invalid:2380"}
		c.AdvertisePeerUrls = []url.URL{self}
		c.InitialCluster = cfg.Name + "=" + self.String()
		c.ElectionMs = aloneElection * c.TickMs
		c.SnapshotCatchUpEntries, c.SnapshotCount, c.MaxWalFiles = aloneCatchUp, aloneSnapshot, aloneSegments
		c.DowngradeCheckTime = 0 // It looks every five seconds whether the others have been downgraded.
		return c, nil
	}
	c.InitialCluster = ""
	for name, u := range cfg.InitialCluster {
		if c.InitialCluster != "" {
			c.InitialCluster += ","
		}
		c.InitialCluster += name + "=" + u
	}
	if c.InitialCluster == "" {
		c.InitialCluster = c.InitialClusterFromName(cfg.Name)
	}
	if cfg.Join {
		c.ClusterState = embed.ClusterStateFlagExisting
	}
	return c, nil
}
