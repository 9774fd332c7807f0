// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/apiserver/rest"
	"kogge.dev/kogge/codec"
	"kogge.dev/kogge/store/cache"
)

// streamFrom is the number of items from which on a list is sent while it is being encoded, so that neither a large one nor a usual page is in
// memory as a whole. Smaller ones are sent with their length.
const streamFrom = 500

// streams tells answers that can be sent piece by piece.
func (a *answer) streams() bool {
	return a.As == "" && (a.Format == codec.JSON && !a.pretty || a.Format == codec.Protobuf)
}

// stream sends a list while it is being encoded. When an item fails after the answer has begun, it is cut off, which a client can't take for
// a whole one.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, code int, a *answer, l *rest.List) {
	pieces := a.protobufList(l)
	if a.Format == codec.JSON {
		pieces = a.jsonList(l, a.target.AppendJSON)
	}
	var buffered *bufio.Writer
	end := func() {}
	size := 0
	for part, err := range pieces {
		switch {
		case err != nil && buffered == nil:
			s.fail(w, r, err)
			return
		case err != nil:
			s.log.Error("list cut off", "path", r.URL.Path, "err", err)
			panic(http.ErrAbortHandler)
		case buffered == nil:
			buffered, end = s.begin(w, r, code, a.Format)
		}
		size += len(part)
		if _, err := buffered.Write(part); err != nil {
			return
		}
	}
	_ = buffered.Flush() // A client that went away is no error of ours.
	end()
	s.metrics.size(infoOf(r.Context()), size)
}

// begin sends the head of an answer of unknown length, and returns where its body goes and what ends it once that is flushed.
func (s *Server) begin(w http.ResponseWriter, r *http.Request, code int, format codec.Format) (body *bufio.Writer, end func()) {
	h := s.head(w, r, format)
	var out io.Writer = w
	end = func() {}
	if takesGzip(r) {
		zipped(h)
		z := zipTo(w)
		out, end = z, func() { _ = z.Close() } // As above.
	}
	w.WriteHeader(code)
	return bufio.NewWriterSize(out, 32<<10), end
}

func (a *answer) encodeList(l *rest.List) ([][]byte, error) {
	switch {
	case a.As != "":
		return a.encodeProjectedList(l)
	case a.Format == codec.Protobuf:
		return a.encodeProtobufList(l)
	}
	parts, err := a.encodeJSONList(l)
	if err != nil || a.Format != codec.YAML {
		return parts, err
	}
	data, err := yaml.JSONToYAML(bytes.Join(parts, nil))
	return [][]byte{data}, err
}

