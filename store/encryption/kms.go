// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package encryption

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	kmsapi "k8s.io/kms/apis/v2"
)

// Times of a plugin, those of upstream. The protocol has no way for a plugin to call: it is asked for its key and its health.
const (
	askEvery      = time.Minute
	askEverySick  = 10 * time.Second
	healthFresh   = 3 * time.Second
	writesWithout = 3 * time.Minute
	secretKept    = 24 * time.Hour
)

// maxSecrets bounds how many unwrapped secrets are remembered.
const maxSecrets = 4096

// errUnreached marks failures of a plugin, which may pass.
var errUnreached = errors.New("KMS plugin")

// plugin is a KMS provider (k8s.io/kms v2) at a unix socket. It wraps secrets, under which values are encrypted here: one at a time for
// writing, which is kept as long as the provider keeps its key.
//
// A plugin that left a call unanswered is not called again, so that nobody waits for it in vain, until run has found it well: who needs it
// meanwhile fails at once, with what that call failed with.
type plugin struct {
	name    string
	timeout time.Duration
	// dial connects to the socket.
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	conn   *grpc.ClientConn
	client kmsapi.KeyManagementServiceClient
	log    *slog.Logger
	// healed is called when the plugin answers after it had not.
	healed func()

	// wake holds a token when a call of somebody else than run was the first to go unanswered; a second one adds nothing.
	wake chan struct{}

	// unwrapping shares calls for one secret, by id.
	unwrapping singleflight.Group

	// asking holds a token while the plugin is asked for its health, so that one asks for all.
	asking chan struct{}

	mu sync.Mutex
	// current encrypts; its transformer is nil until the plugin answered once.
	current current
	// asked is when the plugin was last asked, and failure what came of it; or asked is zero, and failure that of a call since.
	asked   time.Time
	failure error
	// well is when the plugin last answered after it had not. How calls end that began before says nothing of it any more.
	well time.Time
	// secrets are those that the plugin unwrapped, by what they are wrapped in.
	secrets map[[32]byte]secret
}

type current struct {
	transformer
	wrapped
	// until is when writing ends if the plugin does not answer before.
	until time.Time
}

type secret struct {
	transformer
	until time.Time
}

func newPlugin(config *apiserverv1.KMSConfiguration, log *slog.Logger, healed func()) (*plugin, error) {
	at, err := url.Parse(config.Endpoint)
	if err != nil {
		return nil, err
	}
	// "unix:///@name" is an abstract socket.
	address := at.Path
	if strings.HasPrefix(address, "/@") {
		address = address[1:]
	}
	p := &plugin{
		name: config.Name, timeout: config.Timeout.Duration, dial: (&net.Dialer{}).DialContext, log: log.With("kms", config.Name), healed: healed,
		wake: make(chan struct{}, 1), asking: make(chan struct{}, 1), secrets: map[[32]byte]secret{},
		failure: fmt.Errorf("%w %s: has not been asked yet", errUnreached, config.Name),
	}
	p.conn, err = grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return p.dial(ctx, "unix", address)
		}),
		// A plugin that comes back is connected when it is asked next, however long it was away.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: time.Second, Multiplier: 1.6, Jitter: 0.2, MaxDelay: healthFresh}, MinConnectTimeout: config.Timeout.Duration,
		}))
	if err != nil {
		return nil, fmt.Errorf("KMS plugin %s: %w", config.Name, err)
	}
	p.client = kmsapi.NewKeyManagementServiceClient(p.conn)
	return p, nil
}

// run asks the plugin for its key from time to time, and when a call went unanswered, until ctx ends.
func (p *plugin) run(ctx context.Context) {
	defer p.conn.Close() //nolint:errcheck // nothing is lost with the connection
	var woken time.Time
	for {
		wait := askEvery
		if p.probe(ctx) != nil {
			wait = askEverySick
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		case <-p.wake:
			// Seldom: a plugin that says it is well, and never unwraps, would have everybody read again without a pause.
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Until(woken.Add(askEverySick))):
			}
			woken = time.Now()
		}
	}
}

// check tells whether the plugin works, and asks it unless it was asked a moment ago or is silent.
func (p *plugin) check(ctx context.Context) error {
	if _, failure := p.state(); unanswered(failure) {
		return failure
	}
	err := p.probe(ctx)
	if unanswered(err) {
		p.knock()
	}
	return err
}

