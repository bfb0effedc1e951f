package throttle

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Kind is what the failures or requests that are counted together are, and a label of the metrics.
type Kind string

// The kinds of failures. Each has limits of its own.
const (
	Client   Kind = "client"   // wrong secrets of clients
	Key      Kind = "key"      // wrong assertions and certificates of clients
	Password Kind = "password" // wrong passwords of accounts
	UserCode Kind = "usercode" // wrong codes that a device shows
	Grant    Kind = "grant"    // invalid codes, refresh tokens, subject tokens and assertions
	Token    Kind = "token"    // invalid access tokens
	Request  Kind = "request"  // invalid request objects
)

// The kinds of requests that are no failures, see quota.go. Each has a count of its own.
const (
	Register Kind = "register" // clients that register themselves
	Code     Kind = "code"     // authorization codes, and approvals of devices
	Login    Kind = "login"    // refresh tokens for passwords, and other authorizations that begin without a code
	Push     Kind = "push"     // pushed authorization requests
	Visit    Kind = "visit"    // pushed requests that a browser comes to the login with
	Device   Kind = "device"   // device codes
)

// Limits are the limits of an issuer. A Limit that is zero has its default.
type Limits struct {
	Off       bool  // nothing is limited
	Clients   Limit // wrong secrets for one client; wrong assertions or certificates for one client at one address
	Passwords Limit // wrong passwords for one account
	Addresses Limit // all of the above, and wrong user codes, from one address; each Kind has a count of its own
	Tokens    Limit // invalid codes, refresh tokens, access tokens and request objects from one address

	Registrations Limit // clients that register themselves, from one address
	Devices       Limit // device codes of clients that anybody can be, for one address
	Pushed        Limit // pushed authorization requests of clients that anybody can be, from one address
	UserCodes     Limit // wrong user codes of one person

	Codes []Limit // codes of one user for one client, all of which hold; logins have the same limits
}

// withDefaults returns the limits with every default filled in.
func (l Limits) withDefaults() Limits {
	for limit, standard := range map[*Limit]Limit{
		&l.Clients:   {Burst: 30, Every: 20 * time.Second},
		&l.Passwords: {Burst: 10, Every: time.Minute}, // RFC 6749 §4.3.2
		&l.Addresses: {Burst: 30, Every: 10 * time.Second},
		&l.Tokens:    {Burst: 600, Every: time.Second},

		&l.Registrations: {Burst: 10, Every: time.Minute / 10},
		&l.Devices:       {Burst: 60, Every: 10 * time.Minute / 60},
		&l.Pushed:        {Burst: 300, Every: 10 * time.Minute / 300},
		&l.UserCodes:     {Burst: 5, Every: 10 * time.Minute / 5},
	} {
		if limit.Burst == 0 {
			*limit = standard
		}
	}
	if l.Codes == nil {
		l.Codes = []Limit{{Burst: 20, Every: time.Minute / 20}, {Burst: 200, Every: 24 * time.Hour / 200}}
	}
	return l
}

// Limiter is a Throttle as one issuer uses it. It is asked before a secret is compared (Check or Reserve), and told the
// outcome after (the methods of Attempt).
//
// Addresses are those of clients as the site trusts them. Of an IPv6 address only the first 64 bits count (the network, /64), since
// everybody has more of the rest than anybody can count. Many have 2^16 such networks: all of the same first 48 bits (the site, /48)
// together have ten times the limit of one.
type Limiter struct {
	throttle *Throttle
	issuer   string
	limits   Limits
	refused  func(kind string) // counts a refusal
	now      func() time.Time

	// families are the kinds by which ReserveFamily counts, one for each limit: with a memory of its own, so that the counts of a minute do
	// not give way to those of a day.
	families map[Kind][]Kind
}

// Limiter returns the limiter of an issuer. It calls refused for each refusal.
func (t *Throttle) Limiter(issuer string, limits Limits, refused func(kind string), now func() time.Time) *Limiter {
	l := &Limiter{throttle: t, issuer: issuer, limits: limits.withDefaults(), refused: refused, now: now, families: make(map[Kind][]Kind)}
	for _, kind := range []Kind{Code, Login} {
		for n := range l.limits.Codes {
			l.families[kind] = append(l.families[kind], kind+Kind(strconv.Itoa(n)))
		}
	}
	return l
}

// Attempt is an attempt to authenticate that is allowed, and whose outcome is open. Call one of its methods when the
// outcome is known.
type Attempt struct {
	limiter  *Limiter // nil: nothing is limited
	kind     Kind
	address  string
	limits   []limited
	reserved []*bucket
}

// Check allows an attempt to authenticate from an address as one of the accounts (client IDs, or hashes of user names), unless
// a limit of any of them is reached: then there is no Attempt, and wait says when to try again. Without an account, only the
// address counts.
//
// A failure counts when Failed is called, so any number of clients with the right secret can authenticate at once.
// Guesses that run at the same time can exceed the limit: use Check where the caller bounds how many run.
func (l *Limiter) Check(kind Kind, address string, accounts ...string) (a *Attempt, wait time.Duration) {
	if l.limits.Off {
		return &Attempt{}, 0
	}
	a = l.attempt(kind, address, accounts)
	if wait = l.throttle.wait(l.now(), a.limits); wait > 0 {
		l.refused(string(kind))
		return nil, wait
	}
	return a, 0
}

// Reserve is Check for attempts that count as failures until their outcome is known, so that not one guess exceeds the
// limit.
func (l *Limiter) Reserve(kind Kind, address, account string) (a *Attempt, wait time.Duration) {
	if l.limits.Off {
		return &Attempt{}, 0
	}
	a = l.attempt(kind, address, []string{account})
	return l.reserve(a)
}

