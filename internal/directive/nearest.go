package directive

import "slices"

// synonyms are words that people write instead of a setting: those of RFC 7591, of other servers, and older ones.
var synonyms = map[string][]string{
	"alg":            {"signing"},
	"algorithm":      {"signing"},
	"allowed_scopes": {"scopes"},
	"aud":            {"audience"},
	"callback":       {"redirect_uris"},
	"callback_url":   {"redirect_uris"},
	"callback_urls":  {"redirect_uris"},
	"client_id":      {"client"},
	"client_name":    {"name"},
	"client_secret":  {"secret"},
	"expires_in":     {"lifetime"},
	"expiry":         {"lifetime"},
	"grants":         {"grant_types", "grant"},
	"jwks":           {"jwks_file", "jwks"},
	"key_file":       {"jwks_file"},
	"keys":           {"jwks_file", "signing"},
	"logo_uri":       {"logo"},
	"permissions":    {"scopes", "scope"},
	"policy_uri":     {"privacy"},
	"redirect":       {"redirect_uris"},
	"redirect_url":   {"redirect_uris"},
	"redirect_urls":  {"redirect_uris"},
	"require_scopes": {"scopes"},
	"resources":      {"audience"},
	"response_types": {"grant_types"},
	"secret_file":    {"secret"},
	"token_endpoint": {"endpoint"},
	"token_lifetime": {"access_token", "lifetime"},
	"ttl":            {"lifetime"},
	"userinfo":       {"claim"},
	"username":       {"user"},
}

// DidYouMean returns, for an error about an unknown word, the name that the word most likely stands for. It returns nothing if there is
// none.
func DidYouMean(word string, names []string) string {
	for _, name := range synonyms[word] {
		if !slices.Contains(names, name) {
			continue
		}
		if word == "secret_file" {
			name = "secret {file./path/of/the/file}"
		}
		return " (did you mean " + name + "?)"
	}
	if name, ok := Nearest(word, names); ok {
		return " (did you mean " + name + "?)"
	}
	return ""
}

// Nearest returns the name that a word is most likely meant to be: the one with the fewest letters to change, to add, to remove or to
// exchange. It reports false if none is near.
func Nearest(word string, names []string) (nearest string, ok bool) {
	least := 1 + max(1, len(word)/3)
	for _, name := range names {
		if d := distance(word, name); d < least {
			nearest, least = name, d
		}
	}
	return nearest, nearest != ""
}

// distance returns the Damerau-Levenshtein distance of two words, where a letter moves once at most.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
