package grants_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/testport"
)

// Errors end up in the log, so they must not contain these.
const (
	secretName     = "alice+tag&x=ü"
	secretPassword = "wonder land&=%+\"\\ü"
)

// loginSite starts a site that answers every login in one way, and returns the verifier that asks it.
func loginSite(t *testing.T, settings string, answer http.HandlerFunc) grants.Verifier {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return newPassword(t, "password {\n verify "+server.URL+"/login {\n"+settings+"\n}\n}")
}

// answers returns a handler that answers with a status and a body.
func answers(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for ; len(header) > 0; header = header[2:] {
			w.Header().Set(header[0], header[1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// untilGone waits until the client has hung up, which a server notices once it has read the body.
func untilGone(r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

func TestSiteIsAsked(t *testing.T) {
	for _, tt := range []struct {
		name, settings     string
		contentType        string
		username, password string // the names of the fields
	}{
		{"as a form", "", "application/x-www-form-urlencoded", "username", "password"},
		{"as a form, named", "body form", "application/x-www-form-urlencoded", "username", "password"},
		{"as a form with the site's field names", "fields user[email] user[pass]", "application/x-www-form-urlencoded", "user[email]", "user[pass]"},
		{"as JSON", "body json", "application/json", "username", "password"},
		{"as JSON with the site's field names", "body json\nfields login secret", "application/json", "login", "secret"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := loginSite(t, tt.settings, func(w http.ResponseWriter, r *http.Request) {
				got := map[string]string{}
				body, _ := io.ReadAll(r.Body)
				if form, err := url.ParseQuery(string(body)); err == nil && tt.contentType != "application/json" {
					for name := range form {
						got[name] = strings.Join(form[name], " and ")
					}
				} else if err := json.Unmarshal(body, &got); err != nil {
					t.Errorf("the body is %s: %v", body, err)
				}
				want := map[string]string{tt.username: secretName, tt.password: secretPassword}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
				if r.Method != http.MethodPost || r.URL.String() != "/login" || r.Header.Get("Content-Type") != tt.contentType ||
					r.Header.Get("Accept") != "application/json" || r.Header.Get("Authorization") != "" {
					t.Errorf("got %s %s %v", r.Method, r.URL, r.Header)
				}
				answers(http.StatusOK, "{}")(w, r)
			})
			if person, err := v.Verify(t.Context(), secretName, secretPassword); err != nil || person.Subject != secretName {
				t.Errorf("got %+v and error %v", person, err)
			}
		})
	}
}

func TestSiteSaysYes(t *testing.T) {
	const everything = "subject id\nclaims name nothing groups big sub exp"
	for _, tt := range []struct {
		name, settings, answer string
		status                 int
		want                   grants.Person
	}{
		{"200", "", "{}", 200, grants.Person{Subject: secretName}},
		{"201", "", "{}", 201, grants.Person{Subject: secretName}},
		{"members that are not configured as claims", "", `{"id":"7","role":"admin"}`, 200, grants.Person{Subject: secretName}},
		{"a subject", "subject id", `{"id":"7"}`, 200, grants.Person{Subject: "7"}},
		{"a number as the subject", "subject id", `{"id":17}`, 200, grants.Person{Subject: "17"}},
		{"a number beyond 2^53 as the subject", "subject id", `{"id":9007199254740993}`, 200, grants.Person{Subject: "9007199254740993"}},
		{
			"claims", everything, `{"id":"7","name":"Alice","nothing":null,"groups":["a",{"b":1}],"big":12345678901234567890,"other":1}`, 200,
			grants.Person{Subject: "7", Claims: map[string]any{
				"name": "Alice", "groups": []any{"a", map[string]any{"b": json.Number("1")}}, "big": json.Number("12345678901234567890"),
			}},
		},
		{"space around the object", "", " \r\n{} \n", 200, grants.Person{Subject: secretName}},
		{"an answer of the greatest size", "subject id", `{"id":"7"}` + strings.Repeat(" ", 64<<10-10), 200, grants.Person{Subject: "7"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := loginSite(t, tt.settings, answers(tt.status, tt.answer)).Verify(t.Context(), secretName, secretPassword)
			if err != nil || !reflect.DeepEqual(*got, tt.want) {
				t.Errorf("got %+v and error %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func TestSiteSaysNo(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 409, 410, 422, 423, 451} {
		v := loginSite(t, "subject id", answers(status, `{"id":"7"}`, "Location", "http://127.0.0.1:1/", "WWW-Authenticate", "Basic"))
		if person, err := v.Verify(t.Context(), secretName, secretPassword); person != nil || !errors.Is(err, grants.ErrBadUser) {
			t.Errorf("%d: got %+v and error %v", status, person, err)
		}
	}
}

// Neither yes nor no: the caller gets an error that names the cause, and nothing of the person.
func TestSiteSaysNeither(t *testing.T) {
	broken := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, `{"id":"7"}`)
	}
	hang := func(_ http.ResponseWriter, r *http.Request) { untilGone(r) }
	stall := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"id":`)
		_ = http.NewResponseController(w).Flush()
		untilGone(r)
	}
	hangUp := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	to := func(location string) []string { return []string{"Location", location} }
	const id, noObject = "subject id", "not a JSON object"
	for _, tt := range []struct {
		name, settings string
		site           http.HandlerFunc
		cause          string
	}{
		{"500", id, answers(500, `{"id":"7"}`), "status 500"},
		{"502", id, answers(502, "<html>"), "status 502"},
		{"503", id, answers(503, ""), "status 503"},
		{"429", id, answers(429, `{"id":"7"}`, "Retry-After", "5"), "status 429"},
		{"301", id, answers(301, `{"id":"7"}`, to("/other")...), "status 301"},
		{"302 to a login page", id, answers(302, "", to("/login?failed="+url.QueryEscape(secretName))...), "status 302"},
		{"302 to nowhere", id, answers(302, "", to("/login?failed="+secretName+"%zz")...), "status 302"},
		{"307, which would repeat the post", id, answers(307, "", to("/other")...), "status 307"},
		{"308, which would repeat the post", id, answers(308, "", to("/other")...), "status 308"},
		{"304", id, answers(304, ""), "status 304"},
		{"204", id, answers(204, ""), noObject},
		{"nothing in the answer", id, answers(200, ""), noObject},
		{"a page", id, answers(200, "<html>"+secretName), noObject},
		{"null", "", answers(200, "null"), noObject},
		{"true", "", answers(200, "true"), noObject},
		{"a string", "", answers(200, `"alice"`), noObject},
		{"an array", "", answers(200, `[{"id":"7"}]`), noObject},
		{"an empty array", "", answers(200, "[]"), noObject},
		{"half an object", id, answers(200, `{"id":"7"`), noObject},
		{"two objects", id, answers(200, `{"id":"7"}{"error":"wrong password"}`), noObject},
		{"something after it", id, answers(200, `{"id":"7"}<!-- 12 ms -->`), noObject},
		{"too large", id, answers(200, `{"id":"7"}`+strings.Repeat(" ", 64<<10)), "over 65536 bytes"},
		{"a member that never ends", id, answers(200, `{"id":"`+strings.Repeat("7", 1<<20)), "over 65536 bytes"},
		{"no subject", id, answers(200, `{"ID":"7"}`), `no "id"`},
		{"an empty subject", id, answers(200, `{"id":""}`), `no "id"`},
		{"null as the subject", id, answers(200, `{"id":null}`), `no "id"`},
		{"true as the subject", id, answers(200, `{"id":true}`), `no "id"`},
		{"an array as the subject", id, answers(200, `{"id":["7"]}`), `no "id"`},
		{"an answer that breaks off", id, broken, "unexpected EOF"},
		{"no answer", id, hangUp, "EOF"},
		{"a timeout", "timeout 20ms", hang, "deadline exceeded"},
		{"a timeout in the middle", "timeout 20ms", stall, "deadline exceeded"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			person, err := loginSite(t, tt.settings, tt.site).Verify(t.Context(), secretName, secretPassword)
			checkNeither(t, person, err, tt.cause)
		})
	}
	t.Run("connection refused", func(t *testing.T) {
		v := newPassword(t, "password {\n verify http://127.0.0.1:"+testport.New(t)+"/login\n}")
		person, err := v.Verify(t.Context(), secretName, secretPassword)
		checkNeither(t, person, err, "refused")
	})
	t.Run("the client goes away", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		v := loginSite(t, "", func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			untilGone(r)
		})
		person, err := v.Verify(ctx, secretName, secretPassword)
		checkNeither(t, person, err, "canceled")
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the error does not name the cause: %v", err)
		}
	})
}

func checkNeither(t *testing.T, person *grants.Person, err error, cause string) {
	t.Helper()
	switch {
	case person != nil || err == nil:
		t.Fatalf("got %+v and error %v", person, err)
	case codeOf(err) != "":
		t.Errorf("got a refusal, which means a wrong password: %v", err)
	case !strings.Contains(err.Error(), cause):
		t.Errorf("the error does not name the cause, %s: %v", cause, err)
	}
	for _, secret := range []string{secretName, "alice", secretPassword, "wonder"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error has %q in it: %v", secret, err)
		}
	}
}

// Credentials go only to the configured URL: the server does not follow redirects.
func TestSiteCannotSendCredentialsElsewhere(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("got %s %s", r.Method, r.URL)
	}))
	defer elsewhere.Close()
	t.Setenv("HTTP_PROXY", elsewhere.URL) // the server does not use a proxy of the environment either
	for _, status := range []int{301, 302, 303, 307, 308} {
		v := loginSite(t, "", answers(status, "", "Location", elsewhere.URL))
		if person, err := v.Verify(t.Context(), secretName, secretPassword); person != nil || err == nil {
			t.Errorf("%d: got %+v and error %v", status, person, err)
		}
	}
}

func TestImpossibleSite(t *testing.T) {
	const here = "http://app:8080/login"
	for name, site := range map[string]grants.SiteLogin{
		"no URL":                           {},
		"a path":                           {URL: "/login"},
		"no host":                          {URL: "http:///login"},
		"another scheme":                   {URL: "ftp://app/login"},
		"credentials in it":                {URL: "http://user:secret@app/login"},
		"a fragment":                       {URL: here + "#top"},
		"an unknown body":                  {URL: here, Body: "xml"},
		"a timeout below zero":             {URL: here, Timeout: -1},
		"two fields of one name":           {URL: here, UsernameField: "login", PasswordField: "login"},
		"the name in the password's field": {URL: here, UsernameField: "password"},
	} {
		if err := site.Check(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, site := range []grants.SiteLogin{
		{URL: here},
		{URL: "https://app/login?realm=x", Body: "json", Timeout: 1},
		{URL: here, UsernameField: "password", PasswordField: "secret"},
		{URL: "http://[::1]:8080", Body: "form"},
	} {
		if err := site.Check(); err != nil {
			t.Errorf("%+v: %v", site, err)
		}
	}
}
