// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package encryption

import (
	"bytes"
	"context"
	"testing"
)

// BenchmarkSecret encrypts and decrypts a secret of 1 KiB.
func BenchmarkSecret(b *testing.B) {
	secret := bytes.Repeat([]byte{7}, 32)
	plain := bytes.Repeat([]byte("x"), 1024)
	made := func(create func([]byte) (transformer, error)) transformer {
		t, err := create(secret)
		must(b, err)
		return t
	}
	for name, t := range map[string]transformer{
		"aescbc": made(newCBC), "aesgcm": made(newGCM), "secretbox": made(newSecretbox), "kms": derived{secret},
	} {
		stored, err := t.seal(context.Background(), "/registry/secrets/a", plain)
		must(b, err)
		b.Run(name+"/seal", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := t.seal(b.Context(), "/registry/secrets/a", plain); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/open", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := t.open(b.Context(), "/registry/secrets/a", stored); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
