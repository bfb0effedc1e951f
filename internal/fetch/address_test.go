package fetch

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
)

func TestPublic(t *testing.T) {
	for address, want := range map[string]bool{
		"93.184.216.34": true, "1.1.1.1": true, "9.255.255.255": true, "11.0.0.0": true, "100.63.255.255": true, "100.128.0.0": true,
		"126.255.255.255": true, "128.0.0.1": true, "169.253.255.255": true, "169.255.0.0": true, "172.15.255.255": true, "172.32.0.0": true,
		"192.0.1.0": true, "192.167.255.255": true, "192.169.0.0": true, "198.17.255.255": true, "198.20.0.0": true, "223.255.255.255": true,
		"2606:2800:220:1::1": true, "2a00::1": true, "2001:200::1": true, "2400:cb00::1": true, "3ffe::1": true,
		"::ffff:93.184.216.34": true, "64:ff9b::93.184.216.34": true,

		"0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "100.64.0.1": false, "100.127.255.255": false, "127.0.0.1": false,
		"127.255.255.254": false, "169.254.169.254": false, "172.16.0.1": false, "172.31.255.255": false, "192.0.0.1": false, "192.0.0.171": false,
		"192.0.2.1": false, "192.31.196.1": false, "192.52.193.1": false, "192.88.99.1": false, "192.168.1.1": false, "192.175.48.1": false,
		"198.18.0.1": false, "198.19.255.255": false, "198.51.100.1": false, "203.0.113.1": false, "224.0.0.1": false, "239.255.255.255": false,
		"240.0.0.1": false, "255.255.255.255": false,

		"::": false, "::1": false, "::7f00:1": false, "::10.0.0.1": false, "::93.184.216.34": false,
		"::ffff:10.0.0.1": false, "::ffff:127.0.0.1": false, "::ffff:169.254.169.254": false, "::ffff:0.0.0.0": false,
		"::ffff:0:10.0.0.1": false, "::ffff:0:93.184.216.34": false,
		"64:ff9b::7f00:1": false, "64:ff9b::10.0.0.1": false, "64:ff9b::a9fe:a9fe": false, "64:ff9b::0.0.0.0": false,
		"64:ff9b:0:0:0:1:5db8:d822": false, "64:ff9b:1::93.184.216.34": false, "64:ff9b:1:fffe::1": false,
		"2002:7f00:1::": false, "2002:a00:1::1": false, "2002:5db8:d822::1": false,
		"2001:0:4136:e378:8000:63bf:f5ff:fffe": false, "2001::1": false, "2001:2::1": false, "2001:20::1": false, "2001:db8::1": false, "2001:1ff::1": false,
		"3fff::1": false, "2620:4f:8000::1": false, "100::1": false, "100:0:0:1::1": false, "5f00::1": false, "4000::1": false, "1fff::1": false,
		"fc00::1": false, "fd00:ec2::254": false, "fe80::1": false, "fe80::1%eth0": false, "febf::1": false, "fec0::1": false, "ff02::1": false,
		"2606:2800:220:1::1%eth0": false,
	} {
		if got := public(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
	if public(netip.Addr{}) {
		t.Error("no address is public")
	}
}

func TestPermittedOnLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1": true, "127.1.2.3": true, "::1": true, "::ffff:127.0.0.1": true, "93.184.216.34": true,
		"::1%lo": false, "0.0.0.0": false, "::": false, "10.0.0.1": false, "169.254.169.254": false, "fe80::1": false,
		"64:ff9b::7f00:1": false, "2002:7f00:1::": false, "::7f00:1": false,
	} {
		if got := permitted(netip.MustParseAddr(address), true); got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
}

// The answers of a resolver that lead where only this server can go. Nothing is dialed.
func TestSpecialAnswers(t *testing.T) {
	for _, answer := range [][]string{
		{"127.0.0.1"},
		{"10.0.0.1"},
		{"169.254.169.254"},
		{"0.0.0.0"},
		{"::1"},
		{"::"},
		{"::ffff:10.0.0.1"},
		{"64:ff9b::7f00:1"},
		{"64:ff9b:1::7f00:1"},
		{"2002:7f00:1::"},
		{"2001:0:4136:e378:8000:63bf:80ff:fffe"},
		{"fe80::1%eth0"},
		{publicAddress, "10.0.0.1"},
		{"10.0.0.1", publicAddress},
		{publicAddress, "2606:2800:220:1::1", "1.1.1.1", "1.0.0.1", "9.9.9.9", "::1"},
	} {
		s := newSite(t, sendDocument)
		s.names.answers = [][]string{answer}
		e := refused(t, second(s.Get(t.Context(), request())), SpecialAddress)
		if len(s.dials()) != 0 {
			t.Errorf("%v: dialed %v", answer, s.dials())
		}
		if !e.Sent() {
			t.Errorf("%v: no fetch", answer)
		}
	}
}

// An address in the URL is no way around the resolver.
func TestSpecialAddressesInURLs(t *testing.T) {
	for _, url := range []string{
		"https://127.0.0.1/", "https://10.0.0.1:8443/", "https://169.254.169.254/latest/meta-data", "https://[::1]/", "https://[::ffff:10.0.0.1]/",
		"https://[::ffff:a00:1]/", "https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/", "https://0.0.0.0/", "https://[::]/", "https://[fe80::1]/",
	} {
		s := newSite(t, sendDocument)
		r := request()
		r.URL = url
		_ = refused(t, second(s.Get(t.Context(), r)), SpecialAddress)
		if len(s.dials()) != 0 || len(s.names.asked) != 0 {
			t.Errorf("%s: dialed %v, resolved %v", url, s.dials(), s.names.asked)
		}
	}
}

// A name of this machine is not even resolved where loopback is not allowed, whatever the resolver says.
func TestLocalhost(t *testing.T) {
	s := newSite(t, sendDocument)
	s.names.answers = [][]string{{"127.0.0.1"}}
	for _, name := range []string{"localhost", "app.localhost"} {
		r := request()
		r.URL = "https://" + name + "/"
		_ = refused(t, second(s.Get(t.Context(), r)), SpecialAddress)
	}
}

// A name that is public when it is checked and private when it is used: the name is resolved once, and that address is dialed.
func TestRebinding(t *testing.T) {
	s := newSite(t, sendDocument)
	s.names.answers = [][]string{{publicAddress}, {"127.0.0.1"}}
	if _, err := s.Get(t.Context(), request()); err != nil {
		t.Fatal(err)
	}
	if len(s.names.asked) != 1 || s.dials()[0].Addr().String() != publicAddress {
		t.Errorf("resolved %d times, dialed %v", len(s.names.asked), s.dials())
	}
	_ = refused(t, second(s.Get(t.Context(), request())), SpecialAddress)
}

func TestUnknownHost(t *testing.T) {
	s := newSite(t, sendDocument)
	s.names.answers = [][]string{nil, {}}
	for range 2 {
		_ = refused(t, second(s.Get(t.Context(), request())), UnknownHost)
		s.clock.Advance(firstBackOff)
	}
}

// The last check is that of the address that the system is about to connect to.
func TestConnectChecksWhatIsDialed(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	address := netip.MustParseAddrPort(listener.Addr().String())
	for _, to := range []netip.AddrPort{address, netip.AddrPortFrom(netip.AddrFrom16(address.Addr().As16()), address.Port()), netip.AddrPortFrom(netip.IPv4Unspecified(), address.Port())} {
		conn, err := connect(t.Context(), to, false)
		var special *addressError
		if conn != nil || !errors.As(err, &special) {
			t.Errorf("%s: %v, %v", to, conn, err)
		}
	}
	conn, err := connect(t.Context(), address, true)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

// The addresses of a name are tried one after the other, but not without end.
func TestAddressesInTurn(t *testing.T) {
	s := newSite(t, sendDocument)
	s.names.answers = [][]string{{"93.184.216.31", "93.184.216.32", "93.184.216.33", "93.184.216.34", "93.184.216.35"}}
	var tried []string
	works := s.connect
	s.connect = func(ctx context.Context, address netip.AddrPort, loopback bool) (net.Conn, error) {
		tried = append(tried, address.Addr().String())
		if address.Addr().String() != "93.184.216.33" {
			return nil, errors.New("no route")
		}
		return works(ctx, address, loopback)
	}
	if _, err := s.Get(t.Context(), request()); err != nil || len(tried) != 3 {
		t.Errorf("tried %v: %v", tried, err)
	}
	tried = nil
	s.connect = func(_ context.Context, address netip.AddrPort, _ bool) (net.Conn, error) {
		tried = append(tried, address.Addr().String())
		return nil, errors.New("no route")
	}
	_ = refused(t, second(s.Get(t.Context(), request())), NoConnection)
	if want := []string{"93.184.216.31", "93.184.216.32", "93.184.216.33", "93.184.216.34"}; !slices.Equal(tried, want) {
		t.Errorf("tried %v", tried)
	}
}

func TestIPv4InIPv6(t *testing.T) {
	s := newSite(t, sendDocument)
	s.names.answers = [][]string{{"::ffff:" + publicAddress}}
	if _, err := s.Get(t.Context(), request()); err != nil || s.dials()[0].Addr().String() != publicAddress {
		t.Errorf("dialed %v: %v", s.dials(), err)
	}
}

// An issuer on this machine can fetch from this machine, with and without TLS, and from nowhere else that is not public.
func TestLoopback(t *testing.T) {
	s := newSite(t, sendDocument)
	s.connect = connect
	r := request()
	r.URL = "https://" + s.server.Listener.Addr().String() + "/"
	_ = refused(t, second(s.Get(t.Context(), r)), SpecialAddress)
	r.Loopback = true
	s.clock.Advance(firstBackOff)
	if _, err := s.Get(t.Context(), r); err != nil {
		t.Error(err)
	}
	r.URL = "https://example.com:" + s.server.URL[len("https://127.0.0.1:"):] + "/"
	s.names.answers = [][]string{{"127.0.0.1"}}
	if _, err := s.Get(t.Context(), r); err != nil {
		t.Error(err)
	}
	r.URL = "http://app.localhost/"
	s.names.answers = [][]string{{"10.0.0.1"}}
	_ = refused(t, second(s.Get(t.Context(), r)), SpecialAddress)
	if asked := s.names.asked[len(s.names.asked)-1]; asked != "localhost" {
		t.Errorf("resolved %s", asked)
	}
}
