package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"os"
	"time"

	"github.com/caddy-oauth/caddy-oauth/bench/internal/load"
	"github.com/caddy-oauth/caddy-oauth/bench/internal/proc"
)

// verifyPlan says for how long to verify.
type verifyPlan struct{ Measure time.Duration }

// verify is the work that no server with DPoP can do without: it hashes a text as long as a proof, and verifies a signature of it.
func verify(_ context.Context, plan *verifyPlan) (*load.Result, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	prover, err := load.NewProver()
	if err != nil {
		return nil, err
	}
	proof, err := prover.Proof("POST", "http://127.0.0.1:12345/oauth/token", "")
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte(proof))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return nil, err
	}
	before, _ := proc.Of(os.Getpid()) // where the system does not tell, there is no figure
	n, began := 0, time.Now()
	for ; n == 0 || time.Since(began) < plan.Measure; n++ {
		digest := sha256.Sum256([]byte(proof))
		if !ecdsa.Verify(&key.PublicKey, digest[:], r, s) {
			return nil, errors.New("a signature that was just made is not valid")
		}
	}
	after, _ := proc.Of(os.Getpid())
	return &load.Result{Requests: n, Seconds: time.Since(began).Seconds(), CPU: (after.CPU - before.CPU) / time.Duration(n)}, nil
}
