// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package encryption

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// How an envelope's secret is used (EncryptedDEKSourceType).
const (
	sourceKey  = 0 // as the key of gcm
	sourceSeed = 1 // as the seed of derived
)

// Bounds of an envelope, in bytes.
const (
	maxKeyID       = 1 << 10
	maxSource      = 1 << 10
	maxAnnotations = 32 << 10
)

// envelope is a value that was encrypted under a secret which a KMS provider wrapped: upstream's message EncryptedObject (KMS v2).
type envelope struct {
	// data is the value; empty in what describes a secret only.
	data []byte
	wrapped
}

// wrapped is a secret as only the KMS can read it.
type wrapped struct {
	keyID       string
	source      []byte
	annotations map[string][]byte
	sourceType  uint64
}

// Field numbers of the message.
const (
	fieldData = iota + 1
	fieldKeyID
	fieldSource
	fieldAnnotations
	fieldSourceType
)

func (e *envelope) encode() []byte {
	out := make([]byte, 0, len(e.data)+len(e.source)+len(e.keyID)+32)
	out = appendBytes(out, fieldData, e.data)
	out = appendBytes(out, fieldKeyID, []byte(e.keyID))
	out = appendBytes(out, fieldSource, e.source)
	for k, v := range e.annotations {
		out = appendBytes(out, fieldAnnotations, appendBytes(appendBytes(nil, 1, []byte(k)), 2, v))
	}
	if e.sourceType != 0 {
		out = protowire.AppendVarint(protowire.AppendTag(out, fieldSourceType, protowire.VarintType), e.sourceType)
	}
	return out
}

func appendBytes(to []byte, number protowire.Number, data []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(to, number, protowire.BytesType), data)
}

var errEnvelope = errors.New("the stored data is not an envelope of KMS v2")

// each calls fn for the fields of a message; bytes or number is set, by the type of the field.
func each(message []byte, fn func(number protowire.Number, data []byte, n uint64) error) error {
	for len(message) > 0 {
		number, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return errEnvelope
		}
		message = message[size:]
		var data []byte
		var n uint64
		switch kind {
		case protowire.BytesType:
			data, size = protowire.ConsumeBytes(message)
		case protowire.VarintType:
			n, size = protowire.ConsumeVarint(message)
		default:
			size = protowire.ConsumeFieldValue(number, kind, message)
		}
		if size < 0 {
			return errEnvelope
		}
		if kind == protowire.BytesType || kind == protowire.VarintType {
			if err := fn(number, data, n); err != nil {
				return err
			}
		}
		message = message[size:]
	}
	return nil
}

func decodeEnvelope(stored []byte) (*envelope, error) {
	e := &envelope{}
	err := each(stored, func(number protowire.Number, data []byte, n uint64) error {
		switch number {
		default: // of a later version
		case fieldData:
			e.data = data
		case fieldKeyID:
			e.keyID = string(data)
		case fieldSource:
			e.source = data
		case fieldSourceType:
			e.sourceType = n
		case fieldAnnotations:
			var k string
			v := []byte{}
			if err := each(data, func(number protowire.Number, data []byte, _ uint64) error {
				switch number {
				default:
				case 1:
					k = string(data)
				case 2:
					v = data
				}
				return nil
			}); err != nil {
				return err
			}
			if e.annotations == nil {
				e.annotations = map[string][]byte{}
			}
			e.annotations[k] = v
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(e.data) == 0 {
		return nil, errors.New("encrypted data is empty")
	}
	return e, e.validate()
}

// validate holds what providers may answer and what may be stored.
func (w *wrapped) validate() error {
	switch {
	case w.sourceType != sourceKey && w.sourceType != sourceSeed:
		return fmt.Errorf("unknown encryptedDEKSourceType: %d", w.sourceType)
	case len(w.source) == 0:
		return errors.New("encrypted DEK source is empty")
	case len(w.source) > maxSource:
		return fmt.Errorf("encrypted DEK source is %d bytes, which exceeds the max size of %d", len(w.source), maxSource)
	}
	if err := validateKeyID(w.keyID); err != nil {
		return err
	}
	total := 0
	for k, v := range w.annotations {
		if errs := validation.IsFullyQualifiedDomainName(field.NewPath("annotations"), k); len(errs) > 0 {
			return errs.ToAggregate()
		}
		total += len(k) + len(v)
	}
	if total > maxAnnotations {
		return fmt.Errorf("total size of annotations is %d, which exceeds the max size of %d", total, maxAnnotations)
	}
	return nil
}

func validateKeyID(id string) error {
	switch {
	case id == "":
		return errors.New("keyID is empty")
	case len(id) > maxKeyID:
		return fmt.Errorf("keyID is %d bytes, which exceeds the max size of %d", len(id), maxKeyID)
	}
	return nil
}
