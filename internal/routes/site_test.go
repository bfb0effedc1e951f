package routes

import "testing"

func TestHasHost(t *testing.T) {
	for _, tt := range []struct {
		hosts []string
		want  bool
	}{
		{nil, true},
		{[]string{"shop.example"}, true},
		{[]string{"other.example", "*.example"}, true},
		{[]string{"{env.HOST}"}, true},
		{[]string{"other.example", "*.shop.example"}, false},
	} {
		if got := (Site{Hosts: tt.hosts}).HasHost("shop.example"); got != tt.want {
			t.Errorf("%s has shop.example: %v", tt.hosts, got)
		}
	}
}
