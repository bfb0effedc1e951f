package caddyoauth

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"golang.org/x/term"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
)

const hashSecretHelp = `
Reads a secret from standard input, or asks for it, and prints its hash, for the
setting secret_hash of a client.

--algorithm sha256 is right for secrets of 256 random bits, such as those that
"caddy oauth clients add" makes. Anything that a person has made up needs
argon2id or bcrypt, which are slow on purpose: they are Caddy's own, as in
"caddy hash-password".`

func hashSecretFlags(f caddycmd.Flags) {
	f.FlagSet.String("algorithm", "sha256", "sha256, argon2id or bcrypt")
}

func runHashSecret(c *invocation) error {
	switch algorithm := c.flags.String("algorithm"); algorithm {
	case "sha256":
		secret, err := readSecret(c, "Secret")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.out, authserver.HashSecret(secret))
		return err
	case "argon2id", "bcrypt":
		return hashPassword(algorithm)
	default:
		return errors.New("algorithm: expected sha256, argon2id or bcrypt, not " + algorithm)
	}
}

// readSecret reads a line of standard input. From a terminal it is asked for, and not echoed.
func readSecret(c *invocation, what string) (string, error) {
	line, err := readLine(c, what)
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(line, "\r\n")
	if secret == "" {
		return "", errors.New("expected a line on standard input, and it is empty")
	}
	return secret, nil
}

func readLine(c *invocation, what string) (string, error) {
	if file, ok := c.in.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		fmt.Fprint(c.notes, what+": ")
		line, err := term.ReadPassword(int(file.Fd()))
		fmt.Fprintln(c.notes)
		return string(line), err
	}
	line, err := bufio.NewReader(c.in).ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return line, err
}
