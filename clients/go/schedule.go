package stepwire

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/stepwire/stepwire/clients/go/stepwirev1"
)

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
