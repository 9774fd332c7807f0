// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bufio"
	"bytes"
	"compress/gzip"
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
)

// streamFrom is the number of items above which a list is sent while it is being encoded, so that a large one never is in
// memory as a whole. Smaller ones are sent with their length.
const streamFrom = 500

// streams tells answers that can be sent piece by piece.
func (a *answer) streams() bool { return a.As == "" && a.Format == codec.JSON && !a.pretty }

// stream sends a list while it is being encoded. When an item fails, the answer has begun: it is cut off, which a client can't take for
// a whole one.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, code int, a *answer, l *rest.List) {
	h := s.head(w, r, a.Format)
	var out io.Writer = w
	end := func() {}
	if takesGzip(r) {
		if zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed); err == nil {
			h.Set("Content-Encoding", "gzip")
			out, end = zip, func() { _ = zip.Close() } // A client that went away is no error of ours.
		}
	}
	w.WriteHeader(code)
	buffered := bufio.NewWriterSize(out, 32<<10)
	size := 0
	for part, err := range a.jsonList(l) {
		if err != nil {
			s.log.Error("list cut off", "path", r.URL.Path, "err", err)
			panic(http.ErrAbortHandler)
		}
		size += len(part)
		if _, err := buffered.Write(part); err != nil {
			return
		}
	}
	_ = buffered.Flush() // As above.
	end()
	s.metrics.size(infoOf(r.Context()), size)
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

// encodeJSONList gathers jsonList.
func (a *answer) encodeJSONList(l *rest.List) ([][]byte, error) {
	parts := make([][]byte, 0, 2*len(l.Entries)+2)
	for part, err := range a.jsonList(l) {
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// jsonList yields a list piece by piece; the items are their shared encodings. An error is the last that it yields.
func (a *answer) jsonList(l *rest.List) iter.Seq2[[]byte, error] { //nolint:gocognit // Each piece may be the last that is wanted; the order of pieces is plain.
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
			head = fmt.Sprintf(`{"apiVersion":%q,"items":[`, gvk.GroupVersion().String())
			tail = fmt.Sprintf(`],"kind":%q,"metadata":%s}`+"\n", gvk.Kind, meta)
		}
		if !yield([]byte(head), nil) {
			return
		}
		// Items of built-in lists do not repeat their type.
		typed := fmt.Appendf(nil, `{"kind":%q,"apiVersion":%q,`, a.target.Served.Kind, a.target.Served.GroupVersion().String())
		for i, entry := range l.Entries {
			data, err := a.target.Encoded(entry, codec.JSON)
			if err != nil {
				yield(nil, err)
				return
			}
			data = bytes.TrimSuffix(data, []byte("\n"))
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

// encodeProtobufList strings the shared encodings of the items together in the form of all list messages: metadata is field 1, items are
// field 2. The envelope says how long it is before it begins, so that nothing can be sent before everything is encoded.
func (a *answer) encodeProtobufList(l *rest.List) ([][]byte, error) {
	meta := l.Meta()
	head, err := meta.Marshal()
	if err != nil {
		return nil, err
	}
	parts := make([][]byte, 0, 2*len(l.Entries)+1)
	parts = append(parts, codec.AppendBytes(nil, 1, head))
	for _, entry := range l.Entries {
		raw, err := a.target.Raw(entry)
		if err != nil {
			return nil, err
		}
		parts = append(parts, codec.AppendLength(nil, 2, len(raw)), raw)
	}
	return codec.WrapParts(a.target.ListKind(), parts), nil
}

func (a *answer) encodeProjectedList(l *rest.List) ([][]byte, error) {
	if a.As == codec.AsPartial {
		return nil, a.notProjectable(true)
	}
	objects := make([]runtime.Object, 0, len(l.Entries))
	for _, entry := range l.Entries {
		obj, err := a.target.Object(entry)
		if err != nil {
			return nil, err
		}
		objects = append(objects, obj)
	}
	var out runtime.Object
	switch a.As {
	case codec.AsTable:
		out = codec.Table(a.target.Table(), a.table, objects, l.Meta())
	case codec.AsPartialList:
		list := &metav1.PartialObjectMetadataList{ListMeta: l.Meta(), Items: make([]metav1.PartialObjectMetadata, 0, len(objects))}
		for _, obj := range objects {
			list.Items = append(list.Items, *codec.Partial(obj.(metav1.Object), a.GroupVersion))
		}
		list.SetGroupVersionKind(a.GroupVersion.WithKind(codec.AsPartialList))
		out = list
	}
	data, err := codec.Marshal(out, a.Format)
	return [][]byte{data}, err
}
