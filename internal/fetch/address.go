package fetch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/uris"
)

// special are the special-use networks (RFC 6890, and the registries of IANA that it made) in which a public server cannot be. Those of
// IPv6 are in addition to everything outside of global, from which IANA gives addresses to servers. They include the addresses that have
// an IPv4 address in them, 6to4 and Teredo, but for NAT64.
var special = prefixes(
	"0.0.0.0/8",       // this network
	"10.0.0.0/8",      // private
	"100.64.0.0/10",   // shared by the customers of a provider
	"127.0.0.0/8",     // loopback
	"169.254.0.0/16",  // link-local, and the metadata services of clouds
	"172.16.0.0/12",   // private
	"192.0.0.0/24",    // protocols
	"192.0.2.0/24",    // documentation
	"192.31.196.0/24", // AS112
	"192.52.193.0/24", // AMT
	"192.88.99.0/24",  // 6to4 relays
	"192.168.0.0/16",  // private
	"192.175.48.0/24", // AS112
	"198.18.0.0/15",   // benchmarks
	"198.51.100.0/24", // documentation
	"203.0.113.0/24",  // documentation
	"224.0.0.0/4",     // multicast
	"240.0.0.0/4",     // reserved, and broadcast

	"2001::/23",         // protocols: Teredo, benchmarks, ORCHID
	"2001:db8::/32",     // documentation
	"2002::/16",         // 6to4
	"2620:4f:8000::/48", // AS112
	"3fff::/20",         // documentation
)

var (
	global = netip.MustParsePrefix("2000::/3")

	// nat64 has an IPv4 address in its last 32 bits, to which a gateway translates (RFC 6052 §2.1). A network without IPv4 has
	// nothing else for servers without IPv6.
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

func prefixes(list ...string) []netip.Prefix {
	parsed := make([]netip.Prefix, 0, len(list))
	for _, s := range list {
		parsed = append(parsed, netip.MustParsePrefix(s))
	}
	return parsed
}

// public reports whether a public server can have an address.
func public(address netip.Addr) bool {
	if address.Zone() != "" {
		return false
	}
	address = address.Unmap()
	if nat64.Contains(address) {
		bytes := address.As16()
		address = netip.AddrFrom4([4]byte(bytes[12:]))
	}
	if slices.ContainsFunc(special, func(network netip.Prefix) bool { return network.Contains(address) }) {
		return false
	}
	return address.Is4() || global.Contains(address)
}

// permitted reports whether a fetch may connect to an address.
func permitted(address netip.Addr, loopback bool) bool {
	return public(address) || loopback && address.Zone() == "" && address.Unmap().IsLoopback()
}

// maxAddresses is how many addresses of one name are tried.
const maxAddresses = 4

// dial connects to a host and port. The connection ends when the time of ctx is over, whoever waits for it.
func (f *Fetcher) dial(ctx context.Context, hostPort string, loopback bool) (net.Conn, error) {
	name, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	addresses, err := f.resolve(ctx, name, loopback)
	if err != nil {
		return nil, err
	}
	addresses = addresses[:min(len(addresses), maxAddresses)]
	for n, address := range addresses {
		var conn net.Conn
		if conn, err = f.try(ctx, netip.AddrPortFrom(address, uint16(number)), loopback, len(addresses)-n); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// try connects to an address. It takes a fair part of the time that is left to the addresses that are left.
func (f *Fetcher) try(ctx context.Context, address netip.AddrPort, loopback bool, left int) (net.Conn, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return nil, errors.New("a fetch without a time limit")
	}
	dialing, cancel := context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
	defer cancel()
	conn, err := f.connect(dialing, address, loopback)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(deadline)
}

// resolve returns the addresses of a host, all of which may be connected to. A name that also has one which may not is somebody's
// attempt to reach that.
func (f *Fetcher) resolve(ctx context.Context, name string, loopback bool) ([]netip.Addr, error) {
	addresses, err := f.lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	for n, address := range addresses {
		if !permitted(address, loopback) {
			return nil, &addressError{address}
		}
		addresses[n] = address.Unmap()
	}
	return addresses, nil
}

func (f *Fetcher) lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	if address, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{address}, nil
	}
	absolute := name + "." // not a name in a domain that the system searches
	if uris.IsLoopback(name) {
		absolute = "localhost" // not every resolver knows the names below it
	}
	addresses, err := f.resolver.LookupNetIP(ctx, "ip", absolute)
	if err == nil && len(addresses) == 0 {
		err = errors.New("no address")
	}
	if err != nil {
		return nil, &nameError{err}
	}
	return slices.Clone(addresses), nil
}

// connect connects to an address. It checks what the system is about to connect to, whatever was checked before.
func connect(ctx context.Context, address netip.AddrPort, loopback bool) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1, Control: func(_, to string, _ syscall.RawConn) error {
		dialed, err := netip.ParseAddrPort(to)
		if err != nil {
			return err
		}
		if !permitted(dialed.Addr(), loopback) {
			return &addressError{dialed.Addr()}
		}
		return nil
	}}
	return d.DialContext(ctx, "tcp", address.String())
}

// addressError says that a fetch may not connect to an address.
type addressError struct{ address netip.Addr }

func (e *addressError) Error() string {
	return fmt.Sprintf("expected a host with public addresses only, not %s", e.address)
}

// nameError says that a name has no address.
type nameError struct{ err error }

func (e *nameError) Error() string { return e.err.Error() }
func (e *nameError) Unwrap() error { return e.err }
