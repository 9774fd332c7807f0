// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package codec turns API objects into bytes and back: JSON, YAML and protobuf in Kubernetes' envelope, strict decoding, the negotiation
// of what a client accepts, and the projections of an object that clients may ask for instead of it (table rows, metadata only).
package codec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Format is a wire format.
type Format string

// The formats, named by their media types.
const (
	JSON     Format = "application/json"
	YAML     Format = "application/yaml"
	Protobuf Format = "application/vnd.kubernetes.protobuf"
)

// Formats lists the formats in the order in which messages name them.
var Formats = []Format{JSON, YAML, Protobuf}

// message is what all protobuf API types implement.
type message interface {
	Size() int
	Marshal() ([]byte, error)
	MarshalToSizedBuffer(data []byte) (int, error)
}

type unmarshaler interface {
	Reset()
	Unmarshal([]byte) error
}

// ErrNoProtobuf is returned for objects that have no protobuf form (custom resources, tables of them).
var ErrNoProtobuf = errors.New("object does not implement the protobuf marshalling interface and cannot be encoded to a protobuf message")

// Encode writes obj in a format. Its TypeMeta must say what it is. JSON ends with a newline.
func Encode(w io.Writer, obj runtime.Object, format Format) error {
	data, err := Marshal(obj, format)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

// Marshal returns obj in a format; see Encode.
func Marshal(obj runtime.Object, format Format) ([]byte, error) {
	switch format {
	case Protobuf:
		m, ok := obj.(message)
		if !ok {
			return nil, fmt.Errorf("%T: %w", obj, ErrNoProtobuf)
		}
		return Envelope(obj.GetObjectKind().GroupVersionKind(), m)
	case YAML:
		return yaml.Marshal(obj)
	default:
		return marshalJSON(obj)
	}
}

// EncryptedPrefix begins stored values that are encrypted.
const EncryptedPrefix = "k8s:enc:"

// IsEncrypted tells encrypted values from those that can be decoded.
func IsEncrypted(data []byte) bool { return bytes.HasPrefix(data, []byte(EncryptedPrefix)) }

var errEncrypted = errors.New("the stored value is encrypted with a key that the encryption configuration does not give (api.encryption.configFile)")

// DecodeStored fills into from stored bytes: the envelope, or JSON. The type found is set on into.
func DecodeStored(data []byte, into runtime.Object) error {
	if IsEncrypted(data) {
		return errEncrypted
	}
	format := JSON
	if IsProtobuf(data) {
		format = Protobuf
	}
	gvk, _, err := Decode(data, format, into, Lenient, schema.GroupVersionKind{})
	if err != nil {
		return err
	}
	into.GetObjectKind().SetGroupVersionKind(gvk)
	return nil
}

// Strictness says what to do with unknown and duplicate fields.
type Strictness int

// The strictnesses.
const (
	// Lenient ignores them.
	Lenient Strictness = iota
	// Strict reports them.
	Strict
)

// Decode fills into from data. fallback completes a type that the data leaves out. It returns the type, and under Strict what is
// unknown or duplicate in otherwise sound data; into is filled then, too.
func Decode(data []byte, format Format, into runtime.Object, strictness Strictness, fallback schema.GroupVersionKind) (schema.GroupVersionKind, []error, error) {
	switch format {
	case Protobuf:
		gvk, err := decodeProtobuf(data, into, fallback)
		return gvk, nil, err
	case YAML:
		converted, err := yaml.YAMLToJSON(data)
		if err != nil {
			return schema.GroupVersionKind{}, nil, err
		}
		var strict []error
		if strictness == Strict {
			if _, err := yaml.YAMLToJSONStrict(data); err != nil {
				strict = append(strict, err)
			}
		}
		gvk, more, err := decodeJSON(converted, into, strictness, fallback)
		return gvk, append(strict, more...), err
	default:
		return decodeJSON(data, into, strictness, fallback)
	}
}

func decodeProtobuf(data []byte, into runtime.Object, fallback schema.GroupVersionKind) (schema.GroupVersionKind, error) {
	var none schema.GroupVersionKind
	switch {
	case len(data) == 0:
		return none, errors.New("empty data")
	case !IsProtobuf(data):
		return none, fmt.Errorf("provided data does not appear to be a protobuf message, expected prefix %v", magic)
	case len(data) == len(magic):
		return none, errors.New("empty body")
	}
	unknown, err := opened(data)
	if err != nil {
		return none, err
	}
	gvk := unknown.GroupVersionKind()
	if gvk.Kind == "" {
		gvk.Kind = fallback.Kind
	}
	if gvk.Version == "" {
		gvk.Group, gvk.Version = fallback.Group, fallback.Version
	}
	m, ok := into.(unmarshaler)
	if !ok {
		return gvk, fmt.Errorf("%T: %w", into, ErrNoProtobuf)
	}
	m.Reset()
	return gvk, m.Unmarshal(unknown.Raw)
}

// TypeOf reads apiVersion and kind of JSON or protobuf data.
func TypeOf(data []byte) (schema.GroupVersionKind, error) {
	if IsProtobuf(data) {
		unknown, err := opened(data)
		return unknown.GroupVersionKind(), err
	}
	var meta struct {
		APIVersion string `json:"apiVersion,omitempty"`
		Kind       string `json:"kind,omitempty"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &meta); err != nil {
		return schema.GroupVersionKind{}, fmt.Errorf("couldn't get version/kind; json parse error: %w", err)
	}
	gv, err := schema.ParseGroupVersion(meta.APIVersion)
	if err != nil {
		return schema.GroupVersionKind{}, err
	}
	return gv.WithKind(meta.Kind), nil
}

// YAMLErrors takes an error about several lines of a document apart, for warnings of each.
func YAMLErrors(err error) []error {
	list, several := strings.CutPrefix(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: "), "yaml: unmarshal errors:\n")
	if !several {
		return []error{err}
	}
	var out []error
	for line := range strings.SplitSeq(list, "\n") {
		out = append(out, errors.New(strings.TrimSpace(line)))
	}
	return out
}

func decodeJSON(data []byte, into runtime.Object, strictness Strictness, fallback schema.GroupVersionKind) (schema.GroupVersionKind, []error, error) {
	target := any(into)
	tree, isTree := into.(runtime.Unstructured)
	var content map[string]any
	if isTree {
		target = &content
	} else {
		into.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	}
	var strict []error
	var err error
	if strictness == Strict {
		strict, err = kjson.UnmarshalStrict(data, target)
	} else {
		err = kjson.UnmarshalCaseSensitivePreserveInts(data, target)
	}
	if isTree && err == nil {
		tree.SetUnstructuredContent(content)
	}
	gvk := into.GetObjectKind().GroupVersionKind()
	if err != nil || gvk.Version == "" || gvk.Kind == "" { // The object does not tell, or not all: what the data says of its type comes first.
		said, typeErr := TypeOf(data)
		if typeErr != nil {
			return said, nil, typeErr
		}
		gvk = complete(said, fallback)
	}
	switch {
	case err != nil:
		return gvk, nil, err
	case isTree && gvk.Kind == "":
		return gvk, nil, runtime.NewMissingKindErr(string(data))
	}
	return gvk, strict, nil
}

// complete fills what gvk leaves open, as upstream's decoders do.
func complete(gvk, fallback schema.GroupVersionKind) schema.GroupVersionKind {
	if gvk.Kind == "" {
		gvk.Kind = fallback.Kind
	}
	if gvk.Version == "" && (gvk.Group == "" || gvk.Group == fallback.Group) {
		gvk.Group, gvk.Version = fallback.Group, fallback.Version
	}
	return gvk
}

// Status encodes an error status; it has a form in every format.
func Status(status *metav1.Status, format Format) []byte {
	status.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "Status"})
	data, err := Marshal(status, format)
	if err != nil {
		return []byte(err.Error())
	}
	return data
}

// Raw marshals a protobuf message without the envelope.
func Raw(obj runtime.Object) ([]byte, error) {
	m, ok := obj.(message)
	if !ok {
		return nil, fmt.Errorf("%T: %w", obj, ErrNoProtobuf)
	}
	return m.Marshal()
}
