package stepwire

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/stepwire/stepwire/clients/go/stepwirev1"
)

// Stream is Converse over as many connections as it takes. It opens again where it was, and repeats the sends that have
// no result yet under their request_id. One goroutine may receive while others send.
type Stream struct {
	ctx    context.Context
	client *Client
	first  *pb.ConverseRequest
	attach *pb.ConverseAttach // the run, and how far it was read
	// The run is known; there is a connection.
	opened, open bool
	ended        error
	interval     time.Duration // of heartbeats
	// The number of the address, and how often in turn it failed.
	index, failures int
	lostAt          time.Time
	hangUp          context.CancelFunc

	mutex   sync.Mutex
	calls   pb.RunService_ConverseClient // the last that was opened
	pending []*pb.ConverseRequest
	closed  bool
}

// Converse holds a conversation, which opens with its first frame, a start or an attach, at the first Recv. Cancel the
// context to leave it.
func (c *Client) Converse(ctx context.Context, first *pb.ConverseRequest) *Stream {
	first = proto.CloneOf(first)
	attach := first.GetAttach()
	if attach == nil {
		start := first.GetStart()
		prepare("", start.GetRequest())
		attach = &pb.ConverseAttach{Options: start.GetOptions(), MaxUnacked: start.GetMaxUnacked()}
	}
	interval := 15 * time.Second // the server's default, until it says otherwise
	return &Stream{ctx: ctx, client: c, first: first, attach: attach, hangUp: func() {}, interval: interval}
}

// Recv returns the next frame: opened once, events, the results of sends, finished, and never a heartbeat. It returns
// io.EOF at the end, an *Error, or ErrGap.
func (s *Stream) Recv() (*pb.ConverseResponse, error) {
	for s.ended == nil {
		frame, err := s.receive()
		if err != nil {
			s.ended = s.lost(err)
		} else if s.take(frame) {
			return frame, nil
		}
	}
	s.hangUp()
	return nil, s.ended
}

// receive waits for a frame, and cuts the call after two heartbeats that are missing and one that is late. A proxy may
// keep the connection of a dead server open.
func (s *Stream) receive() (*pb.ConverseResponse, error) {
	if !s.open {
		if err := s.connect(); err != nil {
			return nil, err
		}
	}
	timer := time.AfterFunc(2*s.interval+max(2*time.Second, s.interval/3), s.hangUp)
	defer timer.Stop()
	return s.calls.Recv()
}

// connect opens the stream where it was, and repeats what has no result.
func (s *Stream) connect() error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	ctx, cancel := context.WithCancel(s.ctx)
	s.hangUp, s.index = cancel, s.client.replicas.pick(s.attach.RunId)
	calls, err := pb.NewRunServiceClient(s.client.replicas.connections[s.index]).Converse(ctx)
	if err != nil {
		return err
	}
	s.calls, s.open = calls, true
	for _, frame := range append([]*pb.ConverseRequest{s.first}, s.pending...) {
		_ = s.calls.Send(frame) // a failure shows in Recv
	}
	if s.closed {
		_ = s.calls.CloseSend()
	}
	return nil
}

// take notes what a frame says. It returns false for a frame that is not for the caller, or that it has seen the like of.
func (s *Stream) take(frame *pb.ConverseResponse) bool {
	s.failures = 0
	switch frame := frame.Frame.(type) {
	case *pb.ConverseResponse_Opened:
		again := s.opened
		s.opened, s.attach.RunId = true, frame.Opened.Run.RunId
		s.first = &pb.ConverseRequest{Frame: &pb.ConverseRequest_Attach{Attach: s.attach}}
		return !again
	case *pb.ConverseResponse_Events:
		from, to := frame.Events.FromSequence, frame.Events.ToSequence
		if from != s.attach.AfterSequence+1 || to < from {
			s.ended = fmt.Errorf("%w: a batch covers %d to %d after %d", ErrGap, from, to, s.attach.AfterSequence)
			return false
		}
		s.attach.AfterSequence = to
	case *pb.ConverseResponse_SendResult:
		s.mutex.Lock()
		defer s.mutex.Unlock()
		before := len(s.pending)
		s.pending = slices.DeleteFunc(s.pending, func(sent *pb.ConverseRequest) bool {
			return sent.GetSend() != nil && sent.GetSend().RequestId == frame.SendResult.RequestId
		})
		return len(s.pending) < before
	case *pb.ConverseResponse_Heartbeat:
		s.interval = cmp.Or(frame.Heartbeat.GetInterval().AsDuration(), s.interval)
		return false
	case *pb.ConverseResponse_Finished:
		s.ended = io.EOF
	}
	return true
}

