package redis

import (
	"crypto/sha1" //nolint:gosec // G505: it is what Redis names scripts by
	"encoding/hex"
	"fmt"

	goredis "github.com/redis/go-redis/v9"
)

// script is a Lua script, which Redis runs as one step. It is sent by its hash, and whole only to a Redis that does not
// know it yet.
type script struct{ source, hash string }

func newScript(source string) script {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // G401: it is what Redis names scripts by
	return script{source, hex.EncodeToString(sum[:])}
}

// The keys of the scripts are that of a record and, if its kind has one, that of the index of its kind: a sorted set of
// the IDs, by the millisecond in which they expire. The index is also the name of a channel that says which record
// was written.
var (
	// write writes a record, or deletes it if it is empty, and answers 1; or, if the stamp of what is there is not the
	// expected one, answers with what is there. An expected * is any. What is late leaves the index, since of a kind
	// that nobody lists it would never.
	//
	// Who may not publish shall not fail to write.
	write = newScript(fmt.Sprintf(`
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

	// read answers with the record. One that went before its time, as when somebody deleted it by hand, leaves the
	// index.
	read = newScript(`
local record = redis.call('GET', KEYS[1])
if not record then redis.call('ZREM', KEYS[2], ARGV[1]) end
return record`)

	// trim has those leave an index that are late. Its one key is the index.
	trim = newScript(`
local time = redis.call('TIME')
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', time[1] * 1000 + math.floor(time[2] / 1000))`)
)

// once is a command that the client must not send again by itself: when it does not know whether a write was done,
// somebody else has to find out.
type once struct{ *goredis.Cmd }

// NoRetry implements goredis.Cmder.
func (once) NoRetry() bool { return true }
