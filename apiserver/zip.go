// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"compress/gzip"
	"io"
	"sync"
)

// zips compress one answer after the other: each has tables of half a megabyte.
var zips = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	return w
}}

// zip compresses an answer, until Close.
type zip struct{ *gzip.Writer }

// zipTo returns a zip of an answer that is written to w.
func zipTo(w io.Writer) zip {
	z, _ := zips.Get().(*gzip.Writer)
	z.Reset(w)
	return zip{z}
}

// Close writes the rest. The zip must not be used any more.
func (z zip) Close() error {
	err := z.Writer.Close()
	z.Reset(io.Discard)
	zips.Put(z.Writer)
	return err
}
