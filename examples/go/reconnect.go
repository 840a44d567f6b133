package main

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/stepwire/stepwire/examples/go/stepwirev1"
)

// lost says whether a call that ended with err was cut: its connection is lost, and another one may help. Errors of the
// server carry its reason. A status without one comes from a proxy or from gRPC itself.
func lost(err error) bool {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return true // the stream ended before the run did
	}
	found, ok := status.FromError(err)
	if !ok {
		return false // no call's error: a bad event, a closed terminal
	}
	switch found.Code() {
	case codes.Unavailable, codes.Canceled:
		return true
	case codes.Unknown, codes.Internal, codes.ResourceExhausted, codes.DeadlineExceeded:
		for _, detail := range found.Details() {
			if info, ok := detail.(*errdetails.ErrorInfo); ok && info.Domain == "stepwire" {
				return false
			}
		}
		return true
	}
	return false
}

// silence cancels a stream whose server sends nothing, not even heartbeats. A proxy may keep the connection of a dead
// server open, and answer pings, for ever.
type silence struct {
	interval time.Duration
	cancel   context.CancelFunc
	timer    *time.Timer
}

func newSilence(cancel context.CancelFunc) *silence {
	return &silence{interval: 15 * time.Second, cancel: cancel} // the server's default, until it says otherwise
}

// wait begins to count: two heartbeats may be missing, and the next one may be late.
func (s *silence) wait() {
	s.timer = time.AfterFunc(2*s.interval+max(2*time.Second, s.interval/3), s.cancel)
}

// heard stops the count. What the caller does with a frame takes as long as it takes.
func (s *silence) heard(response *pb.StreamEventsResponse) {
	s.timer.Stop()
	if beat := response.GetHeartbeat().GetInterval(); beat.AsDuration() > 0 {
		s.interval = beat.AsDuration()
	}
}
