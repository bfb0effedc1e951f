package crash_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/internal/testneeds"
)

// disk is a small file system for a test.
type disk struct {
	t    *testing.T
	path string
}

// mountDisk mounts a disk of some MB until the test ends.
func mountDisk(t *testing.T) *disk {
	t.Helper()
	d := &disk{t, t.TempDir()}
	err := d.mount(0)
	if errors.Is(err, syscall.EPERM) {
		testneeds.Missing(t, "run this test as root, so that it can mount a disk")
	}
	must(t, err)
	t.Cleanup(func() { _ = syscall.Unmount(d.path, syscall.MNT_DETACH) }) // it is removed when the last file on it is closed
	return d
}

func (d *disk) mount(flags uintptr) error {
	return syscall.Mount("tmpfs", d.path, "tmpfs", flags, "size=16m,mode=0700")
}

// fill fills the disk to the last byte.
func (d *disk) fill() {
	d.t.Helper()
	file, err := os.Create(filepath.Join(d.path, "filler")) // #nosec G304 -- on a disk of the test
	must(d.t, err)
	for _, size := range []int{64 << 10, 1} {
		for err == nil {
			_, err = file.Write(bytes.Repeat([]byte{'x'}, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			d.t.Fatal(err)
		}
		err = nil
	}
	must(d.t, file.Close())
}

func (d *disk) empty() { must(d.t, os.Remove(filepath.Join(d.path, "filler"))) }

// readOnly makes the kernel refuse every write, also from root. The kernel accepts that only while no file is open for writing.
func (d *disk) readOnly() {
	integration.Eventually(d.t, "the disk is read-only", func() bool {
		err := d.mount(syscall.MS_REMOUNT | syscall.MS_RDONLY)
		if err != nil && !errors.Is(err, syscall.EBUSY) {
			d.t.Fatal(err)
		}
		return err == nil
	})
}

func (d *disk) writable() { must(d.t, d.mount(syscall.MS_REMOUNT)) }

// The disk is full for a while. Records can still be read, and no client loses anything.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	d := mountDisk(t)
	config := shop(opaque)
	config.Storage = filepath.Join(d.path, "storage")
	withFault(t, config, fault{begin: d.fill, end: d.empty, lasts: 3 * time.Second, troubles: []string{"no space left"}})
}

func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	d := mountDisk(t)
	config := shop(opaque)
	config.Storage = filepath.Join(d.path, "storage")
	withFault(t, config, fault{begin: d.readOnly, end: d.writable, lasts: 3 * time.Second, troubles: []string{"the file system is read-only"}})
}

// A node is killed while its disk is full, and starts on it.
func TestKillOnFullDisk(t *testing.T) {
	t.Parallel()
	d := mountDisk(t)
	config := shop("")
	config.Storage, config.Ailing = filepath.Join(d.path, "storage"), true
	s, store := integration.Start(t, config), filesIn(config.Storage)
	l := newLoad(t, s, false)
	for range 3 {
		l.progress(t, 5)
		l.troubled.Store(true)
		d.fill()
		<-time.After(anyTime(100 * time.Millisecond))
		s.Kill()
		walk(t, store)
		s.Run()
		l.refusedOnce(t)
		d.empty()
		l.progress(t, 3)
		l.troubled.Store(false)
	}
	l.finish(t)
	s.Stop()
	walk(t, store)
	checkErrors(t, s.Log(), fault{times: 6, troubles: []string{"no space left"}})
}

// A used token or code is presented while the disk is full, and the node is killed and starts on the full disk. The family is over
// from the first answer on: its record says so, since it was overwritten in place.
func TestReuseOnFullDisk(t *testing.T) {
	d := mountDisk(t)
	config := shop("")
	config.Storage, config.Ailing = filepath.Join(d.path, "storage"), true
	s := integration.Start(t, config)
	client := s.Client(t)
	post := func(form url.Values) *integration.Answer {
		t.Helper()
		answer, err := integration.Post(t.Context(), client, s.TokenURL(), form)
		must(t, err)
		return answer
	}
	refresh := func(token string) *integration.Answer {
		t.Helper()
		return post(integration.RefreshRequest("app", token))
	}
	type family struct {
		reuse  url.Values // of what was used long ago
		newest *integration.Answer
	}
	begin := func(name string, byCode bool) (f family) {
		t.Helper()
		person := &integration.Person{Name: name, Password: integration.Password, Browser: s.Client(t)}
		verifier := oauth2.GenerateVerifier()
		s.Secrets.Add(verifier)
		code := person.Allow(t, s.AppClient().AuthCodeURL("a-state", oauth2.S256ChallengeOption(verifier))).Get("code")
		f.reuse = integration.CodeRequest(s.AppClient(), code, verifier)
		f.newest = post(f.reuse)
		if !byCode {
			f.reuse = integration.RefreshRequest("app", f.newest.RefreshToken)
		}
		for range 2 {
			if f.newest = refresh(f.newest.RefreshToken); f.newest.RefreshToken == "" {
				t.Fatalf("a refresh: %d %s", f.newest.Status, f.newest.Error)
			}
		}
		return f
	}
	families := map[string]family{"refresh token": begin(customer(0), false), "code": begin(customer(1), true)}
	spared := begin(customer(2), false)

	d.fill()
	for name, f := range families {
		if answer := post(f.reuse); !answer.Refused("invalid_grant") {
			t.Errorf("the reuse of a %s on a full disk: %d %s", name, answer.Status, answer.Error)
		}
	}
	if n := bytes.Count(s.Log(), []byte("reuse detected: refresh tokens of the family revoked, but the store does not take the revocation of its access tokens")); n != len(families) {
		t.Errorf("the log tells of %d reuses, want %d", n, len(families))
	}
	s.Kill()
	s.Run()
	for name, f := range families {
		if answer := refresh(f.newest.RefreshToken); !answer.Refused("invalid_grant") {
			t.Errorf("the newest refresh token after the reuse of a %s, a kill and a start: %d %s", name, answer.Status, answer.Error)
		}
	}
	d.empty()
	for name, f := range families {
		if answer := refresh(f.newest.RefreshToken); !answer.Refused("invalid_grant") {
			t.Errorf("the newest refresh token after the reuse of a %s, once there is room: %d %s", name, answer.Status, answer.Error)
		}
		integration.Eventually(t, "the access token is void too", func() bool {
			status, _ := s.CallAPI(t, f.newest.AccessToken)
			return status == http.StatusUnauthorized
		})
	}
	s.Kill()
	s.Run()
	for name, f := range families {
		if status, _ := s.CallAPI(t, f.newest.AccessToken); status != http.StatusUnauthorized {
			t.Errorf("the access token after the reuse of a %s and another kill: %d", name, status)
		}
	}
	if again := refresh(spared.newest.RefreshToken); again.RefreshToken == "" {
		t.Errorf("the refresh token of another family: %d %s", again.Status, again.Error)
	}
}
