// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kogge.dev/kogge/apiserver"
	"kogge.dev/kogge/apiserver/request"
	"kogge.dev/kogge/apiserver/rest"
	"kogge.dev/kogge/client"
	"kogge.dev/kogge/kinds/catalog"
	"kogge.dev/kogge/store"
	"kogge.dev/kogge/store/memory"
)

// TestReservationsAreRepaired loses, between two lives of a server, a Service without its reservations and the reservation of another.
func TestReservationsAreRepaired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		live := func(test func(ctx context.Context, c *client.Client)) {
			server, err := apiserver.New(apiserver.Config{
				Store: s, Catalog: catalog.New(), Logger: slog.New(slog.DiscardHandler), Services: rest.ServiceConfig{CIDRs: []string{"10.96.0.0/24"}},
				Build: func(*apiserver.Server) (apiserver.Parts, error) { return apiserver.Parts{Authorizer: allowAll{}}, nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- server.Run(ctx) }()
			if err := server.WaitReady(ctx); err != nil {
				t.Fatal(err)
			}
			test(ctx, client.New(server.Client(request.User{Name: "tester"}), catalog.New()))
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		drop := func(key string) {
			record, _, err := s.Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Delete(t.Context(), key, record.ModRevision); err != nil {
				t.Fatal(err)
			}
		}
		service := func(name, ip string) *corev1.Service {
			svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
			svc.Spec.ClusterIP, svc.Spec.Ports = ip, []corev1.ServicePort{{Port: 80}}
			return svc
		}
		live(func(ctx context.Context, c *client.Client) {
			for name, ip := range map[string]string{"kept": "10.96.0.5", "lost": "10.96.0.6"} {
				if _, err := client.Of[*corev1.Service](c).Create(ctx, service(name, ip)); err != nil {
					t.Fatal(err)
				}
			}
		})
		drop("/registry/ipaddresses/10.96.0.5")
		drop("/registry/services/specs/default/lost")
		live(func(ctx context.Context, c *client.Client) {
			time.Sleep(2 * time.Minute)
			if _, err := client.Of[*corev1.Service](c).Create(ctx, service("thief", "10.96.0.5")); err == nil {
				t.Error("an address in use was given out again")
			}
			if _, _, err := s.Get(ctx, "/registry/ipaddresses/10.96.0.6"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("the address of a lost Service is still reserved: %v", err)
			}
		})
	})
}
