package stepwire

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

// ownerKey is the metadata in which a server says at which address a run lives.
const ownerKey = "stepwire-owner"

// replicas has a connection to each address, and knows which one to use. An address that a server names is only ever
// a choice among those that the caller gave: no credential goes anywhere else.
type replicas struct {
	addresses   []string
	connections []*grpc.ClientConn
	owners      sync.Map // run id to the index of an address
	// The index of the address for other calls; how often `owners` was written.
	current, learned atomic.Int64
}

func openReplicas(addresses string, o Options) (*replicas, error) {
	r := &replicas{}
	transport := insecure.NewCredentials()
	if o.TLS != nil {
		transport = credentials.NewTLS(o.TLS)
	}
	patience := backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<31-1), grpc.MaxCallSendMsgSize(1<<31-1)),
		// A server that hangs is found out, though its kernel keeps the connection. gRPC for Go pings every 10 seconds at most.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: patience, MinConnectTimeout: 3 * time.Second}),
	}
	if o.Token != nil {
		options = append(options, grpc.WithPerRPCCredentials(bearer(o)))
	}
	for address := range strings.SplitSeq(addresses, ",") {
		address = strings.TrimSpace(address)
		connection, err := grpc.NewClient(address, append(options, o.Dial...)...)
		if err == nil {
			r.addresses, r.connections = append(r.addresses, address), append(r.connections, connection)
		}
		if err := errors.Join(err, o.check(address)); err != nil {
			return nil, errors.Join(err, r.close())
		}
	}
	return r, nil
}

// check says why an address cannot be.
func (o Options) check(address string) error {
	if address == "" || strings.HasPrefix(address, "http://") || strings.HasPrefix(address, "https://") {
		return fmt.Errorf("an address is HOST:PORT, not %q", address)
	}
	host, _, _ := net.SplitHostPort(address)
	local := strings.HasPrefix(address, "unix:") || host == "localhost" || net.ParseIP(host).IsLoopback()
	if o.Token != nil && o.TLS == nil && !o.PlainToken && !local {
		return fmt.Errorf("a token would go unencrypted to %s: set TLS, or PlainToken to allow it", address)
	}
	return nil
}

// pick returns the index of the connection for a run; "" is a call about no run that is known.
func (r *replicas) pick(runID string) int {
	if owner, ok := r.owners.Load(runID); ok {
		return owner.(int)
	}
	return int(r.current.Load())
}

// heard learns from the trailer of an answer where a run lives.
func (r *replicas) heard(runID string, trailer metadata.MD) {
	index := slices.Index(r.addresses, strings.Join(trailer.Get(ownerKey), ""))
	if index >= 0 && runID != "" {
		if r.learned.Add(1)%10_000 == 0 { // bounds what a client remembers
			r.owners.Clear()
		}
		r.owners.Store(runID, index)
	}
}

// limit returns how long an attempt may take, after so many that failed. Where another address could take the
// call, it is a few seconds, with some chance in it, then twice that, then all that is left: a call that takes long
// itself comes through, and replicas that are all slow get three calls for one at most.
func (r *replicas) limit(failed int, left time.Duration) time.Duration {
	if failed >= min(2, len(r.addresses)-1) {
		return left
	}
	patience := (3*time.Second + rand.N(2*time.Second)) << failed
	return min(left, max(time.Second, min(patience, left/2)))
}

// failed turns away from an address that did not answer, and forgets where runs are: answers tell anew.
func (r *replicas) failed(index int) {
	r.owners.Clear()
	r.current.CompareAndSwap(int64(index), int64((index+1)%len(r.addresses)))
}

func (r *replicas) close() (err error) {
	for _, connection := range r.connections {
		err = errors.Join(err, connection.Close())
	}
	return err
}

// pause waits before the next attempt: not at all while there are addresses that were not tried, then ever longer. It
// returns false when the context ends first, or the client was closed.
func (r *replicas) pause(ctx context.Context, failures int, asked time.Duration) bool {
	var delay time.Duration
	if round := failures/len(r.addresses) - 1; round >= 0 {
		most := 5 * time.Second
		if r.connections[r.current.Load()].GetState() == connectivity.TransientFailure {
			most = time.Second // a server that is down bears no load, and should be found soon when it is back
		}
		full := min(most, 100*time.Millisecond<<min(round, 10))
		delay = max(asked, full/2+rand.N(full/2))
	}
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= delay {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(delay):
		return r.connections[0].GetState() != connectivity.Shutdown
	}
}

// bearer sends the token with each call.
type bearer Options

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := b.Token()
	return map[string]string{"authorization": "Bearer " + token}, err
}

func (b bearer) RequireTransportSecurity() bool { return b.TLS != nil }
