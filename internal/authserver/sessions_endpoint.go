package authserver

import (
	"encoding/json"
	"net/http"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
)

// sessionsEndpoint is where the site says that a session of its own has ended, or all sessions of a person: those sign-ins at clients
// end too. It is for the site, as a client of its own that may do so.
type sessionsEndpoint struct{ *core }

func (e *sessionsEndpoint) serve(c *call) error {
	form, err := wire.ReadForm(c.w, c.r)
	if err != nil {
		return err
	}
	if err := e.authenticate(c, form); err != nil {
		return err
	}
	c.setDeadline(e.config.StoreTimeout)
	sid, subject := form.Get("sid"), form.Get("sub")
	switch {
	case !c.authenticated() || !c.client.EndsSessions:
		return grants.Refuse(grants.UnauthorizedClient, "the client may not end sessions").
			Explain("a request to end a session", "a client of the site itself", "client "+c.client.ID+": ends_sessions")
	case sid == "" && subject == "":
		return grants.Refuse(grants.InvalidRequest, "sid and sub are missing").Explain("", "sid, sub or both in the body", "")
	}
	ended, err := e.endSession(c.ctx, sid, subject, c.peer.Address)
	if err != nil {
		return err
	}
	body, err := json.Marshal(struct {
		Ended bool `json:"ended"`
	}{ended})
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.WriteHeader(http.StatusOK)
	_, _ = c.w.Write(append(body, '\n'))
	return nil
}
