package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"

	"github.com/caddy-oauth/caddy-oauth/bench/internal/load"
	"github.com/caddy-oauth/caddy-oauth/bench/internal/site"
)

// partVariable is set in processes that run a part. A part has a process of its own so that it can have a processor of its own.
const partVariable = "CADDY_OAUTH_BENCH_PART"

// parts are what such a process can run. It reads a plan in JSON and writes a result.
var parts = map[string]func() error{
	"load":   func() error { return answer(load.Run) },
	"store":  func() error { return answer(overwrite) },
	"verify": func() error { return answer(verify) },
}

func answer[Plan, Result any](do func(context.Context, *Plan) (*Result, error)) error {
	plan := new(Plan)
	if err := json.NewDecoder(os.Stdin).Decode(plan); err != nil {
		return err
	}
	result, err := do(context.Background(), plan)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// runPart runs a part in a process on one processor, or if core is negative, on any.
func runPart[Plan, Result any](ctx context.Context, name string, core int, plan *Plan) (*Result, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	input, err := json.Marshal(plan)
	if err != nil {
		return nil, err
	}
	var output, errors bytes.Buffer
	cmd := exec.CommandContext(ctx, program) //nolint:gosec // G204: this program
	cmd.Env = append(os.Environ(), partVariable+"="+name)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &output, &errors
	if err := site.RunOn(cmd, core); err != nil {
		return nil, err
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("%s: %w %s", name, err, bytes.TrimSpace(errors.Bytes()))
	}
	result := new(Result)
	return result, json.Unmarshal(output.Bytes(), result)
}
