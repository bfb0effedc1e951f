package integration_test

import (
	"net/url"
	"sync"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// atOnce sends a form to token endpoints at the same time, with a client for each URL.
func atOnce(t *testing.T, s *integration.Server, form url.Values, tokenURLs []string) []*integration.Answer {
	t.Helper()
	answers, errs := make([]*integration.Answer, len(tokenURLs)), make([]error, len(tokenURLs))
	start := make(chan struct{})
	var clients sync.WaitGroup
	for i, tokenURL := range tokenURLs {
		client := s.Client(t)
		clients.Go(func() {
			<-start
			answers[i], errs[i] = integration.Post(t.Context(), client, tokenURL, form)
		})
	}
	close(start)
	clients.Wait()
	for _, err := range errs {
		must(t, err)
	}
	return answers
}

// onlyWinner returns the answer with tokens. All other answers must be invalid_grant.
func onlyWinner(t *testing.T, answers []*integration.Answer) *integration.Answer {
	t.Helper()
	var winner *integration.Answer
	for _, answer := range answers {
		switch {
		case answer.Refused("invalid_grant"):
		case answer.Status == 200 && answer.AccessToken != "" && winner == nil:
			winner = answer
		default:
			t.Errorf("another answer is %d %s %s, want 400 invalid_grant", answer.Status, answer.Error, answer.Description)
		}
	}
	if winner == nil {
		t.Fatal("no answer has tokens")
	}
	return winner
}

func refused(t *testing.T, s *integration.Server, refreshToken string) {
	t.Helper()
	answer, err := integration.Post(t.Context(), s.Client(t), s.TokenURL(), integration.RefreshRequest("app", refreshToken))
	must(t, err)
	if !answer.Refused("invalid_grant") {
		t.Errorf("a refresh: %d %s, want 400 invalid_grant", answer.Status, answer.Error)
	}
}

func TestFiftyClientsWithOneCode(t *testing.T) {
	s := integration.Start(t, integration.Shop())
	code, verifier := s.NewCode(t)
	urls := make([]string, 50)
	for i := range urls {
		urls[i] = s.TokenURL()
	}
	exchange := integration.CodeRequest(s.AppClient(), code, verifier)
	winner := onlyWinner(t, atOnce(t, s, exchange, urls))
	laterUseRevokes(t, s, exchange, winner.RefreshToken)
}

// laterUseRevokes checks that the repeats of an exchange have not revoked its tokens, and that another repeat does so once they
// were used (RFC 6749 §4.1.2).
func laterUseRevokes(t *testing.T, s *integration.Server, exchange url.Values, refreshToken string) {
	t.Helper()
	next := onlyWinner(t, atOnce(t, s, integration.RefreshRequest("app", refreshToken), []string{s.TokenURL()}))
	again := atOnce(t, s, exchange, []string{s.TokenURL()})[0]
	if !again.Refused("invalid_grant") {
		t.Errorf("the code again: %d %s, want 400 invalid_grant", again.Status, again.Error)
	}
	refused(t, s, next.RefreshToken)
}

// startPair starts two servers of one issuer on one storage.
func startPair(t *testing.T, settings string) (*integration.Server, []string) {
	t.Helper()
	first := integration.Start(t, integration.ShopWith(settings))
	config := integration.ShopWith(settings)
	config.Issuer, config.Storage, config.Secrets = first.Issuer, first.Storage, first.Secrets
	second := integration.Start(t, config)
	return first, []string{first.TokenURL(), second.TokenURL()}
}

const rounds = 10

func TestTwoServersOneCode(t *testing.T) {
	s, urls := startPair(t, "")
	for range rounds {
		code, verifier := s.NewCode(t)
		exchange := integration.CodeRequest(s.AppClient(), code, verifier)
		winner := onlyWinner(t, atOnce(t, s, exchange, urls))
		laterUseRevokes(t, s, exchange, winner.RefreshToken)
	}
}

// A client that sends its refresh token twice, as two tabs of a browser do, gets the same new one twice.
func TestTwoServersOneRefreshToken(t *testing.T) {
	s, urls := startPair(t, "")
	token, keys := s.NewTokens(t).RefreshToken, publishedKeys(t, s)
	for range rounds {
		answers := atOnce(t, s, integration.RefreshRequest("app", token), append(urls, urls...))
		next := answers[0].RefreshToken
		if next == "" || next == token {
			t.Fatalf("the refresh: %d %s, with a new token %v", answers[0].Status, answers[0].Error, next != token)
		}
		for _, answer := range answers {
			if answer.Status != 200 || answer.RefreshToken != next {
				t.Fatalf("%d %s: the family has forked", answer.Status, answer.Error)
			}
			verified(t, keys, answer.AccessToken) // whichever server signed it
		}
		token = next
	}
}

// RFC 9700 §4.14.2: with `retry 0`, the second use of a refresh token revokes the family.
func TestTwoServersStrictSingleUse(t *testing.T) {
	s, urls := startPair(t, "refresh_token {\n retry 0\n }")
	for range rounds {
		token := s.NewTokens(t).RefreshToken
		winner := onlyWinner(t, atOnce(t, s, integration.RefreshRequest("app", token), urls))
		refused(t, s, winner.RefreshToken)
	}
}
