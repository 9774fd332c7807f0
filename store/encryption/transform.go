// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package encryption

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"

	"k8s.io/apimachinery/pkg/runtime/schema"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"

	"kogge.dev/kogge/codec"
)

// Prefixes of encrypted values; "k8s:enc:" begins them all. After those of local keys follow the key's name and a colon, after that of
// KMS the provider's.
const (
	prefixCBC       = codec.EncryptedPrefix + "aescbc:v1:"
	prefixGCM       = codec.EncryptedPrefix + "aesgcm:v1:"
	prefixSecretbox = codec.EncryptedPrefix + "secretbox:v1:"
	prefixKMS       = codec.EncryptedPrefix + "kms:v2:"
)

// transformer encrypts values, in the formats of upstream. It is safe for concurrent use.
type transformer interface {
	// open returns what a stored value of a key of the store means, and whether the value would be written in another way now.
	open(ctx context.Context, key string, stored []byte) (plain []byte, stale bool, err error)
	// seal returns how a value is stored.
	seal(ctx context.Context, key string, plain []byte) ([]byte, error)
}

// choice is a list of transformers, told apart by the prefix of what they write. The first one writes.
type choice struct {
	list []prefixed
	// unknown is what to say about a value that has none of the prefixes.
	unknown error
}

type prefixed struct {
	prefix []byte
	transformer
}

func (c *choice) open(ctx context.Context, key string, stored []byte) ([]byte, bool, error) {
	var errs []error
	for i, t := range c.list {
		rest, ok := bytes.CutPrefix(stored, t.prefix)
		if !ok {
			continue
		}
		plain, stale, err := t.open(ctx, key, rest)
		if err == nil {
			return plain, stale || i > 0, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, false, c.unknown
	}
	return nil, false, errors.Join(errs...)
}

func (c *choice) seal(ctx context.Context, key string, plain []byte) ([]byte, error) {
	first := &c.list[0]
	stored, err := first.seal(ctx, key, plain)
	if err != nil || len(first.prefix) == 0 {
		return stored, err
	}
	return append(bytes.Clone(first.prefix), stored...), nil
}

// identity leaves values as they are. It refuses to take an encrypted one for plain.
type identity struct{}

var errEncrypted = errors.New("the value is encrypted, and no provider of its resource in the encryption configuration has its key")

func (identity) open(_ context.Context, _ string, stored []byte) ([]byte, bool, error) {
	if codec.IsEncrypted(stored) {
		return nil, false, errEncrypted
	}
	return stored, false, nil
}

func (identity) seal(_ context.Context, _ string, plain []byte) ([]byte, error) { return plain, nil }

// table finds the transformer of a resource.
type table map[schema.GroupResource]*choice

// find returns nil for a resource that the configuration does not name.
func (t table) find(gr schema.GroupResource) *choice {
	for _, name := range []schema.GroupResource{gr, {Group: gr.Group, Resource: wildcard}, {Group: wildcard, Resource: wildcard}} {
		if c := t[name]; c != nil {
			return c
		}
	}
	return nil
}

var errNoProvider = errors.New("no provider of its resource in the encryption configuration wrote the value")

// newTable makes the transformers of a configuration that has been judged. plugin makes those of KMS.
func newTable(c *apiserverv1.EncryptionConfiguration, plugin func(*apiserverv1.KMSConfiguration) (transformer, error)) (table, error) {
	t := table{}
	for _, entry := range c.Resources {
		var list []prefixed
		for i := range entry.Providers {
			p, err := newProvider(&entry.Providers[i], plugin)
			if err != nil {
				return nil, err
			}
			list = append(list, p)
		}
		for _, name := range entry.Resources {
			gr := schema.ParseGroupResource(name)
			if t[gr] == nil {
				t[gr] = &choice{unknown: errNoProvider}
			}
			t[gr].list = append(t[gr].list, list...)
		}
	}
	return t, nil
}

func newProvider(p *apiserverv1.ProviderConfiguration, plugin func(*apiserverv1.KMSConfiguration) (transformer, error)) (prefixed, error) {
	switch {
	case p.AESGCM != nil:
		return withKeys(prefixGCM, p.AESGCM.Keys, newGCM)
	case p.AESCBC != nil:
		return withKeys(prefixCBC, p.AESCBC.Keys, newCBC)
	case p.Secretbox != nil:
		return withKeys(prefixSecretbox, p.Secretbox.Keys, newSecretbox)
	case p.KMS != nil:
		t, err := plugin(p.KMS)
		return prefixed{prefix: []byte(prefixKMS + p.KMS.Name + ":"), transformer: t}, err
	default:
		return prefixed{transformer: identity{}}, nil
	}
}

var errNoKey = errors.New("no key of the encryption configuration has the name that the value was encrypted under")

func withKeys(prefix string, keys []apiserverv1.Key, create func(secret []byte) (transformer, error)) (prefixed, error) {
	c := &choice{unknown: errNoKey}
	for _, key := range keys {
		secret, err := base64.StdEncoding.DecodeString(key.Secret)
		if err != nil {
			return prefixed{}, err
		}
		t, err := create(secret)
		if err != nil {
			return prefixed{}, err
		}
		c.list = append(c.list, prefixed{prefix: []byte(key.Name + ":"), transformer: t})
	}
	return prefixed{prefix: []byte(prefix), transformer: c}, nil
}
