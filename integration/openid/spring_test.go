package openid

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/internal/testneeds"
)

// TestSpringBoot signs alice in at an application of Spring Boot, which has the settings of the guide, and out again: there, and at the
// site.
func TestSpringBoot(t *testing.T) {
	t.Parallel()
	program, err := integration.BuildJava(t, filepath.Join("testdata", "spring"))
	if err != nil {
		testneeds.Missing(t, err.Error())
	}
	address := integration.NewAddress(t)
	appURL := "http://" + address
	s := guideSite(t, "https://shop.example.com", appURL)
	config := filepath.Join(t.TempDir(), "application.yaml")
	must(t, os.WriteFile(config, []byte(settings(t, s, "Spring Boot", "yaml", appURL)), 0o600))
	host, port, _ := strings.Cut(address, ":")
	app := program.Command(t.Context(), "party.Party", "--spring.config.location="+config, "--server.address="+host, "--server.port="+port,
		"--spring.main.banner-mode=off", "--logging.level.root=warn")
	app.Env = append(os.Environ(), "SPRING_SECRET="+secret)
	runs(t, appURL+"/bye", app)

	signedIn := func() *integration.Person {
		alice := newAlice(t, s, integration.Password)
		page, err := alice.SignIn(t.Context(), appURL+"/", s.URL)
		must(t, err)
		var got identity
		if err := json.Unmarshal([]byte(page.Text), &got); err != nil {
			t.Fatalf("%s: %d %s", page.URL, page.Status, page.Text)
		}
		idToken, userinfo := springClaims()
		if want := (identity{idToken, userinfo, idToken, nil}); !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		return alice
	}
	// name returns which user the application knows, "" if nobody is signed in.
	name := func(alice *integration.Person) string {
		browser := *alice
		browser.Name = "" // the password is not for the application
		page := browser.Open(t, appURL+"/name")
		if page.Location != "" {
			return ""
		}
		return page.Text
	}

	// She signs out at the application.
	alice := signedIn()
	page, err := alice.SignIn(t.Context(), appURL+"/logout", s.URL)
	must(t, err)
	if page.URL.String() != appURL+"/bye" || name(alice) != "" {
		t.Errorf("signing out ends at %s, where she is %q: %d\n%s", page.URL, name(alice), page.Status, page.Text)
	}

	// The site ends her session, and the application learns of it.
	alice = signedIn()
	if got := name(alice); got != "alice" {
		t.Errorf("the application knows %q", got)
	}
	s.Do(t, "oauth", "sessions", "end", "session-of-alice", "--address", s.Admin)
	integration.Eventually(t, "the application to end its session", func() bool { return name(alice) == "" })
}

// springClaims is alice for an application without the scope groups.
func springClaims() (idToken, userinfo claims) {
	idToken, userinfo = alice("spring")
	userinfo.Groups = nil
	return idToken, userinfo
}