// reserve counts an attempt against all of its limits, or against none if one of them is reached.
func (l *Limiter) reserve(a *Attempt) (reserved *Attempt, wait time.Duration) {
	if a.reserved, wait = l.throttle.reserve(l.now(), a.limits); wait > 0 {
		l.refused(string(a.kind))
		return nil, wait
	}
	return a, 0
}

func (l *Limiter) attempt(kind Kind, address string, accounts []string) *Attempt {
	own, site := networks(address)
	return &Attempt{limiter: l, kind: kind, address: own, limits: l.secretLimits(kind, own, site, accounts)}
}

// secretLimits returns the limits for guesses of the accounts' secrets from an address. An address that has authenticated
// with an account before has a limit of its own for that account: neither guesses from elsewhere nor those of neighbors for
// other accounts can lock it out. Elsewhere the failures of an account count from all addresses together, but for keys: nobody can guess
// one, and whoever sends wrong assertions must not lock out the client at other addresses.
func (l *Limiter) secretLimits(kind Kind, own, site string, accounts []string) (limits []limited) {
	limit := l.limits.Clients
	switch kind {
	case Password:
		limit = l.limits.Passwords
	case UserCode:
		limit = l.limits.UserCodes
	}
	unknown := len(accounts) == 0
	for _, account := range accounts {
		address := own
		if !l.throttle.known.has(key{l.issuer, kind, account, ""}, own) {
			unknown = true
			if kind != Key {
				address = ""
			}
		}
		limits = append(limits, limited{key{l.issuer, kind, account, address}, limit})
	}
	if unknown {
		limits = append(limits, l.addressLimits(kind, "", own, site, l.limits.Addresses)...)
	}
	return limits
}

// knownAddresses are the addresses that accounts have authenticated from: failures elsewhere must not lock them out there.
type knownAddresses struct {
	mu sync.RWMutex
	of map[key][]string // by account, the newest last
}

const (
	maxKnown          = 20_000 // accounts
	maxKnownAddresses = 64     // addresses: one account must not push out those of others
)

func (k *knownAddresses) has(account key, address string) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return slices.Contains(k.of[account], address)
}

// add adds an address of an account. When the memory is full, it forgets an arbitrary account, and of an account the address that it has
// known the longest.
func (k *knownAddresses) add(account key, address string) {
	if k.has(account, address) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	addresses := k.of[account]
	if slices.Contains(addresses, address) {
		return
	}
	if addresses == nil {
		for other := range k.of {
			if len(k.of) < maxKnown {
				break
			}
			delete(k.of, other)
		}
	}
	if len(addresses) >= maxKnownAddresses {
		addresses = slices.Delete(addresses, 0, 1)
	}
	k.of[account] = append(addresses, strings.Clone(address)) // as in memory.add
}

// addressLimits returns the limits for the failures of an account at an address.
func (l *Limiter) addressLimits(kind Kind, account, own, site string, limit Limit) []limited {
	limits := []limited{{key{l.issuer, kind, account, own}, limit}}
	if site != "" {
		limits = append(limits, limited{key{l.issuer, kind, account, site}, limit.times(networksOfASite)})
	}
	return limits
}

// networksOfASite is how many networks of one IPv6 site can fail as often as if they were alone.
const networksOfASite = 10

// times returns a limit for n that have this limit, together.
func (l Limit) times(n int) Limit {
	return Limit{Burst: n * l.Burst, Every: max(1, l.Every/time.Duration(n))}
}

// Succeeded notes that the attempt authenticated with the account.
func (a *Attempt) Succeeded(account string) {
	if a.limiter == nil {
		return
	}
	a.giveBack()
	a.limiter.throttle.known.add(key{a.limiter.issuer, a.kind, account, ""}, a.address)
}

// Failed notes that the secret was wrong.
func (a *Attempt) Failed() {
	if a.limiter != nil && a.reserved == nil {
		a.limiter.throttle.charge(a.limiter.now(), a.limits)
	}
}

// Canceled notes that the attempt neither succeeded nor failed.
func (a *Attempt) Canceled() { a.giveBack() }

// giveBack takes back what Reserve has counted as failures.
func (a *Attempt) giveBack() {
	if a.reserved != nil {
		a.limiter.throttle.giveBack(a.limiter.now(), a.reserved)
	}
}

// Invalid counts a code, a token or a request object that was invalid, and returns how long its sender should wait if there were too many,
// else 0. Nobody can guess these, so the limit only slows down broken clients. It is asked after the fact: a valid token
// is always accepted, and nobody can lock out others by sending invalid ones from their address.
func (l *Limiter) Invalid(kind Kind, account, address string) (wait time.Duration) {
	if l.limits.Off {
		return 0
	}
	own, site := networks(address)
	now, limits := l.now(), l.addressLimits(kind, account, own, site, l.limits.Tokens)
	if wait := l.throttle.wait(now, limits); wait > 0 {
		l.refused(string(kind))
		return wait
	}
	l.throttle.charge(now, limits)
	return 0
}

// networks returns the parts of an address that count: IPv4 whole, and of IPv6 the first 64 bits and the first 48 bits,
// which is what a site has at most (RFC 6177). site is "" for other addresses.
func networks(address string) (own, site string) {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address, ""
	}
	if ip.Is4() {
		return address, "" // it has one spelling only
	}
	if ip = ip.Unmap().WithZone(""); ip.Is4() {
		return ip.String(), ""
	}
	return prefix(ip, 64), prefix(ip, 48)
}

func prefix(ip netip.Addr, bits int) string {
	network, _ := ip.Prefix(bits) // no error: an IPv6 address has that many bits
	return network.String()
}
