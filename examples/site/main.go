// Command site stands for a site that exists already. It has a login page with a cookie, a page for the signed-in user, and an
// API. It knows nothing of OAuth. See docs/guides/existing-site.md.
//
//	go run ./examples/site [<address>]
package main

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"html/template"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

func main() {
	address := "127.0.0.1:9000"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	server := &http.Server{Addr: address, Handler: newSite(), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// site has one account, alice with the password wonderland. It keeps its sessions in memory.
type site struct {
	mu       sync.Mutex
	sessions map[string]string // user by cookie
}

const (
	account  = "alice"
	password = "wonderland"
	cookie   = "session"
)

func newSite() http.Handler {
	s := &site{sessions: make(map[string]string)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.home)
	mux.HandleFunc("GET /login", s.loginPage)
	mux.HandleFunc("POST /login", s.login)
	mux.HandleFunc("GET /whoami", s.whoami)
	mux.HandleFunc("GET /api/orders", orders)
	return mux
}

// user returns the user who is signed in, or "".
func (s *site) user(r *http.Request) string {
	c, err := r.Cookie(cookie)
	if err != nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[c.Value]
}

func (s *site) home(w http.ResponseWriter, r *http.Request) {
	_, _ = fmt.Fprintf(w, "Hello, %s!\n", cmp.Or(s.user(r), "stranger"))
}

var loginForm = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en"><title>Sign in</title>
<form method="post" action="/login">
<input type="hidden" name="return_to" value="{{.}}">
<label>User <input name="user" autocomplete="username"></label>
<label>Password <input name="password" type="password" autocomplete="current-password"></label>
<button>Sign in</button>
</form>
`))

func (s *site) loginPage(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = loginForm.Execute(w, r.URL.Query().Get("return_to")) // it fails only if the browser has gone away
}

func (s *site) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if r.PostFormValue("user") != account || r.PostFormValue("password") != password {
		http.Error(w, "Wrong user or password.", http.StatusForbidden)
		return
	}
	id := rand.Text()
	s.mu.Lock()
	s.sessions[id] = account
	s.mu.Unlock()
	//nolint:gosec // the example is on http; a real site adds Secure
	http.SetCookie(w, &http.Cookie{Name: cookie, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
	back := r.PostFormValue("return_to")
	if !strings.HasPrefix(back, "/") || strings.HasPrefix(back, "//") || strings.Contains(back, `\`) { // to this site only
		back = "/"
	}
	http.Redirect(w, r, back, http.StatusSeeOther) //nolint:gosec // a path of this site, as checked above
}

// whoami is for Caddy's forward_auth. The header has the user who is signed in, and is missing if nobody is.
func (s *site) whoami(w http.ResponseWriter, r *http.Request) {
	if user := s.user(r); user != "" {
		w.Header().Set("Remote-User", user)
	}
	w.WriteHeader(http.StatusNoContent)
}

// orders trusts X-User, since only Caddy can reach this site.
func orders(w http.ResponseWriter, r *http.Request) {
	user := r.Header.Get("X-User")
	if user == "" {
		http.Error(w, "Who are you?", http.StatusForbidden)
		return
	}
	_, _ = fmt.Fprintf(w, "The orders of %s: a looking-glass, two tarts.\n", user)
}
