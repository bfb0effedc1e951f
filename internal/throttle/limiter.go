package throttle

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Kind is what somebody failed at, or does too often, and a label of the metrics.
type Kind string

// The kinds. Each has limits of its own.
const (
	Register Kind = "register" // to register a client, which is no failure
	Code     Kind = "code"     // to get a code, which is no failure
	Push     Kind = "push"     // to push an authorization request, which is no failure
	Visit    Kind = "visit"    // to come to the login with a pushed request, which is no failure
	Device   Kind = "device"   // to get a device code, which is no failure
	Login    Kind = "login"    // to get a refresh token for a password, which is none either
	Client   Kind = "client"   // to authenticate as a client, with a secret
	Key      Kind = "key"      // to authenticate as a client, with a key
	Password Kind = "password" // to give the password of an account
	Grant    Kind = "grant"    // to present a valid code or refresh token
	Token    Kind = "token"    // to present a valid access token
	Request  Kind = "request"  // to present a request object that the client has signed
	UserCode Kind = "usercode" // to type the code that a device shows
)

// Limits are the limits of an issuer. A Limit that is zero has its default.
type Limits struct {
	Off       bool  // nothing is limited
	Clients   Limit // wrong secrets for one client; wrong assertions or certificates for one client at one address
	Passwords Limit // wrong passwords for one account
	Addresses Limit // both, from one address
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
// Addresses are those of clients as the site trusts them. Of an IPv6 address only the first 64 bits count, since
// everybody has more of the rest than anybody can count. Many have 2^16 such networks: all of the same first 48 bits
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

// ReserveFamily allows a user a Code for a client, or a refresh token for a Login, and counts it unless the Attempt is Canceled.
// account is the hash of user and client. Each kind has its own count: a program that logs in again and again must not keep its user
// from getting a code.
func (l *Limiter) ReserveFamily(kind Kind, account string) (a *Attempt, wait time.Duration) {
	if l.limits.Off {
		return &Attempt{}, 0
	}
	a = &Attempt{limiter: l, kind: kind}
	a.limits = make([]limited, 0, len(l.limits.Codes))
	for n, limit := range l.limits.Codes {
		a.limits = append(a.limits, limited{key{l.issuer, l.families[kind][n], account, ""}, limit})
	}
	return l.reserve(a)
}

// ReserveRegistration allows an address to register a client, and counts it unless the Attempt is Canceled.
func (l *Limiter) ReserveRegistration(address string) (a *Attempt, wait time.Duration) {
	return l.reserveAddress(Register, l.limits.Registrations, address)
}

// ReservePush allows a client to push an authorization request, and counts it unless the Attempt is Canceled. known is as in
// reserveRecord.
func (l *Limiter) ReservePush(client, address string, known bool) (a *Attempt, wait time.Duration) {
	return l.reserveRecord(Push, l.limits.Pushed, client, address, known)
}

// ReserveDevice allows a client to get a device code, and counts it unless the Attempt is Canceled. known is as in reserveRecord.
func (l *Limiter) ReserveDevice(client, address string, known bool) (a *Attempt, wait time.Duration) {
	return l.reserveRecord(Device, l.limits.Devices, client, address, known)
}

const (
	timesOfKnown  = 20  // times the limit of an address: for a client that is known
	timesOfPublic = 100 // times the limit of an address: for a client that anybody can be, from all addresses together
)

// reserveRecord allows a client a request that leaves a record. A known client has authenticated, and the owner has added it. It may
// serve many people from one address, so that only the client counts. Anybody can ask in the name of a public client, and can register
// others: these have the limit of the address, and a high one for all addresses.
func (l *Limiter) reserveRecord(kind Kind, limit Limit, client, address string, known bool) (a *Attempt, wait time.Duration) {
	if l.limits.Off {
		return &Attempt{}, 0
	}
	a = &Attempt{limiter: l, kind: kind}
	times := timesOfKnown
	if !known {
		own, site := networks(address)
		a.limits, times = l.addressLimits(kind, "", own, site, limit), timesOfPublic
	}
	a.limits = append(a.limits, limited{key{l.issuer, kind, client, ""}, limit.times(times)})
	return l.reserve(a)
}

// ReserveVisit allows an address to have a pushed request kept for a login, and counts it unless the Attempt is Canceled. It has the
// limit of an address for pushes, and a count of its own.
func (l *Limiter) ReserveVisit(address string) (a *Attempt, wait time.Duration) {
	return l.reserveAddress(Visit, l.limits.Pushed, address)
}

func (l *Limiter) reserveAddress(kind Kind, limit Limit, address string) (a *Attempt, wait time.Duration) {
	if l.limits.Off {
		return &Attempt{}, 0
	}
	own, site := networks(address)
	return l.reserve(&Attempt{limiter: l, kind: kind, limits: l.addressLimits(kind, "", own, site, limit)})
}

// reserve counts an attempt against all of its limits, or against none if one of them is reached.
func (l *Limiter) reserve(a *Attempt) (reserved *Attempt, wait time.Duration) {
	if a.reserved, wait = l.throttle.reserve(l.now(), a.limits); wait > 0 {
		l.refused(string(a.kind))
		return nil, wait
	}
	return a, 0
}

// CodeLimits says which limits ReserveFamily has, such as "20 in 1m0s, 200 in 24h0m0s".
func (l *Limiter) CodeLimits() string {
	limits := make([]string, 0, len(l.limits.Codes))
	for _, limit := range l.limits.Codes {
		limits = append(limits, fmt.Sprintf("%d in %s", limit.Burst, time.Duration(limit.Burst)*limit.Every))
	}
	return strings.Join(limits, ", ")
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
		if !l.throttle.knows(key{l.issuer, kind, account, ""}, own) {
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
	a.Canceled()
	a.limiter.throttle.remember(key{a.limiter.issuer, a.kind, account, ""}, a.address)
}

// Failed notes that the secret was wrong.
func (a *Attempt) Failed() {
	if a.limiter != nil && a.reserved == nil {
		a.limiter.throttle.charge(a.limiter.now(), a.limits)
	}
}

// Canceled notes that the attempt neither succeeded nor failed.
func (a *Attempt) Canceled() {
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