// knock has run look after the plugin soon.
func (p *plugin) knock() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// probe asks the plugin whether it works, unless it was asked a moment ago, and begins to use a new key of it.
func (p *plugin) probe(ctx context.Context) error {
	select {
	case p.asking <- struct{}{}:
		defer func() { <-p.asking }()
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	before, asked := p.failure, p.asked
	p.mu.Unlock()
	if time.Since(asked) < healthFresh {
		return before
	}
	err := p.ask(ctx)
	if gone := over(ctx); gone != nil {
		return gone // Who asked went away: that says nothing about the plugin.
	}
	p.mu.Lock()
	before, asked = p.failure, p.asked // A call may have gone unanswered meanwhile.
	p.asked, p.failure = time.Now(), err
	if err == nil && before != nil {
		p.well = p.asked
	}
	p.mu.Unlock()
	switch {
	case err != nil && (before == nil || asked.IsZero()):
		p.log.Error("KMS plugin does not work; values whose keys are known are still read, and written for three minutes", "err", err)
	case err == nil && before != nil:
		p.log.Info("KMS plugin works")
		p.healed()
	}
	return err
}

// over is ctx.Err, but for a deadline that a plugin, which is told of it, saw pass before ctx did.
func over(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// ask reads the plugin's state. A key that is not the current one's wraps a new secret.
func (p *plugin) ask(ctx context.Context) error {
	until := time.Now().Add(writesWithout)
	state, err := call(ctx, p, func(ctx context.Context) (*kmsapi.StatusResponse, error) {
		return p.client.Status(ctx, &kmsapi.StatusRequest{})
	})
	switch {
	case err != nil:
		return err
	case state.GetVersion() != "v2" && state.GetVersion() != "v2beta1":
		return fmt.Errorf("%w %s: version %q is not v2", errUnreached, p.name, state.GetVersion())
	case state.GetHealthz() != "ok":
		return fmt.Errorf("%w %s: says of its health: %s", errUnreached, p.name, state.GetHealthz())
	}
	if err := validateKeyID(state.GetKeyId()); err != nil {
		return fmt.Errorf("%w %s: %w", errUnreached, p.name, err)
	}
	p.mu.Lock()
	same := p.current.transformer != nil && p.current.keyID == state.GetKeyId()
	if same {
		p.current.until = until
	}
	p.mu.Unlock()
	if same {
		return nil
	}
	seed := random(derivedSize, derivedSize)
	answer, err := call(ctx, p, func(ctx context.Context) (*kmsapi.EncryptResponse, error) {
		return p.client.Encrypt(ctx, &kmsapi.EncryptRequest{Plaintext: seed, Uid: uuid.NewString()})
	})
	if err != nil {
		return err
	}
	t, err := newDerived(seed)
	if err != nil {
		return err
	}
	next := current{
		transformer: t, until: until,
		wrapped: wrapped{keyID: answer.GetKeyId(), source: answer.GetCiphertext(), annotations: answer.GetAnnotations(), sourceType: sourceSeed},
	}
	if err := next.validate(); err != nil {
		return fmt.Errorf("%w %s: %w", errUnreached, p.name, err)
	}
	if next.keyID != state.GetKeyId() {
		return fmt.Errorf("%w %s: encrypts under another key than its status names", errUnreached, p.name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.current = next
	p.rememberLocked(next.id(), next.transformer)
	p.log.Info("KMS plugin has a new key; values that are written from now on use it")
	return nil
}

// call bounds one call of the plugin and names it in the error.
func call[T any](ctx context.Context, p *plugin, fn func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	out, err := fn(ctx)
	if err != nil {
		return out, fmt.Errorf("%w %s: %w", errUnreached, p.name, err)
	}
	return out, nil
}

// unanswered tells whether a call failed for want of an answer, not for what the plugin said.
func unanswered(err error) bool {
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.DeadlineExceeded
}

// doubt keeps in mind that a call, which began at a time, went unanswered: so that the plugin is asked, and who could not read is told when
// it answers again.
func (p *plugin) doubt(began time.Time, err error) {
	p.mu.Lock()
	first := !unanswered(p.failure) && !began.Before(p.well)
	if first {
		p.asked, p.failure = time.Time{}, err
	}
	p.mu.Unlock()
	if first {
		p.knock()
	}
}

// id identifies a wrapped secret.
func (w *wrapped) id() [32]byte {
	text := protowire.AppendVarint(nil, w.sourceType)
	text = protowire.AppendBytes(text, w.source)
	text = protowire.AppendString(text, w.keyID)
	for _, k := range slices.Sorted(maps.Keys(w.annotations)) {
		text = protowire.AppendBytes(protowire.AppendString(text, k), w.annotations[k])
	}
	return sha256.Sum256(text)
}

func (p *plugin) rememberLocked(id [32]byte, t transformer) {
	now := time.Now()
	if len(p.secrets) >= maxSecrets {
		maps.DeleteFunc(p.secrets, func(_ [32]byte, s secret) bool { return now.After(s.until) })
	}
	if len(p.secrets) >= maxSecrets {
		clear(p.secrets)
	}
	p.secrets[id] = secret{transformer: t, until: now.Add(secretKept)}
}

// open implements transformer.
func (p *plugin) open(ctx context.Context, key string, stored []byte) ([]byte, bool, error) {
	e, err := decodeEnvelope(stored)
	if err != nil {
		return nil, false, err
	}
	t, err := p.unwrap(ctx, &e.wrapped)
	if err != nil {
		return nil, false, err
	}
	p.mu.Lock()
	stale := p.current.transformer != nil && (e.keyID != p.current.keyID || e.sourceType != p.current.sourceType)
	p.mu.Unlock()
	plain, _, err := t.open(ctx, key, e.data)
	return plain, stale, err
}

// unwrap returns what a secret encrypts with, from the plugin if it is not known.
func (p *plugin) unwrap(ctx context.Context, w *wrapped) (transformer, error) {
	id := w.id()
	p.mu.Lock()
	known, ok := p.secrets[id]
	failure := p.failure
	p.mu.Unlock()
	switch {
	case ok && time.Now().Before(known.until):
		return known.transformer, nil
	case unanswered(failure):
		return nil, failure
	}
	// The call outlives who began it, for those that share it; its own timeout ends it.
	shared := p.unwrapping.DoChan(string(id[:]), func() (any, error) { return p.fetch(context.WithoutCancel(ctx), id, w) })
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("%w %s: %w", errUnreached, p.name, ctx.Err())
	case r := <-shared:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(transformer), nil
	}
}

// fetch has the plugin unwrap a secret, and remembers it.
func (p *plugin) fetch(ctx context.Context, id [32]byte, w *wrapped) (transformer, error) {
	began := time.Now()
	answer, err := call(ctx, p, func(ctx context.Context) (*kmsapi.DecryptResponse, error) {
		return p.client.Decrypt(ctx, &kmsapi.DecryptRequest{Ciphertext: w.source, Uid: uuid.NewString(), KeyId: w.keyID, Annotations: w.annotations})
	})
	if err != nil {
		if unanswered(err) {
			p.doubt(began, err)
		}
		return nil, err
	}
	create := newDerived
	if w.sourceType == sourceKey {
		create = newGCM
	}
	t, err := create(answer.GetPlaintext())
	if err != nil {
		return nil, fmt.Errorf("unwrapped by KMS plugin %s: %w", p.name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rememberLocked(id, t)
	return t, nil
}

// seal implements transformer. The first to write may come before the plugin has told its key: then it is asked, once for all who wait.
func (p *plugin) seal(ctx context.Context, key string, plain []byte) ([]byte, error) {
	now, failure := p.state()
	if now.transformer == nil {
		if err := p.check(ctx); err != nil {
			return nil, fmt.Errorf("no key to encrypt with: %w", err)
		}
		now, failure = p.state()
	}
	if time.Now().After(now.until) {
		return nil, fmt.Errorf("no key to encrypt with: %w", failure)
	}
	data, err := now.seal(ctx, key, plain)
	if err != nil {
		return nil, err
	}
	e := envelope{data: data, wrapped: now.wrapped}
	return e.encode(), nil
}

// state returns what encrypts now, and why the plugin does not work, if so.
func (p *plugin) state() (current, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current, p.failure
}
