package wire

import (
	"net/url"
	"strings"
	"testing"
)

func TestHideSecrets(t *testing.T) {
	nested := "/oauth/authorize?client_id=app&redirect_uri="
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"/", "/"},
		{"/oauth/token", "/oauth/token"},
		{"/oauth/authorize?client_id=app&scope=orders+profile&state=a%20b", "/oauth/authorize?client_id=app&scope=orders+profile&state=a%20b"},
		{"/oauth/token?client_id=job&client_secret=s3cret&x=1", "/oauth/token?client_id=job&client_secret=HIDDEN&x=1"},
		{"/oauth/token?client%5Fsecret=s3cret", "/oauth/token?client%5Fsecret=HIDDEN"},
		{"/oauth/token?Client_Secret=s3cret", "/oauth/token?Client_Secret=HIDDEN"},
		{"/oauth/token?client_secret[]=s3cret", "/oauth/token?client_secret[]=HIDDEN"},
		{"/oauth/token?%20client_secret=s3cret", "/oauth/token?%20client_secret=HIDDEN"},
		{"/oauth/token?x=%zz&client_secret=s3cret%zz", "/oauth/token?x=%zz&client_secret=HIDDEN"},
		{"/oauth/token?client_secret=a=b", "/oauth/token?client_secret=HIDDEN"},
		{"/oauth/token?x;client_secret=s3cret;y", "/oauth/token?x;client_secret=HIDDEN;y"},
		{"/oauth/token?code=s3cret&code=s3cret", "/oauth/token?code=HIDDEN&code=HIDDEN"},
		{"/oauth/token?code=&code", "/oauth/token?code=&code"},
		{"/oauth/token#access_token=s3cret", "/oauth/token#access_token=HIDDEN"},
		{"/oauth/token?a=b?token=s3cret", "/oauth/token?a=b?token=HIDDEN"},
		{"/oauth/token?client_secret=HIDDEN", "/oauth/token?client_secret=HIDDEN"},
		{"http://user:s3cret@example.com/oauth/token?x", "http://user:HIDDEN@example.com/oauth/token?x"},
		{"http://user@example.com/?x@y:z", "http://user@example.com/?x@y:z"},
		{"/oauth/authorize?request=eyJ", "/oauth/authorize?request=HIDDEN"},
		{"/oauth/token;client_secret=s3cret;x=1/more;y?z=2", "/oauth/token;client_secret=HIDDEN;x=1/more;y?z=2"},
		{"/oauth/token;x;Client%5FSecret=s3cret", "/oauth/token;x;Client%5FSecret=HIDDEN"},
		{"/a;code=/b=;token=s3cret;", "/a;code=/b=;token=HIDDEN;"},
		{"https://u:s3cret@example.com/a;token=s3cret", "https://u:HIDDEN@example.com/a;token=HIDDEN"},
		{"/path//user:name@host", "/path//user:HIDDEN@host"},
		{
			nested + url.QueryEscape("https://app.example.com/cb?x=1&code=s3cret#id_token=s3cret"),
			nested + url.QueryEscape("https://app.example.com/cb?x=1&code=HIDDEN#id_token=HIDDEN"),
		},
		{nested + url.QueryEscape("https://app.example.com/cb?a b"), nested + url.QueryEscape("https://app.example.com/cb?a b")},
		{nested + "https://app.example.com/cb?x=1", nested + "https://app.example.com/cb?x=1"},
		{
			"/oauth/apps?return_to=" + url.QueryEscape(nested+url.QueryEscape("https://a.example/?code=s3cret")) + "&x",
			"/oauth/apps?return_to=" + url.QueryEscape(nested+url.QueryEscape("https://a.example/?code=HIDDEN")) + "&x",
		},
	} {
		if got := HideSecrets(tt.in); got != tt.want {
			t.Errorf("%q becomes %q, want %q", tt.in, got, tt.want)
		}
		if tt.in != tt.want && !MayHaveSecrets(tt.in) {
			t.Errorf("%q is said to have no secrets", tt.in)
		}
	}
	if MayHaveSecrets("/oauth/token") {
		t.Error("a path is said to have secrets")
	}
}

// For every URL, hiding secrets twice is the same as once, and the parameters that a server reads are hidden or unchanged.
func FuzzHideSecrets(f *testing.F) {
	f.Add("/oauth/token?client_secret=s3cret&x=%zz")
	f.Add("https://a:b@c/?u=" + url.QueryEscape("https://a/?code=s3cret"))
	f.Fuzz(func(t *testing.T, target string) {
		hidden := HideSecrets(target)
		if again := HideSecrets(hidden); again != hidden {
			t.Errorf("%q becomes %q and then %q", target, hidden, again)
		}
		if hidden != target && !MayHaveSecrets(target) {
			t.Errorf("%q becomes %q, and is said to have no secrets", target, hidden)
		}
		_, query, _ := strings.Cut(hidden, "?")
		params, _ := url.ParseQuery(query)
		for name := range secretParams {
			if value := params.Get(name); value != "" && !strings.HasPrefix(value, hiddenSecret) {
				t.Errorf("%q has %s=%q", hidden, name, value)
			}
		}
	})
}