// encodeJSONList gathers jsonList; the items are their shared encodings.
func (a *answer) encodeJSONList(l *rest.List) ([][]byte, error) {
	parts := make([][]byte, 0, 2*len(l.Entries)+2)
	for part, err := range a.jsonList(l, func(_ []byte, entry *cache.Entry) ([]byte, error) { return a.target.Encoded(entry, codec.JSON) }) {
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// customListMeta is the metadata of a list of custom resources, in the order of names; that nothing follows it says, too.
func customListMeta(l *rest.List) ([]byte, error) {
	meta := l.Meta()
	return json.Marshal(struct {
		Continue           string `json:"continue"`
		RemainingItemCount *int64 `json:"remainingItemCount,omitempty"`
		ResourceVersion    string `json:"resourceVersion"`
	}{meta.Continue, meta.RemainingItemCount, meta.ResourceVersion})
}

// jsonList yields a list piece by piece. encode makes an item; it may use the bytes that it made last again. An error is the last that is
// yielded.
func (a *answer) jsonList(l *rest.List, encode func(to []byte, entry *cache.Entry) ([]byte, error)) iter.Seq2[[]byte, error] { //nolint:gocognit // Each piece may be the last that is wanted; the order of pieces is plain.
	return func(yield func([]byte, error) bool) {
		gvk := a.target.ListKind()
		meta, err := json.Marshal(l.Meta())
		if err != nil {
			yield(nil, err)
			return
		}
		head := fmt.Sprintf(`{"kind":%q,"apiVersion":%q,"metadata":%s,"items":[`, gvk.Kind, gvk.GroupVersion().String(), meta)
		tail := "]}\n"
		if a.target.Custom != nil {
			if meta, err = customListMeta(l); err != nil {
				yield(nil, err)
				return
			}
			head = fmt.Sprintf(`{"apiVersion":%q,"items":[`, gvk.GroupVersion().String())
			tail = fmt.Sprintf(`],"kind":%q,"metadata":%s}`+"\n", gvk.Kind, meta)
		}
		if !yield([]byte(head), nil) {
			return
		}
		// Items of built-in lists do not repeat their type.
		typed := fmt.Appendf(nil, `{"kind":%q,"apiVersion":%q,`, a.target.Served.Kind, a.target.Served.GroupVersion().String())
		var last []byte
		for i, entry := range l.Entries {
			if last, err = encode(last[:0], entry); err != nil {
				yield(nil, err)
				return
			}
			data := bytes.TrimSuffix(last, []byte("\n"))
			if i > 0 && !yield(comma, nil) {
				return
			}
			if untyped, ok := bytes.CutPrefix(data, typed); ok && a.target.Custom == nil {
				if !yield(brace, nil) {
					return
				}
				data = untyped
			}
			if !yield(data, nil) {
				return
			}
		}
		yield([]byte(tail), nil)
	}
}

var comma, brace = []byte(","), []byte("{")

// encodeProtobufList gathers protobufList.
func (a *answer) encodeProtobufList(l *rest.List) ([][]byte, error) {
	var out []byte
	for part, err := range a.protobufList(l) {
		if err != nil {
			return nil, err
		}
		out = append(out, part...)
	}
	return [][]byte{out}, nil
}

// protobufList yields a list piece by piece, each valid until the next, in the form of all list messages: metadata is field 1, items are field 2.
// The envelope says how long it is before it begins: so the items are looked at twice. An error is the last that is yielded.
func (a *answer) protobufList(l *rest.List) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		meta := l.Meta()
		head, err := meta.Marshal()
		if err != nil {
			yield(nil, err)
			return
		}
		var last []byte
		head = codec.AppendBytes(nil, 1, head)
		size := len(head)
		for _, entry := range l.Entries {
			m, err := a.target.Message(entry)
			if err != nil {
				yield(nil, err)
				return
			}
			last = codec.AppendLength(last[:0], 2, m.Size())
			size += len(last) + m.Size()
		}
		if !yield(append(codec.AppendEnvelope(nil, a.target.ListKind(), size), head...), nil) {
			return
		}
		for _, entry := range l.Entries {
			m, err := a.target.Message(entry)
			if err != nil {
				yield(nil, err)
				return
			}
			last = m.AppendTo(codec.AppendLength(last[:0], 2, m.Size()))
			if !yield(last, nil) {
				return
			}
		}
		yield(codec.EnvelopeEnd, nil)
	}
}

func (a *answer) encodeProjectedList(l *rest.List) ([][]byte, error) {
	objects := make([]runtime.Object, 0, len(l.Entries))
	for _, entry := range l.Entries {
		obj, err := a.target.Object(entry)
		if err != nil {
			return nil, err
		}
		objects = append(objects, obj)
	}
	out, err := a.listOf(objects, l.Meta())
	if err != nil {
		return nil, err
	}
	data, err := codec.Marshal(out, a.Format)
	return [][]byte{data}, err
}

// listOf is the projection of a list.
func (a *answer) listOf(objects []runtime.Object, list metav1.ListMeta) (runtime.Object, error) {
	switch a.As {
	case codec.AsTable:
		return codec.Table(a.target.Table(), a.table, objects, list), nil
	case codec.AsPartialList:
		out := &metav1.PartialObjectMetadataList{ListMeta: list} // Without items it has null, as upstream's.
		for _, obj := range objects {
			out.Items = append(out.Items, *codec.Partial(obj.(metav1.Object), a.GroupVersion, a.target.Kind.FormAnnotations))
		}
		out.SetGroupVersionKind(a.GroupVersion.WithKind(codec.AsPartialList))
		return out, nil
	default:
		return nil, a.notProjectable(true)
	}
}
