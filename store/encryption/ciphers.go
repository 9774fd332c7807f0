// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package encryption

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/nacl/secretbox"
)

var (
	errShort    = errors.New("the stored data was shorter than the required size")
	errPadding  = errors.New("invalid padding on input")
	errBlocks   = errors.New("the stored data is not a multiple of the block size")
	errTampered = errors.New("the key does not fit, or the stored data was changed")
)

// gcm is AES-GCM with a random nonce: nonce, ciphertext, tag. The key of the store is authenticated with it, so that a value moved to another
// key does not open.
type gcm struct{ aead cipher.AEAD }

func newGCM(secret []byte) (transformer, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return gcm{aead}, nil
}

func (g gcm) open(_ context.Context, key string, stored []byte) ([]byte, bool, error) {
	n := g.aead.NonceSize()
	if len(stored) < n {
		return nil, false, errShort
	}
	plain, err := g.aead.Open(nil, stored[:n], stored[n:], []byte(key))
	if err != nil {
		return nil, false, errTampered
	}
	return plain, false, nil
}

func (g gcm) seal(_ context.Context, key string, plain []byte) ([]byte, error) {
	nonce := random(g.aead.NonceSize(), g.aead.NonceSize()+len(plain)+g.aead.Overhead())
	return g.aead.Seal(nonce, nonce, plain, []byte(key)), nil
}

// random returns n random bytes with room for more.
func random(n, room int) []byte {
	out := make([]byte, n, room)
	_, _ = rand.Read(out) // crypto/rand.Read never fails (it ends the process instead).
	return out
}

// cbc is AES-CBC with padding as in PKCS#7: initialization vector, blocks. It authenticates nothing.
type cbc struct{ block cipher.Block }

func newCBC(secret []byte) (transformer, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	return cbc{block}, nil
}

func (c cbc) open(_ context.Context, _ string, stored []byte) ([]byte, bool, error) {
	switch {
	case len(stored) < aes.BlockSize:
		return nil, false, errShort
	case len(stored)%aes.BlockSize != 0:
		return nil, false, errBlocks
	case len(stored) == aes.BlockSize:
		return nil, false, errPadding
	}
	plain := make([]byte, len(stored)-aes.BlockSize)
	cipher.NewCBCDecrypter(c.block, stored[:aes.BlockSize]).CryptBlocks(plain, stored[aes.BlockSize:])
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > aes.BlockSize || !bytes.Equal(plain[len(plain)-pad:], bytes.Repeat(plain[len(plain)-1:], pad)) {
		return nil, false, errPadding
	}
	return plain[:len(plain)-pad], false, nil
}

func (c cbc) seal(_ context.Context, _ string, plain []byte) ([]byte, error) {
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	out := random(aes.BlockSize, aes.BlockSize+len(plain)+pad)
	out = append(append(out, plain...), bytes.Repeat([]byte{byte(pad)}, pad)...)
	blocks := out[aes.BlockSize:]
	cipher.NewCBCEncrypter(c.block, out[:aes.BlockSize]).CryptBlocks(blocks, blocks)
	return out, nil
}

// box is NaCl's secretbox: nonce, box.
type box struct{ secret [32]byte }

const boxNonce = 24

func newSecretbox(secret []byte) (transformer, error) {
	b := &box{}
	if copy(b.secret[:], secret) != len(b.secret) {
		return nil, fmt.Errorf("a secretbox needs a key of %d bytes", len(b.secret))
	}
	return b, nil
}

func (b *box) open(_ context.Context, _ string, stored []byte) ([]byte, bool, error) {
	if len(stored) < boxNonce+secretbox.Overhead {
		return nil, false, errShort
	}
	plain, ok := secretbox.Open(nil, stored[boxNonce:], (*[boxNonce]byte)(stored), &b.secret)
	if !ok {
		return nil, false, errTampered
	}
	return plain, false, nil
}

func (b *box) seal(_ context.Context, _ string, plain []byte) ([]byte, error) {
	nonce := random(boxNonce, boxNonce+secretbox.Overhead+len(plain))
	return secretbox.Seal(nonce, plain, (*[boxNonce]byte)(nonce), &b.secret), nil
}

// derived is AES-GCM under a key of its own for each value, derived from a seed by HKDF-SHA256: 32 bytes that the key is derived with, then
// as gcm. KMS providers wrap the seed, which is of 32 bytes or more.
type derived struct{ seed []byte }

const derivedSize = 32

func newDerived(seed []byte) (transformer, error) {
	if len(seed) < derivedSize {
		return nil, fmt.Errorf("a seed of %d bytes is shorter than %d", len(seed), derivedSize)
	}
	return derived{seed}, nil
}

func (d derived) cipher(info []byte) (transformer, error) {
	secret, err := hkdf.Expand(sha256.New, d.seed, string(info), derivedSize)
	if err != nil {
		return nil, err
	}
	return newGCM(secret)
}

func (d derived) open(ctx context.Context, key string, stored []byte) ([]byte, bool, error) {
	if len(stored) < derivedSize {
		return nil, false, errShort
	}
	t, err := d.cipher(stored[:derivedSize])
	if err != nil {
		return nil, false, err
	}
	return t.open(ctx, key, stored[derivedSize:])
}

func (d derived) seal(ctx context.Context, key string, plain []byte) ([]byte, error) {
	info := random(derivedSize, derivedSize)
	t, err := d.cipher(info)
	if err != nil {
		return nil, err
	}
	stored, err := t.seal(ctx, key, plain)
	return append(info, stored...), err
}
