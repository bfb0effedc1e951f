// Package cluster_test runs two nodes of one issuer on each kind of store. People, apps and attackers use them while the nodes are
// reloaded, stopped and killed. Start reading at run.
//
// By default there are only a few approvals. In full, with the figures:
//
//	CADDY_OAUTH_TEST_FLOWS=10000 go test -count=1 -v -timeout 90m ./integration/cluster
package cluster_test

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

func TestMain(m *testing.M) { os.Exit(integration.Main(m)) }

var must = integration.Must

const (
	nodes        = 2
	workers      = 16          // each with a customer
	poll         = time.Second // revocation_poll: after this time, every node refuses what one has revoked
	busy         = time.Minute // how much longer a machine may take that other programs keep busy
	defaultFlows = 100
)

// flows returns how many approvals there are.
func flows(t *testing.T) int64 {
	t.Helper()
	text, ok := os.LookupEnv("CADDY_OAUTH_TEST_FLOWS")
	if !ok {
		return defaultFlows
	}
	n, err := strconv.ParseInt(text, 10, 64)
	must(t, err)
	return n
}

// backend is a store that nodes share.
type backend struct {
	setting string                                      // a setting of the issuer, or ""
	node    func(integration.Config) integration.Config // returns the configuration of a node that uses it
	store   storage.Store                               // the store, to read and change records directly
	dir     string                                      // the directory of the records, if nodes have to sweep them
}

// cluster is a number of nodes on one store.
type cluster struct {
	backend

	nodes     []*integration.Server
	configs   [][]byte            // the configurations of the nodes
	up        [nodes]sync.RWMutex // locked while a node is down
	transport *http.Transport
	kids      map[string]bool // the keys that the store must have
	kills     kills
	figures   figures
}

// run runs the whole test on a backend.
func run(t *testing.T, b backend) {
	t.Helper()
	expired := b.putExpired(t)
	began := time.Now()
	c := start(t, b)
	c.race(t)
	c.load(t)
	c.sameKeys(t)
	if b.dir != "" {
		c.checkSweeps(t, time.Since(began), expired)
	}
	t.Log(c.figures.String(c.kills.done.Load()))
}

func start(t *testing.T, b backend) *cluster {
	t.Helper()
	return startWith(t, b, shop(b.setting))
}

// startWith starts nodes with a configuration, all for the issuer of the first.
func startWith(t *testing.T, b backend, config integration.Config) *cluster {
	t.Helper()
	c := &cluster{backend: b, transport: &http.Transport{MaxIdleConnsPerHost: 2 * workers}}
	t.Cleanup(c.transport.CloseIdleConnections)
	config = b.node(config)
	for range nodes {
		node := integration.Start(t, config)
		config.Issuer, config.Secrets = node.Issuer, node.Secrets // all nodes have those of the first
		c.nodes, c.configs = append(c.nodes, node), append(c.configs, node.Adapted(t))
	}
	return c
}

// shop returns the integration shop behind a load balancer, with a guarded API and a customer for each worker.
func shop(setting string) integration.Config {
	config := integration.ShopWith(fmt.Sprintf("revocation_poll %s\nrefresh_token {\n retry 2m\n }\n%s", poll, setting))
	config.Global += "servers {\n trusted_proxies static 127.0.0.1/32\n }\n"
	before, after, _ := strings.Cut(config.Sites, integration.Customer+" ")
	hash, after, _ := strings.Cut(after, "\n")
	for id := range workers {
		before += customer(id) + " " + hash + "\n"
	}
	config.Sites = strings.NewReplacer(
		`respond "the shop"`, "oauth_guard /api/*\nrespond /api/* {http.auth.user.id}",
		"\tlog\n", "", // 10,000 approvals would write too many lines
	).Replace(before + after)
	return config
}

func customer(id int) string { return "customer" + strconv.Itoa(id) }

// everywhere calls do for all nodes at the same time.
func (c *cluster) everywhere(do func(node int)) {
	var running sync.WaitGroup
	for node := range c.nodes {
		running.Go(func() { do(node) })
	}
	running.Wait()
}
