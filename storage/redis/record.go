package redis

import (
	"crypto/sha1" //nolint:gosec // G505: Redis names scripts by their SHA-1
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// record is the value of a key in Redis:
//
//	mark (1 byte)   distinguishes our records from values of others
//	stamp (8)       random, new with each write: two records with the same stamp are the same write
//	expiry (8)      in milliseconds since 1970, 0 for never; Redis decides when a record expires, this is for exports
//	value
//
// The empty record is none. A record never changes.
type record string

const (
	recordMark  = '\x01'
	stampLength = 1 + 8
	headLength  = stampLength + 8
)

func newRecord(value []byte, expires time.Time) record {
	var head [headLength]byte
	head[0] = recordMark
	binary.LittleEndian.PutUint64(head[1:], rand.Uint64())                                   //nolint:gosec // G404: unique, but no secret
	binary.LittleEndian.PutUint64(head[stampLength:], uint64(storage.ExpiryMillis(expires))) //nolint:gosec // G115: it is not negative
	var b strings.Builder
	b.Grow(headLength + len(value))
	b.Write(head[:])
	b.Write(value)
	return record(b.String())
}

// readRecord returns the value of a key as a record.
func readRecord(stored string) (record, error) {
	if len(stored) < headLength || stored[0] != recordMark {
		return "", storage.ErrDamaged
	}
	return record(stored), nil
}

// stamp returns the mark and the stamp, "" if there is no record.
func (r record) stamp() string {
	if r == "" {
		return ""
	}
	return string(r[:stampLength])
}

// value returns a copy of the value, nil if there is no record.
func (r record) value() []byte {
	if r == "" {
		return nil
	}
	return []byte(r[headLength:])
}

// expires returns when the record expires, zero for never.
func (r record) expires() time.Time {
	millis := binary.LittleEndian.Uint64([]byte(r[stampLength:headLength]))
	return storage.ExpiryFromMillis(int64(millis)) //nolint:gosec // G115: there and back
}

// ttl returns the record and how many milliseconds it has left, 0 for ever. An expired one becomes the empty record. The time is
// relative, so that the clocks of this machine and of Redis need not agree.
func (r record) ttl() (record, int64) {
	if r == "" {
		return "", 0
	}
	expires := r.expires()
	if expires.IsZero() {
		return r, 0
	}
	left := time.Until(expires)
	if left <= 0 {
		return "", 0
	}
	return r, int64((left + time.Millisecond - 1) / time.Millisecond)
}

// script is a Lua script, which Redis runs atomically. It is sent by its hash, and in full only to a Redis that does not know it.
type script struct{ source, hash string }

func newScript(source string) script {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // G401: Redis names scripts by their SHA-1
	return script{source, hex.EncodeToString(sum[:])}
}

// The keys of the scripts are the key of a record and, if its kind has one, the index of the kind: a sorted set of IDs, by the
// millisecond in which they expire. The name of the index is also the name of a channel on which the IDs of written records are
// published.
var (
	// writeScript writes a record, or deletes it if the new one is empty, and answers 1. If the stamp of the stored record is not the
	// expected one, it answers with the stored record; an expected * matches any. It removes expired IDs from the index, because
	// nothing else does for a kind that nobody lists.
	//
	// A user that may not publish can still write.
	writeScript = newScript(fmt.Sprintf(`
local expected, record, life, id = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if expected ~= '*' and redis.call('GETRANGE', KEYS[1], 0, %d) ~= expected then
	return redis.call('GET', KEYS[1])
end
local index = KEYS[2]
if record == '' then
	redis.call('DEL', KEYS[1])
	if index then redis.call('ZREM', index, id) end
elseif life == '0' then
	redis.call('SET', KEYS[1], record)
	if index then redis.call('ZADD', index, '+inf', id) end
else
	redis.call('SET', KEYS[1], record, 'PX', life)
	if index then
		local time = redis.call('TIME')
		local now = time[1] * 1000 + math.floor(time[2] / 1000)
		redis.call('ZREMRANGEBYSCORE', index, '-inf', now)
		redis.call('ZADD', index, now + 1 + life, id)
	end
end
if index then redis.pcall('PUBLISH', index, id) end
return 1`, stampLength-1))

	// readScript answers with a record. If the record has vanished before its time, as when somebody deleted it by hand, the script
	// removes its ID from the index.
	readScript = newScript(`
local record = redis.call('GET', KEYS[1])
if not record then redis.call('ZREM', KEYS[2], ARGV[1]) end
return record`)

	// trimScript removes expired IDs from an index, its only key.
	trimScript = newScript(`
local time = redis.call('TIME')
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', time[1] * 1000 + math.floor(time[2] / 1000))`)
)

// cache holds the records that this process saw last, up to a size. Other processes may have written since, so Redis has to confirm the
// stamp before a cached record counts.
//
// It has two halves. Records go into the new half. When that is full, the old half is dropped and the new one becomes the old one.
type cache struct {
	half int // size of a half in bytes

	mu       sync.Mutex
	size     int // of the new half
	new, old map[string]record
}

// entryOverhead is about how much memory an entry needs besides its record.
const entryOverhead = 180

func entrySize(r record) int { return len(r) + entryOverhead }

func newCache(size int) *cache {
	return &cache{half: size / 2, new: make(map[string]record), old: make(map[string]record)}
}

func (c *cache) get(key string) (record, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.new[key]
	if !ok {
		if r, ok = c.old[key]; !ok {
			return "", false
		}
		delete(c.old, key)
		c.add(key, r)
	}
	if storage.Expired(r.expires(), time.Now()) {
		c.remove(key)
		return "", false
	}
	return r, true
}

func (c *cache) put(key string, r record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(key)
	c.add(key, r)
}

func (c *cache) drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(key)
}

func (c *cache) add(key string, r record) {
	if entrySize(r) > c.half {
		return
	}
	if c.size+entrySize(r) > c.half {
		c.old, c.new, c.size = c.new, make(map[string]record), 0
	}
	c.new[key] = r
	c.size += entrySize(r)
}

func (c *cache) remove(key string) {
	delete(c.old, key)
	if r, ok := c.new[key]; ok {
		delete(c.new, key)
		c.size -= entrySize(r)
	}
}
