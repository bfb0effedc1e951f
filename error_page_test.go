package caddyoauth_test

import (
	"net/http"
	"strings"
	"testing"
)

// errorID returns the one error ID that was logged.
func (s *server) errorID(t *testing.T) string {
	t.Helper()
	var entries []map[string]any
	eventually(t, "a refusal in the log", func() bool {
		entries = s.logged(t, "request refused")
		return len(entries) > 0
	})
	if len(entries) != 1 {
		t.Fatalf("expected one refusal in the log, got %v", entries)
	}
	id, _ := entries[0]["error_id"].(string)
	if id == "" {
		t.Fatalf("no error_id in %v", entries[0])
	}
	return id
}

// A site styles the failures that people see with handle_errors, and where it does not, they see the
// built-in page. Several sites share a server here, as they do in a Caddyfile.
func TestErrorPages(t *testing.T) {
	const plain = "http://plain.localhost:PORT {\noauth\n}\n"
	for _, tt := range []struct {
		name, host, handleErrors string
		styled                   bool
	}{
		{"no handle_errors on the server", "plain.localhost", "", false},
		{"handle_errors of another site", "plain.localhost", "handle_errors {\nrespond STYLED\n}", false},
		{"handle_errors", "shop.localhost", "handle_errors {\nrespond STYLED\n}", true},
		{"handle_errors for the status", "shop.localhost", "handle_errors 400 {\nrespond STYLED\n}", true},
		{"handle_errors for the class", "shop.localhost", "handle_errors 4xx {\nrespond STYLED\n}", true},
		{"handle_errors for another status", "shop.localhost", "handle_errors 404 5xx {\nrespond STYLED\n}", false},
		{"handle_errors for the path", "shop.localhost", "handle_errors {\nrespond /oauth/* STYLED\n}", true},
		{"handle_errors for another path", "shop.localhost", "handle_errors {\nrespond /shop/* STYLED\n}", false},
		{"second of two", "shop.localhost", "handle_errors 404 {\nrespond wrong\n}\nhandle_errors {\nrespond STYLED\n}", true},
		{"handle in handle_errors", "shop.localhost", "handle_errors {\nhandle /shop/* {\nrespond wrong\n}\nhandle {\nrespond STYLED\n}\n}", true},
		{"handle_errors without anything", "shop.localhost", "handle_errors {\n}", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			handleErrors := strings.ReplaceAll(tt.handleErrors, "STYLED", `"styled {err.status_code} {err.id}"`)
			s.run(t, shop, "http://shop.localhost:PORT {\noauth\n"+handleErrors+"\n}\n"+plain)
			answer := s.get(t, s.url(tt.host)+"/oauth/authorize?client_id=nobody")
			id := s.errorID(t)
			if styled := answer.body == "styled 400 "+id; styled != tt.styled {
				t.Errorf("styled: %t, expected %t: %s", styled, tt.styled, answer.body)
			}
			if !tt.styled && (!strings.Contains(answer.body, id) || !strings.HasPrefix(answer.header.Get("Content-Type"), "text/html")) {
				t.Errorf("expected a page with the error ID %s, got %v %s", id, answer.header, answer.body)
			}
			// respond has a status of its own, which is 200 unless it is told otherwise.
			if !tt.styled && answer.status != http.StatusBadRequest {
				t.Errorf("status %d", answer.status)
			}
			if answer.header.Get("Cache-Control") != "no-store" {
				t.Errorf("anybody may keep the page: %v", answer.header)
			}
		})
	}
}

// Programs get JSON, whatever the site does for people.
func TestErrorsForProgramsAreNotStyled(t *testing.T) {
	s := newServer(t)
	s.run(t, shop, "http://shop.localhost:PORT {\noauth\nhandle_errors {\nrespond styled\n}\n}")
	answer := s.do(t, http.MethodPost, s.url("shop.localhost")+"/oauth/token", "application/x-www-form-urlencoded", "grant_type=nonsense")
	if !strings.Contains(answer.body, `"error":"`) || !strings.Contains(answer.body, s.errorID(t)) {
		t.Errorf("%d %s", answer.status, answer.body)
	}
}
