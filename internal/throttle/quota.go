package throttle

import (
	"fmt"
	"strings"
	"time"
)

// These limit requests that are no failures but leave a record. All are counted by Reserve…, unless their Attempt is Canceled.

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

// CodeLimits says which limits ReserveFamily has, such as "20 in 1m0s, 200 in 24h0m0s".
func (l *Limiter) CodeLimits() string {
	limits := make([]string, 0, len(l.limits.Codes))
	for _, limit := range l.limits.Codes {
		limits = append(limits, fmt.Sprintf("%d in %s", limit.Burst, time.Duration(limit.Burst)*limit.Every))
	}
	return strings.Join(limits, ", ")
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
