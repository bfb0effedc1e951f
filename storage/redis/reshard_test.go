package redis

import (
	"fmt"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// While slots move from one node of a Cluster to another, no update is lost or applied twice.
func TestReshard(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t)
	ctx := t.Context()
	var addresses, ids []string
	for _, node := range nodes {
		id, err := node.admin(t).Do(ctx, "CLUSTER", "MYID").Text()
		noError(t, err)
		addresses, ids = append(addresses, node.address), append(ids, id)
	}
	const keys, workers = 60, 4
	key := func(i int) storage.Key {
		if i%2 == 0 { // spread over the slots, or in the slot of its kind
			return storage.Key{Kind: storage.KindFamily, ID: fmt.Sprintf("zzzz.%032x", i)}
		}
		return storage.Key{Kind: "few", ID: strconv.Itoa(i)}
	}
	var stores []*store
	for i := range keys {
		stores = append(stores, openStore(t, "issuer"+strconv.Itoa(i), addresses...))
	}
	var counted [keys]atomic.Int64
	var moved atomic.Bool
	var counting sync.WaitGroup
	for worker := range workers {
		counting.Go(func() {
			for i := worker; !moved.Load(); i++ {
				i := i % keys
				err := stores[i].Update(ctx, key(i), func(old []byte) ([]byte, time.Time, error) {
					n, _ := strconv.ParseInt("0"+string(old), 10, 64)
					return strconv.AppendInt(nil, n+1, 10), never, nil
				})
				if err != nil {
					t.Errorf("%v: %v", key(i), err)
				}
				counted[i].Add(1)
			}
		})
	}
	for from := range nodes {
		out, err := exec.CommandContext(ctx, redisProgram(t, "redis-cli"), "--cluster", "reshard", addresses[0], "--cluster-from", ids[from],
			"--cluster-to", ids[(from+1)%len(ids)], "--cluster-slots", "1000", "--cluster-yes").CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out[max(0, len(out)-2000):])
		}
	}
	moved.Store(true)
	counting.Wait()
	for i := range keys {
		wantValue(t, stores[i], key(i), strconv.FormatInt(counted[i].Load(), 10))
	}
}
