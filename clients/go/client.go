package stepwire

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"regexp"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/stepwire/stepwire/clients/go/stepwirev1"
)

// Client calls one Stepwire service, at one address or at several replicas. It is safe for concurrent use.
//
// Its fields have every method of the contract, made as Invoke says.
type Client struct {
	Runs      pb.RunServiceClient
	Schedules pb.ScheduleServiceClient
	Server    pb.ServerServiceClient
	Snapshots pb.SnapshotServiceClient
	States    pb.StateServiceClient
	Workflows pb.WorkflowServiceClient

	options  Options
	replicas *replicas
}

// Options are the settings of a Client. The zero value is good for a server on this machine.
type Options struct {
	// Timeout limits a call, its repeats included, when its context has no deadline. Default: 30 s.
	Timeout time.Duration
	// Reconnect is how long a stream tries to reach a lost server before it fails. Default: 2 minutes.
	Reconnect time.Duration
	// NoRepeats makes every call once, for callers with a policy of their own. Streams still resume.
	NoRepeats bool
	// TLS encrypts the connections; the zero Config trusts the system's roots.
	TLS *tls.Config
	// Token returns the bearer token of each call. Without TLS it goes to this machine only, unless PlainToken is set.
	Token      func() (string, error)
	PlainToken bool
	// Logger gets a warning for each lost connection. Default: slog.Default().
	Logger *slog.Logger
	// Dial holds further options of gRPC, such as interceptors.
	Dial []grpc.DialOption
}

// New returns a client of the server at HOST:PORT, or of several replicas, separated by commas. It connects with the
// first call. The error is a setting that cannot be.
func New(addresses string, options Options) (*Client, error) {
	options.Timeout = cmp.Or(options.Timeout, 30*time.Second)
	options.Reconnect = cmp.Or(options.Reconnect, 2*time.Minute)
	options.Logger = cmp.Or(options.Logger, slog.Default())
	opened, err := openReplicas(addresses, options)
	if err != nil {
		return nil, err
	}
	c := &Client{options: options, replicas: opened}
	c.Runs, c.Schedules = pb.NewRunServiceClient(c), pb.NewScheduleServiceClient(c)
	c.Server, c.Snapshots = pb.NewServerServiceClient(c), pb.NewSnapshotServiceClient(c)
	c.States, c.Workflows = pb.NewStateServiceClient(c), pb.NewWorkflowServiceClient(c)
	return c, nil
}

// Close closes the connections. Calls under way fail.
func (c *Client) Close() error { return c.replicas.close() }

// StartOption changes the request of Start; a function of your own can set any field of it.
type StartOption func(*pb.StartRunRequest)

// WithRunID chooses the id of the run; without it the server does. A run with this id must not exist.
func WithRunID(id string) StartOption { return func(r *pb.StartRunRequest) { r.RunId = id } }

// WithLabels sets labels to find the run by.
func WithLabels(labels map[string]string) StartOption {
	return func(r *pb.StartRunRequest) { r.Labels = labels }
}

// FromSnapshot continues from a snapshot. Of a run that had not ended it takes no input.
func FromSnapshot(snapshot *pb.ContextSnapshot) StartOption {
	return func(r *pb.StartRunRequest) { r.Source = &pb.StartRunRequest_Snapshot{Snapshot: snapshot} }
}

// FromRun forks a run of this server at a sequence; 0 is its latest snapshot.
func FromRun(id string, sequence int64) StartOption {
	source := &pb.StartRunRequest_From{From: &pb.SnapshotRef{RunId: id, Sequence: sequence}}
	return func(r *pb.StartRunRequest) { r.Source = source }
}

// Start starts a run. The input has the fields of the start event: a struct or map that encoding/json takes, or nil.
func (c *Client) Start(ctx context.Context, workflow string, input any, options ...StartOption) (*Run, error) {
	payload, err := fieldsOf(input)
	if err != nil {
		return nil, err
	}
	request := &pb.StartRunRequest{Workflow: workflow, Input: payload, Encoding: jsonEncoding}
	for _, option := range options {
		option(request)
	}
	response, err := c.Runs.StartRun(ctx, request)
	return c.Run(response.GetRun().GetRunId()), err
}

