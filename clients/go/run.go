package stepwire

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/stepwire/stepwire/clients/go/stepwirev1"
)

// Run is a run on the server.
type Run struct {
	ID     string
	client *Client
}

// Info returns the run as the server knows it: status, open questions of it and of its children, outcome.
func (r *Run) Info(ctx context.Context) (*pb.Run, error) {
	response, err := r.client.Runs.GetRun(ctx, &pb.GetRunRequest{RunId: r.ID, Encoding: jsonEncoding})
	return response.GetRun(), err
}

// Children returns the runs that steps of this one have started, newest first.
func (r *Run) Children(ctx context.Context) ([]*pb.Run, error) {
	return allPages(func(token string) ([]*pb.Run, string, error) {
		page, err := r.client.Runs.ListRuns(ctx, &pb.ListRunsRequest{ParentRunId: r.ID, PageToken: token})
		return page.GetRuns(), page.GetNextPageToken(), err
	})
}

// Result waits for the run's end and returns its result. Without a deadline of the context it waits for ever. A run that
// ends without a result is a *RunError.
func Result[T any](ctx context.Context, r *Run) (result T, err error) {
	const wait = 25 * time.Second // proxies end calls that take longer
	request := &pb.WaitRunRequest{RunId: r.ID, Timeout: durationpb.New(wait), Encoding: jsonEncoding}
	for {
		limited, cancel := context.WithTimeout(ctx, wait+r.client.options.Timeout)
		response, err := r.client.Runs.WaitRun(limited, request)
		cancel()
		outcome := response.GetRun().GetOutcome()
		switch {
		case err != nil:
			return result, err
		case outcome == nil:
			continue
		case outcome.Status != pb.RunStatus_RUN_STATUS_COMPLETED:
			return result, &RunError{r.ID, outcome}
		case outcome.Result == nil:
			return result, nil
		}
		return result, json.Unmarshal(outcome.Result.GetJson(), &result)
	}
}

// Sent is the place of a sent event in the log, and how many steps and waiters took it.
type Sent = pb.SendEventResponse

// Send sends an event to the run. The fields are a struct or map that encoding/json takes.
func (r *Run) Send(ctx context.Context, eventType string, fields any) (*Sent, error) {
	return r.send(ctx, eventType, fields, "")
}

func (r *Run) send(ctx context.Context, eventType string, fields any, requestID string) (*Sent, error) {
	payload, err := fieldsOf(fields)
	if err != nil {
		return nil, err
	}
	event := &pb.Event{Type: eventType, Payload: payload}
	return r.client.Runs.SendEvent(ctx, &pb.SendEventRequest{RunId: r.ID, Event: event, RequestId: requestID})
}

// ErrNotOpen says that a question was answered already, or waits for no answer of its own.
var ErrNotOpen = errors.New("the question is not open")

// Answer answers a question, which is an event of the run. The server knows which event type answers it and which
// fields that must have; the fields here are the others. Answering the same question again counts once. The error is
// ErrNotOpen when the run does not wait for the answer.
func (r *Run) Answer(ctx context.Context, question Event, fields any) (*Sent, error) {
	info, err := r.Info(ctx)
	if err != nil {
		return nil, err
	}
	for _, waiter := range info.PendingWaiters {
		if asks(waiter.Prompt, question) {
			return r.answer(ctx, waiter, fields, fmt.Sprintf("answer-%d", question.Sequence))
		}
	}
	return nil, fmt.Errorf("%w: %s of run %s", ErrNotOpen, question.Type, r.ID)
}

// AnswerPending answers an open question that Info tells of, also one of a child, as Answer does. It is taken once.
func (r *Run) AnswerPending(ctx context.Context, waiter *pb.PendingWaiter, fields any) (*Sent, error) {
	return r.answer(ctx, waiter, fields, "")
}

