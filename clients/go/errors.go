package stepwire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/stepwire/stepwire/clients/go/stepwirev1"
)

// Reason is the server's stable word for a fault. Compare with errors.Is(err, stepwire.RunNotFound). An Error has the word
// of a newer server also when there is no constant for it.
type Reason string

// Error makes a Reason a target of errors.Is.
func (r Reason) Error() string { return string(r) }

// Error is a call that failed, with the Code() and Message() of its status.
type Error struct {
	*status.Status
	Reason     Reason                                  // "" when a proxy or gRPC itself made the error
	Metadata   map[string]string                       // facts about the fault, such as run_id
	Violations []*errdetails.BadRequest_FieldViolation // the fields of the request that were refused
	RetryAfter time.Duration                           // what the server asks to wait before a repeat
}

func (e *Error) Error() string {
	text := e.Message()
	if e.Reason != "" {
		text = fmt.Sprintf("%s: %s", e.Reason, text)
	}
	for _, violation := range e.Violations {
		if !strings.Contains(e.Message(), violation.Description) {
			text += fmt.Sprintf("\n  %s: %s", violation.Field, violation.Description)
		}
	}
	return text
}

// Is compares with a Reason, and with the errors of an ended context.
func (e *Error) Is(target error) bool {
	return target == error(e.Reason) ||
		target == context.DeadlineExceeded && e.Code() == codes.DeadlineExceeded ||
		target == context.Canceled && e.Code() == codes.Canceled
}

// GRPCStatus lets status.FromError find the status.
func (e *Error) GRPCStatus() *status.Status { return e.Status }

// ErrGap says that a stream lacks entries, which is a fault of the server or of something between.
var ErrGap = errors.New("entries are missing from the stream")

// RunError is a run that ended without a result.
type RunError struct {
	RunID   string
	Outcome *pb.Outcome
}

func (e *RunError) Error() string {
	how := strings.TrimPrefix(e.Outcome.Status.String(), "RUN_STATUS_")
	if failure := e.Outcome.Failure; failure != nil {
		return fmt.Sprintf("run %s: %s in step %s: %s: %s", e.RunID, how, failure.Step, failure.ErrorType, failure.Message)
	}
	return strings.TrimSuffix(fmt.Sprintf("run %s: %s: %s", e.RunID, how, e.Outcome.Reason), ": ")
}

// Must returns the value, and panics with the error if there is one. It is for short programs.
func Must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// errorOf returns what gRPC failed with as an Error.
func errorOf(err error) *Error {
	if errors.Is(err, io.EOF) {
		err = status.Error(codes.Unavailable, "the stream ended before the run did")
	}
	return FromStatus(status.Convert(err))
}

// FromStatus returns a status, such as that of a refused send, as an Error.
func FromStatus(failed *status.Status) *Error {
	found := &Error{Status: failed}
	for _, detail := range failed.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.Domain == "stepwire" {
				found.Reason, found.Metadata = Reason(detail.Reason), detail.Metadata
			}
		case *errdetails.BadRequest:
			found.Violations = detail.FieldViolations
		case *errdetails.RetryInfo:
			found.RetryAfter = detail.RetryDelay.AsDuration()
		}
	}
	return found
}

// lost says whether a call was cut, so that another connection may help. Errors of the server carry a reason; a status
// without one comes from a proxy or from gRPC itself.
func (e *Error) lost() bool {
	cuts := []codes.Code{codes.Unknown, codes.Internal, codes.ResourceExhausted, codes.DeadlineExceeded}
	return e.Code() == codes.Unavailable || e.Code() == codes.Canceled || e.Reason == "" && slices.Contains(cuts, e.Code())
}
