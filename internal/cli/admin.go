package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-oauth/caddy-oauth/internal/adminapi"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
)

// ask sends a request about the issuer to the admin API, and decodes the answer, if there is one.
func (c *invocation) ask(method, path string, body, answer any) error {
	resp, err := c.open(method, path, body)
	if err != nil {
		return err
	}
	return readAnswer(resp, answer)
}

// open sends a request about the issuer to the admin API.
func (c *invocation) open(method, path string, body any) (*http.Response, error) {
	issuer, err := c.issuer()
	if err != nil {
		return nil, err
	}
	return c.send(method, "/oauth/"+url.PathEscape(issuer)+path, body)
}

// issuer returns the name of the issuer: the one on the command line, or else the only one there is.
func (c *invocation) issuer() (string, error) {
	if name := c.flags.String("issuer"); name != "" {
		return name, nil
	}
	var issuers []adminapi.NamedIssuer
	if err := c.request(http.MethodGet, "/oauth", nil, &issuers); err != nil {
		return "", err
	}
	if len(issuers) == 1 {
		return issuers[0].Name, nil
	}
	names := make([]string, 0, len(issuers))
	for _, issuer := range issuers {
		names = append(names, issuer.Name)
	}
	return "", errors.New("expected --issuer with " + directive.OneOf(names))
}

func (c *invocation) request(method, uri string, body, answer any) error {
	resp, err := c.send(method, uri, body)
	if err != nil {
		return err
	}
	return readAnswer(resp, answer)
}

func readAnswer(resp *http.Response, answer any) error {
	defer resp.Body.Close()
	if answer == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}

func (c *invocation) send(method, uri string, body any) (*http.Response, error) {
	address, err := caddycmd.DetermineAdminAPIAddress(
		c.flags.String("address"), nil, c.flags.String("config"), c.flags.String("adapter"))
	if err != nil {
		return nil, err
	}
	var sent io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(encoded)
	}
	resp, err := caddycmd.AdminAPIRequest(address, method, uri, make(http.Header), sent)
	if err != nil && strings.HasPrefix(err.Error(), "performing request: ") { // of AdminAPIRequest, when nobody answers
		return nil, fmt.Errorf("no Caddy answers at %s: is it running? If its admin API is elsewhere, use --address or --config (%w)", address, err)
	}
	if err != nil {
		return nil, plainError(err)
	}
	return resp, nil
}

// plainError returns the message of the admin API, without the JSON around it.
func plainError(err error) error {
	_, answer, ok := strings.Cut(err.Error(), "{")
	var said struct {
		Error string `json:"error"`
	}
	if !ok || json.Unmarshal([]byte("{"+answer), &said) != nil || said.Error == "" {
		return err
	}
	return errors.New(said.Error)
}

// print prints an answer: as JSON with --json, else with people.
func (c *invocation) print(answer any, people func(w io.Writer)) error {
	if c.flags.Bool("json") {
		encoded, err := json.MarshalIndent(answer, "", "\t")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.out, string(encoded))
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	people(w)
	return w.Flush()
}

// row prints a row of a table. Control characters are replaced: a client's name must not move the cursor of a terminal.
func row(w io.Writer, cells ...string) {
	for i, cell := range cells {
		cells[i] = strings.Map(printable, cell)
		if cells[i] == "" {
			cells[i] = "-"
		}
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
}

func printable(r rune) rune {
	if r < ' ' || 0x7f <= r && r < 0xa0 {
		return '?'
	}
	return r
}

// formatTime returns a time for people.
func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateTime)
}

func clientIDs(c *invocation) ([]string, error) {
	var clients []adminapi.Client
	err := c.ask(http.MethodGet, "/clients", nil, &clients)
	ids := make([]string, 0, len(clients))
	for _, client := range clients {
		ids = append(ids, client.ID)
	}
	return ids, err
}
