package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	stepwire "github.com/stepwire/stepwire/clients/go"
	pb "github.com/stepwire/stepwire/clients/go/stepwirev1"
)

// frame is one of StreamEvents or of Converse.
type frame interface {
	proto.Message
	GetEvents() *pb.EventBatch
	GetHeartbeat() *pb.Heartbeat
}

// stream is an open StreamEvents or Converse as items.
type stream struct {
	talk    *stepwire.Stream // nil for StreamEvents
	receive func() (frame, error)
	cancel  context.CancelFunc
	cursor  int64
	items   []object
	met     func(object) object
}

// ended is how a stream came to its end; failure is nil for OK.
type ended struct{ failure object }

func (end ended) Error() string {
	if end.failure == nil {
		return "the stream ended"
	}
	return "the stream failed: " + short(end.failure)
}

func openStream(
	ctx context.Context,
	cancel context.CancelFunc,
	client *stepwire.Client,
	name string,
	request any,
	met func(object) object,
) (*stream, error) {
	_, method := methodOf(name)
	message, err := messageOf(method.Input(), request)
	if err != nil {
		cancel()
		return nil, err
	}
	opened := &stream{cancel: cancel, met: met}
	switch request := message.(type) {
	case *pb.StreamEventsRequest:
		calls, err := client.Runs.StreamEvents(ctx, request)
		if err != nil {
			cancel()
			return nil, err
		}
		opened.cursor = request.AfterSequence
		opened.receive = func() (frame, error) { return calls.Recv() }
	case *pb.ConverseRequest:
		opened.talk = client.Converse(ctx, request)
		opened.cursor = request.GetAttach().GetAfterSequence()
		opened.receive = func() (frame, error) { return opened.talk.Recv() }
	}
	return opened, nil
}

func (s *stream) send(frame any) error {
	message, err := messageOf((&pb.ConverseRequest{}).ProtoReflect().Descriptor(), frame)
	if err != nil {
		return err
	}
	return s.talk.Send(message.(*pb.ConverseRequest))
}

// take returns the next item; ended at the stream's end.
func (s *stream) take() (object, error) {
	for len(s.items) == 0 {
		frame, err := s.receive()
		switch {
		case errors.Is(err, io.EOF):
			return nil, ended{}
		case errors.Is(err, stepwire.ErrGap):
			return nil, err
		case err != nil:
			return nil, ended{s.met(errorOf(stepwire.FromStatus(status.Convert(err))))}
		}
		if err := s.add(frame); err != nil {
			return nil, err
		}
	}
	item := s.items[0]
	s.items = s.items[1:]
	return item, nil
}

func (s *stream) add(frame frame) error {
	if frame.GetHeartbeat() != nil {
		return nil
	}
	if events := frame.GetEvents(); events != nil {
		return s.batch(events)
	}
	var failure object
	if talked, ok := frame.(*pb.ConverseResponse); ok && talked.GetSendResult().GetError() != nil {
		refused := talked.GetSendResult()
		failure = s.met(errorOf(stepwire.FromStatus(status.FromProto(refused.GetError()))))
		refused.Result = nil
	}
	item, err := documentOf(frame)
	if err != nil {
		return err
	}
	if failure != nil {
		item["sendResult"].(object)["error"] = failure
	}
	s.items = append(s.items, item)
	return nil
}

func (s *stream) batch(events *pb.EventBatch) error {
	if events.FromSequence != s.cursor+1 || events.ToSequence < events.FromSequence {
		return fmt.Errorf("a batch covers %d to %d after %d", events.FromSequence, events.ToSequence, s.cursor)
	}
	for _, entry := range events.Entries {
		if entry.Sequence <= s.cursor || entry.Sequence > events.ToSequence {
			return fmt.Errorf("entry %d is out of order", entry.Sequence)
		}
		s.cursor = entry.Sequence
		document, err := documentOf(entry)
		if err != nil {
			return err
		}
		s.items = append(s.items, object{"entry": document})
	}
	s.cursor = events.ToSequence
	return nil
}
