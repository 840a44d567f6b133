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
	"google.golang.org/protobuf/types/known/timestamppb"

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

// Schedule is a schedule on the server: it starts runs at due times.
type Schedule struct {
	ID     string
	client *Client
}

// Cron is due by an expression of five fields, or a name such as "@daily", in a time zone such as "Europe/Oslo"; "" is
// UTC.
func Cron(expression, zone string) *pb.ScheduleTiming {
	return &pb.ScheduleTiming{When: &pb.ScheduleTiming_Cron{Cron: expression}, TimeZone: zone}
}

// Every is due every so often, counted from midnight UTC of 1 January 1970.
func Every(interval time.Duration) *pb.ScheduleTiming {
	every := &pb.ScheduleTiming_Interval{Interval: &pb.ScheduleInterval{Every: durationpb.New(interval)}}
	return &pb.ScheduleTiming{When: every}
}

// At is due once.
func At(when time.Time) *pb.ScheduleTiming {
	return &pb.ScheduleTiming{When: &pb.ScheduleTiming_At{At: timestamppb.New(when)}}
}

// CreateSchedule creates a schedule. ScheduleExists says that there is one of this id.
func (c *Client) CreateSchedule(ctx context.Context, id string, spec *pb.ScheduleSpec) (*Schedule, error) {
	_, err := c.Schedules.CreateSchedule(ctx, &pb.CreateScheduleRequest{ScheduleId: id, Spec: spec})
	return c.Schedule(id), err
}

// Schedule returns the handle of a schedule, without a call.
func (c *Client) Schedule(id string) *Schedule { return &Schedule{ID: id, client: c} }

// ListSchedules returns the schedules that match the fields of a filter, newest first.
func (c *Client) ListSchedules(ctx context.Context, filter *pb.ListSchedulesRequest) ([]*pb.Schedule, error) {
	return allPages(func(token string) ([]*pb.Schedule, string, error) {
		filter.PageToken = token
		page, err := c.Schedules.ListSchedules(ctx, filter)
		return page.GetSchedules(), page.GetNextPageToken(), err
	})
}

// Info returns the schedule as the server knows it: what it does, its last and next times. ScheduleNotFound says that
// there is none.
func (s *Schedule) Info(ctx context.Context) (*pb.Schedule, error) {
	response, err := s.client.Schedules.GetSchedule(ctx, &pb.GetScheduleRequest{ScheduleId: s.ID})
	return response.GetSchedule(), err
}

// Update changes what the schedule does: it reads that, calls change, and writes what that left, unless the schedule has
// changed meanwhile; then it begins again. An error of change writes nothing.
func (s *Schedule) Update(ctx context.Context, change func(*pb.ScheduleSpec) error) error {
	return s.client.untilUnchanged(ctx, func() error {
		found, err := s.Info(ctx)
		if err == nil {
			err = change(found.Spec)
		}
		if err == nil {
			request := &pb.UpdateScheduleRequest{ScheduleId: s.ID, Spec: found.Spec, Etag: found.Etag}
			_, err = s.client.Schedules.UpdateSchedule(ctx, request)
		}
		return err
	})
}

// Pause has due times start nothing until Resume.
func (s *Schedule) Pause(ctx context.Context, reason string) error {
	_, err := s.client.Schedules.PauseSchedule(ctx, &pb.PauseScheduleRequest{ScheduleId: s.ID, Reason: reason})
	return err
}

// Resume ends the pause. Due times that passed meanwhile start nothing.
func (s *Schedule) Resume(ctx context.Context) error {
	_, err := s.client.Schedules.ResumeSchedule(ctx, &pb.ResumeScheduleRequest{ScheduleId: s.ID})
	return err
}

// Trigger starts a run now.
func (s *Schedule) Trigger(ctx context.Context) (*Run, error) {
	response, err := s.client.Schedules.TriggerSchedule(ctx, &pb.TriggerScheduleRequest{ScheduleId: s.ID})
	return s.client.Run(response.GetRunId()), err
}

// Delete deletes the schedule. Its runs stay.
func (s *Schedule) Delete(ctx context.Context) error {
	_, err := s.client.Schedules.DeleteSchedule(ctx, &pb.DeleteScheduleRequest{ScheduleId: s.ID})
	return err
}

// Backfill has the due times of a range in the past start their runs, one after another or all at once, in the
// background. It returns how many there are.
func (s *Schedule) Backfill(ctx context.Context, from, to time.Time, atOnce bool) (int, error) {
	response, err := s.client.Schedules.BackfillSchedule(ctx, &pb.BackfillScheduleRequest{
		ScheduleId: s.ID, StartTime: timestamppb.New(from), EndTime: timestamppb.New(to), AtOnce: atOnce,
	})
	return int(response.GetDueTimes()), err
}
