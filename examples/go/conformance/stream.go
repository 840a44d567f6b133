package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "github.com/stepwire/stepwire/examples/go/stepwirev1"
)

// stream is an open StreamEvents or Converse as items.
type stream struct {
	client grpc.ClientStream
	method protoreflect.MethodDescriptor
	cancel context.CancelFunc
	cursor int64
	items  []object
	met    func(object) object
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
	connection *grpc.ClientConn,
	name string,
	request any,
	met func(object) object,
) (*stream, error) {
	path, method := methodOf(name)
	message, err := messageOf(method.Input(), request)
	if err != nil {
		cancel()
		return nil, err
	}
	description := &grpc.StreamDesc{ServerStreams: true, ClientStreams: method.IsStreamingClient()}
	client, err := connection.NewStream(ctx, description, path)
	if err != nil {
		cancel()
		return nil, err
	}
	opened := &stream{client: client, method: method, cancel: cancel, met: met}
	switch request := message.(type) {
	case *pb.StreamEventsRequest:
		opened.cursor = request.AfterSequence
	case *pb.ConverseRequest:
		opened.cursor = request.GetAttach().GetAfterSequence()
	}
	if err := client.SendMsg(message); err != nil && !errors.Is(err, io.EOF) {
		cancel()
		return nil, err
	}
	if !method.IsStreamingClient() {
		return opened, client.CloseSend()
	}
	return opened, nil
}

func (s *stream) send(frame any) error {
	message, err := messageOf(s.method.Input(), frame)
	if err != nil {
		return err
	}
	return s.client.SendMsg(message)
}

// take returns the next item; ended at the stream's end.
func (s *stream) take() (object, error) {
	for len(s.items) == 0 {
		message, err := newMessage(s.method.Output())
		if err != nil {
			return nil, err
		}
		if err := s.client.RecvMsg(message); errors.Is(err, io.EOF) {
			return nil, ended{}
		} else if err != nil {
			return nil, ended{s.met(errorOf(err))}
		}
		switch response := message.(type) {
		case *pb.StreamEventsResponse:
			err = s.streamFrame(response)
		case *pb.ConverseResponse:
			err = s.converseFrame(response)
		}
		if err != nil {
			return nil, err
		}
	}
	item := s.items[0]
	s.items = s.items[1:]
	return item, nil
}

func (s *stream) streamFrame(response *pb.StreamEventsResponse) error {
	switch frame := response.Frame.(type) {
	case *pb.StreamEventsResponse_Events:
		return s.batch(frame.Events)
	case *pb.StreamEventsResponse_Heartbeat:
		return nil
	}
	item, err := documentOf(response)
	s.items = append(s.items, item)
	return err
}

func (s *stream) converseFrame(response *pb.ConverseResponse) error {
	var failure object
	switch frame := response.Frame.(type) {
	case *pb.ConverseResponse_Events:
		return s.batch(frame.Events)
	case *pb.ConverseResponse_Heartbeat:
		return nil
	case *pb.ConverseResponse_SendResult:
		if refused := frame.SendResult.GetError(); refused != nil {
			failure = s.met(errorObject(refused))
			frame.SendResult.Result = nil
		}
	}
	item, err := documentOf(response)
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
	last := s.cursor
	for _, entry := range events.Entries {
		if entry.Sequence <= last || entry.Sequence > events.ToSequence {
			return fmt.Errorf("entry %d is out of order", entry.Sequence)
		}
		last = entry.Sequence
		document, err := documentOf(entry)
		if err != nil {
			return err
		}
		s.items = append(s.items, object{"entry": document})
	}
	s.cursor = events.ToSequence
	return nil
}
