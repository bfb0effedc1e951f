package contract_test

import (
	"bufio"
	"bytes"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
)

// curl runs curl with arguments as the document prints them.
func (e *endpoint) curl(t T, args ...string) *answer {
	t.Helper()
	args = append([]string{"--silent", "--show-error", "--include", "--noproxy", "*"}, args...)
	output, err := exec.CommandContext(t.Context(), "curl", args...).Output()
	must(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(output)), nil)
	must(t, err)
	return e.read(t, resp)
}

// withUserinfo returns the URL of the token endpoint with the client's credentials in its userinfo.
func (e *endpoint) withUserinfo() string {
	return strings.Replace(e.site, "://", "://"+url.UserPassword(e.clientID, e.secret).String()+"@", 1) + e.token
}