func (r *Run) answer(ctx context.Context, waiter *pb.PendingWaiter, fields any, requestID string) (*Sent, error) {
	data, err := json.Marshal(fields)
	answer, given := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	err = errors.Join(err, json.Unmarshal(waiter.Requirements.GetJson(), &answer), json.Unmarshal(data, &given))
	if err != nil {
		return nil, fmt.Errorf("the answer %s: %w", waiter.EventType, err)
	}
	maps.Copy(answer, given)
	return r.client.Run(cmp.Or(waiter.RunId, r.ID)).send(ctx, waiter.EventType, answer, requestID)
}

// asks says whether a prompt is the question that an event has.
func asks(prompt *pb.Event, question Event) bool {
	var asked, given any
	err := errors.Join(json.Unmarshal(prompt.GetPayload().GetJson(), &asked), question.Decode(&given))
	return err == nil && prompt.GetType() == question.Type && reflect.DeepEqual(asked, given)
}

// Cancel ends the run. A run that has ended stays as it is.
func (r *Run) Cancel(ctx context.Context, reason string) error {
	_, err := r.client.Runs.CancelRun(ctx, &pb.CancelRunRequest{RunId: r.ID, Reason: reason})
	return err
}

// Snapshot returns the snapshot at a sequence, 0 for the latest. FromSnapshot starts a run from it.
func (r *Run) Snapshot(ctx context.Context, sequence int64) (*pb.ContextSnapshot, error) {
	response, err := r.client.Snapshots.GetSnapshot(ctx, &pb.GetSnapshotRequest{RunId: r.ID, Sequence: sequence})
	return response.GetSnapshot(), err
}

// Get decodes the value at a dotted path of the run's state into a pointer, and returns the state's etag. The empty
// path is the whole state. A path that is not there is PathNotFound.
func (r *Run) Get(ctx context.Context, path string, into any) (etag string, err error) {
	response, err := r.client.States.GetState(ctx, &pb.GetStateRequest{RunId: r.ID, Path: path, Encoding: jsonEncoding})
	if err != nil {
		return "", err
	}
	return response.Etag, json.Unmarshal(response.Value.GetJson(), into)
}

// Set sets the value at a path, and returns the new etag. With an etag it writes only if the state still has it;
// ETagMismatch says that it has not.
func (r *Run) Set(ctx context.Context, path string, value any, etag string) (string, error) {
	payload, err := Payload(value)
	if err != nil {
		return "", err
	}
	if path == "" {
		response, err := r.client.States.ReplaceState(ctx, &pb.ReplaceStateRequest{RunId: r.ID, Value: payload, Etag: etag})
		return response.GetEtag(), err
	}
	request := &pb.SetStateRequest{RunId: r.ID, Values: []*pb.PathValue{{Path: path, Value: payload}}, Etag: etag}
	response, err := r.client.States.SetState(ctx, request)
	return response.GetEtag(), err
}

// Unset removes the values at paths, all or none.
func (r *Run) Unset(ctx context.Context, paths ...string) error {
	_, err := r.client.States.UnsetState(ctx, &pb.UnsetStateRequest{RunId: r.ID, Paths: paths})
	return err
}

// Update changes the value at a path: it reads the value, calls change, and writes what that left, unless the state has
// changed meanwhile; then it begins again. A path that is not there begins with the zero value. An error of change
// writes nothing.
func Update[T any](ctx context.Context, r *Run, path string, change func(value *T) error) error {
	return r.client.untilUnchanged(ctx, func() error {
		var value T
		etag, err := r.Get(ctx, path, &value)
		if errors.Is(err, PathNotFound) {
			// The etag must be older than the look that finds nothing.
			etag, err = r.Get(ctx, "", new(json.RawMessage))
			if found, again := r.Get(ctx, path, &value); !errors.Is(again, PathNotFound) {
				etag, err = found, again
			}
		}
		if err == nil {
			err = change(&value)
		}
		if err == nil {
			_, err = r.Set(ctx, path, value, etag)
		}
		return err
	})
}

// untilUnchanged repeats an update that reads and writes as long as something else came between, 20 times at most.
func (c *Client) untilUnchanged(ctx context.Context, update func() error) error {
	for attempt := 1; ; attempt++ {
		err := update()
		if !errors.Is(err, ETagMismatch) || attempt == 20 || !c.replicas.pause(ctx, attempt, 0) {
			return err
		}
	}
}
