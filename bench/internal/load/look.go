package load

import (
	"context"
	"encoding/json"
	"net/http"
	"os"

	"github.com/caddy-oauth/caddy-oauth/bench/internal/proc"
)

// look returns the current state. Unknown values are 0.
func look(ctx context.Context, plan *Plan) state {
	var s state
	if plan.Admin != "" {
		s.allocations, _ = allocations(ctx, plan.Admin)
	}
	if plan.PID != 0 {
		s.server, _ = proc.Of(plan.PID)
	}
	s.own, _ = proc.Of(os.Getpid())
	return s
}

// allocations returns how many objects the server has allocated since its start.
func allocations(ctx context.Context, admin string) (uint64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/debug/vars", nil)
	if err != nil {
		return 0, err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var vars struct {
		Memstats struct{ Mallocs uint64 } `json:"memstats"`
	}
	err = json.NewDecoder(resp.Body).Decode(&vars)
	return vars.Memstats.Mallocs, err
}
