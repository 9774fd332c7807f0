// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// Limits of a webhook, as upstream's defaults.
const (
	webhookBuffer  = 10_000
	webhookBatch   = 400
	webhookWait    = 30 * time.Second
	webhookTries   = 5
	webhookBackoff = 10 * time.Second
)

// Webhook sends events in batches to a server. Events that find its buffer full are lost, and logged: requests don't wait for it.
type Webhook struct {
	url    string
	client *http.Client
	log    *slog.Logger
	// events holds at most webhookBuffer.
	events chan *auditv1.Event
}

// NewWebhook makes a webhook; Run sends.
func NewWebhook(url string, client *http.Client, log *slog.Logger) *Webhook {
	return &Webhook{url: url, client: client, log: log, events: make(chan *auditv1.Event, webhookBuffer)}
}

// Sink implements Sink.
func (w *Webhook) Sink(event *auditv1.Event) {
	select {
	case w.events <- event:
	default:
		w.log.Error("audit event is lost: the webhook's buffer is full", "audit_id", event.AuditID)
	}
}

// Run sends batches until ctx ends; then what is left, once.
func (w *Webhook) Run(ctx context.Context) error {
	for {
		batch := w.gather(ctx)
		if len(batch) > 0 {
			if err := w.deliver(ctx, batch); err != nil {
				w.log.Error("audit events are lost", "events", len(batch), "err", err)
			}
		}
		if ctx.Err() != nil && len(w.events) == 0 {
			return nil
		}
	}
}

// gather waits for a first event and collects more, until the batch is full or has waited long enough.
func (w *Webhook) gather(ctx context.Context) []auditv1.Event {
	var batch []auditv1.Event
	var due <-chan time.Time
	for len(batch) < webhookBatch {
		select {
		case event := <-w.events:
			batch = append(batch, *event)
			if due == nil {
				timer := time.NewTimer(webhookWait)
				defer timer.Stop()
				due = timer.C
			}
		case <-due:
			return batch
		case <-ctx.Done():
			for len(batch) < webhookBatch {
				select {
				case event := <-w.events:
					batch = append(batch, *event)
				default:
					return batch
				}
			}
			return batch
		}
	}
	return batch
}

// deliver sends a batch, and tries again after a while when the server can't take it.
func (w *Webhook) deliver(ctx context.Context, batch []auditv1.Event) error {
	body, err := json.Marshal(&auditv1.EventList{
		TypeMeta: metav1.TypeMeta{APIVersion: auditv1.SchemeGroupVersion.String(), Kind: "EventList"}, Items: batch,
	})
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		err = w.post(context.WithoutCancel(ctx), body)
		if err == nil || try == webhookTries {
			return err
		}
		select {
		case <-time.After(webhookBackoff):
		case <-ctx.Done():
			return err
		}
	}
}

func (w *Webhook) post(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, webhookWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("audit webhook %s: %w", w.url, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client.Do(req)
	if err != nil {
		return fmt.Errorf("audit webhook: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)) // so that the connection can be used again
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("audit webhook %s: %s", w.url, resp.Status)
	}
	return nil
}
