// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// LogRequest says what to fetch and how to answer.
type LogRequest struct {
	// Location on the kubelet; nil for a pod without a node, which has no log yet.
	Location *url.URL
	// Follow flushes each piece as it comes.
	Follow bool
	// Insecure does not verify the kubelet's certificate.
	Insecure bool
	// Name of the pod, for messages.
	Name string
}

// Logs streams a container's log from its kubelet to the client, as plain text or as WebSocket messages.
func (k *Kubelets) Logs(w http.ResponseWriter, r *http.Request, req LogRequest, fail Responder) {
	if req.Location == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	body, err := k.open(r.Context(), req)
	if err != nil {
		fail(w, r, err)
		return
	}
	defer func() { _ = body.Close() }() // It was read to its end, or nobody wants the rest.
	if wsstream.IsWebSocketRequest(r) {
		if err := wsstream.NewReader(body, true, wsstream.NewDefaultReaderProtocols()).Copy(w, r); err != nil {
			return // The client went away.
		}
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusOK)
	var to io.Writer = w
	if req.Follow {
		to = flushing{w, http.NewResponseController(w)}
		_ = http.NewResponseController(w).Flush() // The client learns at once that the log is open.
	}
	_, _ = io.Copy(to, body) // The end of either side ends the log.
}

// flushing sends each piece at once.
type flushing struct {
	w       http.ResponseWriter
	flusher *http.ResponseController
}

// Write implements io.Writer.
func (f flushing) Write(data []byte) (int, error) {
	n, err := f.w.Write(data)
	if err == nil {
		err = f.flusher.Flush()
	}
	return n, err
}

// open requests the log; answers other than success become API errors.
func (k *Kubelets) open(ctx context.Context, req LogRequest) (io.ReadCloser, error) {
	out, err := http.NewRequestWithContext(ctx, http.MethodGet, req.Location.String(), nil)
	if err != nil {
		return nil, err
	}
	transport := k.transport
	if req.Insecure {
		transport = k.insecure
	}
	resp, err := transport.RoundTrip(out)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if resp.StatusCode >= http.StatusOK && resp.StatusCode <= http.StatusPartialContent {
		return resp.Body, nil
	}
	defer func() { _ = resp.Body.Close() }() // It was read as far as we want it.
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxMessage))
	switch resp.StatusCode {
	case http.StatusInternalServerError:
		return nil, apierrors.NewInternalError(fmt.Errorf("%s", text))
	case http.StatusBadRequest:
		return nil, apierrors.NewBadRequest(string(text))
	default:
		gr := schema.GroupResource{Resource: "pods/log"}
		return nil, apierrors.NewGenericServerResponse(resp.StatusCode, "", gr, req.Name, string(text), 0, false)
	}
}