// lost returns nil when the stream should be opened again, after a pause.
func (s *Stream) lost(err error) error {
	s.hangUp()
	s.open = false
	failure := errorOf(err)
	if !failure.lost() || s.ctx.Err() != nil {
		return failure
	}
	replicas, options := s.client.replicas, s.client.options
	if s.failures++; s.failures == 1 {
		s.lostAt = time.Now()
		options.Logger.Warn("connection lost", "run", s.attach.RunId, "after", s.attach.AfterSequence, "error", failure.Message())
	}
	replicas.failed(s.index)
	again := time.Since(s.lostAt) <= options.Reconnect && replicas.pause(s.ctx, s.failures, failure.RetryAfter)
	if again || s.ctx.Err() != nil {
		return nil // the end of a context shows at the next attempt
	}
	return failure
}

// Send sends a frame of a conversation. A send without a request_id gets one. The error is that of an ended context.
func (s *Stream) Send(frame *pb.ConverseRequest) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	prepare("", frame.GetSend())
	if frame.GetSend() != nil || frame.GetCancel() != nil {
		s.pending = append(s.pending, frame)
	}
	if s.calls != nil {
		_ = s.calls.Send(frame) // a failure shows in Recv, which opens the stream again
	}
	return s.ctx.Err()
}

// SendEvent sends an event in a conversation, and returns the request_id that its send_result will have.
func (s *Stream) SendEvent(eventType string, fields any) (string, error) {
	payload, err := fieldsOf(fields)
	if err != nil {
		return "", err
	}
	send := &pb.ConverseSend{Event: &pb.Event{Type: eventType, Payload: payload}}
	err = s.Send(&pb.ConverseRequest{Frame: &pb.ConverseRequest_Send{Send: send}})
	return send.RequestId, err
}

// CloseSend says that no more frames of a conversation come. The output goes on.
func (s *Stream) CloseSend() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.closed = true; s.calls != nil {
		_ = s.calls.CloseSend()
	}
}

// Event is an entry of a run's log: Sequence, Type, Step, Kind, Role, and fields to Decode.
type Event struct{ *pb.LogEntry }

// Decode decodes the event's fields into a pointer.
func (e Event) Decode(into any) error { return json.Unmarshal(e.Payload.GetJson(), into) }

// String returns the event as a line of text.
func (e Event) String() string {
	return fmt.Sprintf("%4d %s %s", e.Sequence, e.Type, e.Payload.GetJson())
}

// EventOption changes what Events and Converse carry.
type EventOption func(*pb.ConverseAttach)

// After begins after a sequence. The default, 0, is the beginning of the log.
func After(last int64) EventOption { return func(a *pb.ConverseAttach) { a.AfterSequence = last } }

// Types carries only events of these types, and the terminal one.
func Types(types ...string) EventOption {
	return func(a *pb.ConverseAttach) { a.Options.EventTypes = types }
}

// Internal also carries the events that were sent to steps and by steps.
func Internal() EventOption { return func(a *pb.ConverseAttach) { a.Options.IncludeInternal = true } }

// Converse follows the run and sends events on the same connection. Recv returns frames: opened, events, the result of
// each send, finished. Cancel the context to leave it.
func (r *Run) Converse(ctx context.Context, options ...EventOption) *Stream {
	attach := &pb.ConverseAttach{RunId: r.ID, Options: &pb.StreamOptions{Encoding: jsonEncoding}}
	for _, option := range options {
		option(attach)
	}
	return r.client.Converse(ctx, &pb.ConverseRequest{Frame: &pb.ConverseRequest_Attach{Attach: attach}})
}

// Events iterates over the run's events to its end, each once. An error is the last item; the run's end is not an error.
func (r *Run) Events(ctx context.Context, options ...EventOption) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream := r.Converse(ctx, options...)
		stream.CloseSend()
		for {
			frame, err := stream.Recv()
			if err == io.EOF {
				return
			} else if err != nil {
				yield(Event{}, err)
				return
			}
			for _, entry := range frame.GetEvents().GetEntries() {
				if !yield(Event{entry}, nil) {
					return
				}
			}
		}
	}
}

// Channel sends the events of an iteration on a channel, and closes it at their end or at that of the context. The other
// channel then has the error, nil at the run's end.
func Channel(ctx context.Context, events iter.Seq2[Event, error]) (<-chan Event, <-chan error) {
	items, ended := make(chan Event), make(chan error, 1)
	go func() {
		defer close(ended)
		defer close(items)
		for event, err := range events {
			if err != nil {
				ended <- err
				return
			}
			select {
			case items <- event:
			case <-ctx.Done():
				ended <- ctx.Err()
				return
			}
		}
	}()
	return items, ended
}
