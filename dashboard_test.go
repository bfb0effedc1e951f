package caddyoauth_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

const observability = "examples/observability"

var (
	sample     = regexp.MustCompile(`(?m)^(caddy_oauth_\w+)\{([^}]*)\}`)
	labelValue = regexp.MustCompile(`(\w+)="([^"]*)"`)
	metricUse  = regexp.MustCompile(`(caddy_oauth_\w+)(?:\{([^}]*)\})?`)
	matcher    = regexp.MustCompile(`(\w+)(?:=~|!=|=)"([^"]*)"`)
	grouping   = regexp.MustCompile(`by \(([^)]*)\)`)
	legend     = regexp.MustCompile(`\{\{(\w+)\}\}`)
)

// exposed causes everything that the metrics count, and returns the values of labels by metric and label.
func exposed(t *testing.T) map[string]map[string][]string {
	t.Helper()
	s := newServer(t)
	s.run(t, strings.Replace(shop, "scope orders", "scope orders\nthrottle {\nclients 1 1h\ntokens 1 1h\n}", 1)+"\nmetrics",
		strings.Replace(shopSite, "oauth {", "oauth_guard /orders\noauth {", 1))
	issuer := s.url("shop.localhost")
	first := s.signIn(t, issuer)
	second := s.refresh(t, issuer, first.RefreshToken)
	s.refresh(t, issuer, second.RefreshToken)
	s.refresh(t, issuer, first.RefreshToken) // reuse
	for range 3 {
		s.refresh(t, issuer, "garbage")
		s.do(t, http.MethodGet, issuer+"/orders", "", "", "Authorization", "Bearer garbage")
		form := url.Values{"client_id": {"nobody"}, "client_secret": {"wrong"}}
		s.do(t, http.MethodPost, issuer+"/oauth/token", "application/x-www-form-urlencoded", form.Encode())
	}
	metrics := make(map[string]map[string][]string)
	for _, line := range sample.FindAllStringSubmatch(s.askAdmin(t, http.MethodGet, "/metrics", "").body, -1) {
		labels := metrics[line[1]]
		if labels == nil {
			labels = make(map[string][]string)
			metrics[line[1]] = labels
		}
		for _, pair := range labelValue.FindAllStringSubmatch(line[2], -1) {
			labels[pair[1]] = append(labels[pair[1]], pair[2])
		}
	}
	return metrics
}

// query is an expression of the dashboard, and its legend.
type query struct{ Expr, LegendFormat string }

func dashboard(t *testing.T) (queries []query, text string) {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(observability, "grafana-dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			ID          int
			Title, Type string
			Targets     []query
		}
		Templating struct{ List []struct{ Definition string } }
	}
	if err := json.Unmarshal(file, &board); err != nil {
		t.Fatal(err)
	}
	for n, panel := range board.Panels {
		if panel.ID != n+1 || panel.Title == "" || panel.Type == "" || len(panel.Targets) == 0 {
			t.Errorf("panel %+v", panel)
		}
		queries = append(queries, panel.Targets...)
	}
	for _, variable := range board.Templating.List {
		if variable.Definition != "" {
			queries = append(queries, query{Expr: variable.Definition})
		}
	}
	return queries, string(file)
}

// Every expression of the dashboard uses an existing metric, with labels that it has.
func TestDashboardFitsTheMetrics(t *testing.T) {
	metrics := exposed(t)
	queries, _ := dashboard(t)
	for _, q := range queries {
		uses := metricUse.FindAllStringSubmatch(q.Expr, -1)
		if len(uses) == 0 || strings.Count(q.Expr, "(") != strings.Count(q.Expr, ")") {
			t.Errorf("%s: no metric, or brackets that do not match", q.Expr)
			continue
		}
		for _, use := range uses {
			labels, ok := metrics[use[1]]
			if !ok {
				t.Errorf("%s: there is no metric %s", q.Expr, use[1])
			}
			names := matcher.FindAllStringSubmatch(use[2], -1)
			for _, match := range names {
				fixed := !strings.Contains(match[2], "$")
				if values := labels[match[1]]; len(values) == 0 || fixed && !slices.Contains(values, match[2]) {
					t.Errorf("%s: %s has no %s, its labels are %v", q.Expr, use[1], match[0], labels)
				}
			}
			var grouped []string
			for _, by := range grouping.FindAllStringSubmatch(q.Expr, -1) {
				grouped = append(grouped, strings.Split(by[1], ", ")...)
			}
			for _, name := range grouped {
				if len(labels[name]) == 0 {
					t.Errorf("%s: %s has no label %s", q.Expr, use[1], name)
				}
			}
			for _, shown := range legend.FindAllStringSubmatch(q.LegendFormat, -1) {
				if !slices.Contains(grouped, shown[1]) {
					t.Errorf("%s: the query is not grouped by %s", q.LegendFormat, shown[1])
				}
			}
		}
	}
}

// Every metric is on the dashboard and in docs/operate/watching.md.
func TestMetricsAreShown(t *testing.T) {
	_, board := dashboard(t)
	readme, err := os.ReadFile("docs/operate/watching.md")
	if err != nil {
		t.Fatal(err)
	}
	metrics := exposed(t)
	if len(metrics) < 8 {
		t.Fatalf("only %d metrics", len(metrics))
	}
	for name := range metrics {
		if strings.HasSuffix(name, "_sum") || strings.HasSuffix(name, "_count") {
			continue // of a histogram
		}
		if !strings.Contains(board, name) {
			t.Errorf("%s is not on the dashboard", name)
		}
		if name = strings.TrimSuffix(name, "_bucket"); !strings.Contains(string(readme), "`"+name+"`") {
			t.Errorf("%s is not in docs/operate/watching.md", name)
		}
	}
}

func TestObservabilityExample(t *testing.T) {
	name, err := filepath.Abs(filepath.Join(observability, "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(caddyfile.Format(text)) != string(text) {
		t.Error("not as caddy fmt has it")
	}
	dir := t.TempDir()
	t.Chdir(dir) // its audit log is there
	t.Setenv("BILLING_SECRET", "only for this test")
	if output, ok := caddyCommand(t, dir, "validate", "--adapter", "caddyfile", "--config", name); !ok {
		t.Error(output)
	}
}