// Run returns the handle of a run, without a call.
func (c *Client) Run(id string) *Run { return &Run{ID: id, client: c} }

const jsonEncoding = pb.PayloadEncoding_PAYLOAD_ENCODING_JSON

// Payload encodes a value that encoding/json takes.
func Payload(value any) (*pb.Payload, error) {
	data, err := json.Marshal(value)
	return &pb.Payload{Encoding: &pb.Payload_Json{Json: data}}, err
}

// fieldsOf encodes the fields of an event; nil is none.
func fieldsOf(value any) (*pb.Payload, error) {
	if value == nil {
		return nil, nil
	}
	return Payload(value)
}

// allPages returns the items of a list that comes in pages.
func allPages[Item any](list func(token string) ([]Item, string, error)) (items []Item, err error) {
	for token, more := "", true; more && err == nil; more = token != "" {
		var page []Item
		page, token, err = list(token)
		items = append(items, page...)
	}
	return items, err
}

// Invoke makes a unary call. It makes a Client a connection for generated code, such as c.Runs.
//
// A call is repeated after a lost connection, at the next address where there are several, when a repeat changes nothing
// or when its request has a request_id. Invoke makes one where it is empty. The context's deadline bounds all attempts;
// without one the client's timeout does. The error is an *Error.
func (c *Client) Invoke(ctx context.Context, method string, request, response any, options ...grpc.CallOption) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.options.Timeout)
		defer cancel()
	}
	end, _ := ctx.Deadline()
	repeatable := prepare(method, request) && !c.options.NoRepeats
	runID := runOf(request)
	for failures := 1; ; failures++ {
		index, limit := c.replicas.pick(runID), time.Until(end)
		if repeatable && !silent.MatchString(method) {
			limit = c.replicas.limit(failures-1, limit)
		}
		attempt, cancel := context.WithTimeout(ctx, limit)
		var trailer metadata.MD
		connection, told := c.replicas.connections[index], append(options, grpc.Trailer(&trailer))
		err := connection.Invoke(attempt, method, request, response, told...)
		cancel()
		c.replicas.heard(cmp.Or(runID, runOf(response)), trailer)
		if err == nil {
			return nil
		}
		failure := errorOf(err)
		if !failure.lost() || ctx.Err() != nil {
			return failure
		}
		c.replicas.failed(index)
		if !repeatable || !c.replicas.pause(ctx, failures, failure.RetryAfter) {
			return failure
		}
	}
}

// NewStream opens a plain stream on the present connection; Converse opens streams that resume.
func (c *Client) NewStream(
	ctx context.Context, of *grpc.StreamDesc, method string, options ...grpc.CallOption) (grpc.ClientStream, error) {
	return c.replicas.connections[c.replicas.pick("")].NewStream(ctx, of, method, options...)
}

// harmless are the methods of which a repeat changes nothing.
var harmless = regexp.MustCompile(`/(Get|List|Wait|Who|Cancel|Pause|Resume)\w+$`)

// silent are the methods that are long without an answer for good reason: pings tell whether their server hangs.
var silent = regexp.MustCompile(`/Wait\w+$`)

// prepare makes the request_id of a request that has such a field, and says whether the call may be repeated.
func prepare(method string, request any) bool {
	named, ok := request.(interface {
		proto.Message
		GetRequestId() string
	})
	if ok && named.GetRequestId() == "" && named.ProtoReflect().IsValid() {
		message := named.ProtoReflect()
		message.Set(message.Descriptor().Fields().ByName("request_id"), protoreflect.ValueOfString(rand.Text()))
	}
	return ok || harmless.MatchString(method)
}

// runOf returns the run that a message is about, "" if it is about none.
func runOf(message any) string {
	switch message := message.(type) {
	case interface{ GetRunId() string }:
		return message.GetRunId()
	case interface{ GetRun() *pb.Run }:
		return message.GetRun().GetRunId()
	}
	return ""
}
