package stepwire_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	stepwire "github.com/stepwire/stepwire/clients/go"
	pb "github.com/stepwire/stepwire/clients/go/stepwirev1"
)

// serve gives a client of the server that STEPWIRE_ADDRESS names (tests/system/clients starts it, with the approval).
func serve(t *testing.T) (context.Context, *stepwire.Client) {
	t.Helper()
	address := os.Getenv("STEPWIRE_ADDRESS")
	if address == "" {
		t.Skip("STEPWIRE_ADDRESS names no server of examples/approval.py")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	client := stepwire.Must(stepwire.New(address, stepwire.Options{Timeout: 10 * time.Second}))
	t.Cleanup(func() { client.Close() })
	return ctx, client
}

// asked starts an approval and returns it with its question.
func asked(ctx context.Context, t *testing.T, client *stepwire.Client) (*stepwire.Run, stepwire.Event) {
	t.Helper()
	input := map[string]any{"who": "ada", "amount": 120}
	run, err := client.Start(ctx, "approval", input, stepwire.WithLabels(map[string]string{"by": "go"}))
	if err != nil {
		t.Fatal(err)
	}
	return run, next(ctx, t, run, stepwire.Types("ApprovalQuestion"))
}

// next returns the first event of a run that options leave.
func next(ctx context.Context, t *testing.T, run *stepwire.Run, options ...stepwire.EventOption) stepwire.Event {
	t.Helper()
	for event, err := range run.Events(ctx, options...) {
		if err != nil {
			t.Fatal(err)
		}
		return event
	}
	t.Fatal("the run has ended")
	panic("not reached")
}

func TestAnswer(t *testing.T) {
	ctx, client := serve(t)
	run, question := asked(ctx, t, client)
	var fields struct{ Text string }
	if err := question.Decode(&fields); err != nil || !strings.HasPrefix(fields.Text, "ada asks for 120.00") {
		t.Fatal(fields, err)
	}
	answer := map[string]any{"verdict": "approve", "by": "grace"}
	sent, err := run.Answer(ctx, question, answer)
	if err != nil || sent.Delivered != 1 {
		t.Fatal(sent, err)
	}
	if result, err := stepwire.Result[string](ctx, run); err != nil || result != "approved by grace" {
		t.Fatal(result, err)
	}
	if _, err := run.Answer(ctx, question, answer); !errors.Is(err, stepwire.ErrNotOpen) {
		t.Fatal(err)
	}
	info := stepwire.Must(run.Info(ctx))
	if info.Status != pb.RunStatus_RUN_STATUS_COMPLETED || info.Labels["by"] != "go" {
		t.Fatal(info)
	}
}

func TestEventsAreTheSameByEveryWay(t *testing.T) {
	ctx, client := serve(t)
	run, question := asked(ctx, t, client)
	stepwire.Must(run.Answer(ctx, question, map[string]any{"verdict": "reject", "by": "grace"}))
	var iterated, received []string
	for event, err := range run.Events(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		iterated = append(iterated, event.String())
	}
	events, ended := stepwire.Channel(ctx, run.Events(ctx))
	for event := range events {
		received = append(received, event.String())
	}
	if err := <-ended; err != nil || len(iterated) != 2 || fmt.Sprint(iterated) != fmt.Sprint(received) {
		t.Fatal(err, iterated, received)
	}
	if last := next(ctx, t, run, stepwire.After(question.Sequence)); last.Type != "StopEvent" {
		t.Fatal(last)
	}
}

func TestConverse(t *testing.T) {
	ctx, client := serve(t)
	run, question := asked(ctx, t, client)
	talk := run.Converse(ctx, stepwire.After(question.Sequence))
	id := stepwire.Must(talk.SendEvent("ApprovalAnswer", map[string]any{
		"expense_id": "ada-120.00", "verdict": "approve", "by": "grace",
	}))
	kinds := ""
	for {
		frame, err := talk.Recv()
		if err != nil {
			break
		}
		kinds += fmt.Sprintf("%T ", frame.Frame)
		if result := frame.GetSendResult(); result != nil && (result.RequestId != id || result.Delivered != 1) {
			t.Fatal(result)
		}
	}
	for _, kind := range []string{"Opened", "SendResult", "Events", "Finished"} {
		if strings.Count(kinds, "_"+kind+" ") != 1 {
			t.Fatal(kinds)
		}
	}
}

func TestUpdateRepeatsUntilNothingCameBetween(t *testing.T) {
	ctx, client := serve(t)
	run, _ := asked(ctx, t, client)
	failures := make(chan error, 8)
	for range cap(failures) {
		go func() {
			failures <- stepwire.Update(ctx, run, "tally.count", func(count *int) error { *count++; return nil })
		}()
	}
	for range cap(failures) {
		if err := <-failures; err != nil {
			t.Error(err)
		}
	}
	var count int
	etag, err := run.Get(ctx, "tally.count", &count)
	if err != nil || count != cap(failures) {
		t.Fatal(count, err)
	}
	if _, err := run.Set(ctx, "tally.count", 0, "of another time"); !errors.Is(err, stepwire.ETagMismatch) {
		t.Fatal(err)
	}
	if _, err := run.Set(ctx, "tally.count", 0, etag); err != nil {
		t.Fatal(err)
	}
	if err := run.Unset(ctx, "tally.count"); err != nil {
		t.Fatal(err)
	}
	if _, err := run.Get(ctx, "tally.count", &count); !errors.Is(err, stepwire.PathNotFound) {
		t.Fatal(err)
	}
}

func TestSnapshotsStartOtherRuns(t *testing.T) {
	ctx, client := serve(t)
	run, question := asked(ctx, t, client)
	snapshot, err := run.Snapshot(ctx, question.Sequence)
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range []stepwire.StartOption{
		stepwire.FromSnapshot(snapshot), stepwire.FromRun(run.ID, question.Sequence),
	} {
		fork, err := client.Start(ctx, "approval", nil, source)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fork.Answer(ctx, question, map[string]any{"verdict": "approve", "by": "grace"}); err != nil {
			t.Fatal(err)
		}
		if result, err := stepwire.Result[string](ctx, fork); err != nil || result != "approved by grace" {
			t.Fatal(result, err)
		}
	}
	if err := run.Cancel(ctx, "enough"); err != nil {
		t.Fatal(err)
	}
	var ended *stepwire.RunError
	if _, err := stepwire.Result[string](ctx, run); !errors.As(err, &ended) || ended.Outcome.Reason != "enough" {
		t.Fatal(err)
	}
}

func TestErrorsHaveReasonsAndFields(t *testing.T) {
	ctx, client := serve(t)
	if _, err := client.Run("nobody").Info(ctx); !errors.Is(err, stepwire.RunNotFound) {
		t.Fatal(err)
	}
	_, err := client.Start(ctx, "approval", map[string]any{"who": "ada", "amount": "much"})
	var failed *stepwire.Error
	if !errors.As(err, &failed) || failed.Reason != stepwire.InvalidInput || failed.Violations[0].Field != "amount" {
		t.Fatal(err)
	}
	run, question := asked(ctx, t, client)
	_, err = run.Answer(ctx, question, nil)
	if !errors.As(err, &failed) || failed.Reason != stepwire.InvalidEvent || failed.Violations[0].Field != "verdict" {
		t.Fatal(err)
	}
	if _, err := run.Send(ctx, "ApprovalAnswer", nil); !errors.As(err, &failed) || len(failed.Violations) != 3 {
		t.Fatal(err)
	}
	limited, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	events, ended := stepwire.Channel(limited, run.Events(limited))
	for range events {
	}
	if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if _, err := stepwire.Result[string](limited, run); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestAnErrorIsTheLastItemOfEvents(t *testing.T) {
	ctx, client := serve(t)
	var failures []error
	for _, err := range client.Run("nobody").Events(ctx) {
		failures = append(failures, err)
	}
	if len(failures) != 1 || !errors.Is(failures[0], stepwire.RunNotFound) {
		t.Fatal(failures)
	}
}

func TestAStartUnderTheSameRequestIDCountsOnce(t *testing.T) {
	ctx, client := serve(t)
	once := func(request *pb.StartRunRequest) { request.RequestId = "go-once-" + t.Name() }
	input := map[string]any{"who": "ada", "amount": 120}
	first := stepwire.Must(client.Start(ctx, "approval", input, once))
	second := stepwire.Must(client.Start(ctx, "approval", input, once))
	if first.ID != second.ID {
		t.Fatal(first.ID, second.ID)
	}
}

func TestADeadAddressIsPassedOver(t *testing.T) {
	ctx, _ := serve(t)
	client := stepwire.Must(stepwire.New("127.0.0.1:1, "+os.Getenv("STEPWIRE_ADDRESS"), stepwire.Options{}))
	defer client.Close()
	run, question := asked(ctx, t, client)
	stepwire.Must(run.Answer(ctx, question, map[string]any{"verdict": "approve", "by": "grace"}))
	if result, err := stepwire.Result[string](ctx, run); err != nil || result != "approved by grace" {
		t.Fatal(result, err)
	}
}

// stalling forwards connections to a server until stall is called. Then it takes them and says nothing, as the kernel of
// a replica does that hangs.
func stalling(t *testing.T, target string) (address string, stall func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	var stalled atomic.Bool
	forward := func(to, from net.Conn) {
		buffer := make([]byte, 1<<16)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				to.Close()
				return
			}
			if !stalled.Load() {
				to.Write(buffer[:n])
			}
		}
	}
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				near.Close()
				continue
			}
			go forward(near, far)
			go forward(far, near)
		}
	}()
	return listener.Addr().String(), func() { stalled.Store(true) }
}

func TestAnAddressThatHangsIsLeftWithinSeconds(t *testing.T) {
	_, direct := serve(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	address := os.Getenv("STEPWIRE_ADDRESS")
	first, stall := stalling(t, address)
	client := stepwire.Must(stepwire.New(first+","+address, stepwire.Options{}))
	defer client.Close()
	run, question := asked(ctx, t, client)
	ended := make(chan time.Duration)
	begun := make(chan struct{})
	var stalledAt time.Time
	go func() {
		for event, err := range run.Events(ctx) {
			if err != nil {
				t.Error(err)
			} else if event.Type == "ApprovalQuestion" {
				close(begun)
			}
		}
		ended <- time.Since(stalledAt)
	}()
	<-begun
	stalledAt = time.Now()
	stall()
	stepwire.Must(run.Info(ctx))
	if took := time.Since(stalledAt); took > 7*time.Second { // 3 to 5 of patience; half of 30 without it
		t.Error("the call took", took)
	}
	if _, err := direct.Run(run.ID).Answer(ctx, question, map[string]any{"verdict": "approve", "by": "grace"}); err != nil {
		t.Fatal(err)
	}
	if took := <-ended; took > 20*time.Second { // 10 until a ping and 5 for its answer; 32 until heartbeats are missed
		t.Error("the stream took", took)
	} else {
		t.Log("the stream took", took)
	}
}

func TestAClosedClientTriesNothingAgain(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer time.AfterFunc(time.Minute, cancel).Stop() // a deadline would end it too
	lost := make(chan struct{})
	logger := slog.New(slog.NewTextHandler(notice(lost), nil))
	client := stepwire.Must(stepwire.New("127.0.0.1:1", stepwire.Options{Reconnect: time.Hour, Logger: logger}))
	go func() {
		<-lost
		client.Close()
	}()
	for _, err := range client.Run("r").Events(ctx) {
		if err == nil || ctx.Err() != nil {
			t.Fatal("it went on after its end:", err)
		}
	}
}

// notice is closed by the first line of a log.
type notice chan struct{}

func (n notice) Write(line []byte) (int, error) {
	close(n)
	return len(line), nil
}

func TestSettingsThatCannotBe(t *testing.T) {
	token := func() (string, error) { return "secret", nil }
	for _, addresses := range []string{"", "http://127.0.0.1:1", "127.0.0.1:1,,", "server.example:1"} {
		if client, err := stepwire.New(addresses, stepwire.Options{Token: token}); err == nil {
			t.Error(addresses, client.Close())
		}
	}
	client, err := stepwire.New("127.0.0.1:1,[::1]:1,localhost:1", stepwire.Options{Token: token})
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
}

func TestTheLifeOfASchedule(t *testing.T) {
	ctx, client := serve(t)
	spec := &pb.ScheduleSpec{
		Workflow: "approval",
		Timing:   stepwire.Cron("0 7 * * 1-5", "Europe/Oslo"),
		Input:    stepwire.Must(stepwire.Payload(map[string]any{"who": "ada", "amount": 12})),
		Labels:   map[string]string{"by": t.Name()},
	}
	schedule, err := client.CreateSchedule(ctx, "go-life", spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateSchedule(ctx, "go-life", spec); !errors.Is(err, stepwire.ScheduleExists) {
		t.Fatal(err)
	}
	if err := schedule.Pause(ctx, "holidays"); err != nil {
		t.Fatal(err)
	}
	if info := stepwire.Must(schedule.Info(ctx)); info.Pause.GetReason() != "holidays" || len(info.NextTimes) != 0 {
		t.Fatal(info)
	}
	err = schedule.Update(ctx, func(spec *pb.ScheduleSpec) error {
		spec.Timing, spec.Overlap = stepwire.Every(time.Hour), pb.OverlapPolicy_OVERLAP_POLICY_QUEUE_ONE
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := schedule.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	info := stepwire.Must(schedule.Info(ctx))
	between := info.NextTimes[1].AsTime().Sub(info.NextTimes[0].AsTime())
	if between != time.Hour || info.Spec.Overlap != pb.OverlapPolicy_OVERLAP_POLICY_QUEUE_ONE || info.Pause != nil {
		t.Fatal(info)
	}
	run, err := schedule.Trigger(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if result, err := stepwire.Result[string](ctx, run); err != nil || result != "approved by policy" {
		t.Fatal(result, err)
	}
	to := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	if due, err := schedule.Backfill(ctx, to.Add(-3*time.Hour), to, true); err != nil || due != 3 {
		t.Fatal(due, err)
	}
	listed, err := client.ListSchedules(ctx, &pb.ListSchedulesRequest{Labels: spec.Labels, PageSize: 1})
	if err != nil || len(listed) != 1 || listed[0].ScheduleId != schedule.ID {
		t.Fatal(listed, err)
	}
	if err := schedule.Delete(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := schedule.Info(ctx); !errors.Is(err, stepwire.ScheduleNotFound) {
		t.Fatal(err)
	}
}

func TestListsComeWhole(t *testing.T) {
	ctx, client := serve(t)
	spec := &pb.ScheduleSpec{
		Workflow: "approval",
		Timing:   stepwire.At(time.Now().Add(time.Hour)),
		Input:    stepwire.Must(stepwire.Payload(map[string]any{"who": "ada", "amount": 12})),
		Labels:   map[string]string{"by": t.Name()},
	}
	var schedules []*stepwire.Schedule
	for index := range 5 {
		schedules = append(schedules, stepwire.Must(client.CreateSchedule(ctx, fmt.Sprintf("go-page-%d", index), spec)))
	}
	listed, err := client.ListSchedules(ctx, &pb.ListSchedulesRequest{Labels: spec.Labels, PageSize: 2})
	if err != nil || len(listed) != len(schedules) {
		t.Fatal(listed, err)
	}
	for _, schedule := range schedules {
		if err := schedule.Delete(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAChildsQuestionIsAnsweredAtTheParent(t *testing.T) {
	ctx, client := serve(t)
	trip := map[string]any{"who": "ada", "expenses": map[string]float64{"train": 120, "hotel": 240}}
	run := stepwire.Must(client.Start(ctx, "trip", trip))
	answered := map[string]bool{}
	for len(answered) < 2 {
		for _, waiter := range stepwire.Must(run.Info(ctx)).PendingWaiters {
			if answered[waiter.RunId] {
				continue
			}
			sent, err := run.AnswerPending(ctx, waiter, map[string]any{"verdict": "approve", "by": "grace"})
			if err != nil || sent.Delivered != 1 {
				t.Fatal(sent, err)
			}
			answered[waiter.RunId] = true
		}
	}
	verdicts, err := stepwire.Result[map[string]string](ctx, run)
	if err != nil || verdicts["train"] != "approved by grace" || verdicts["hotel"] != "approved by grace" {
		t.Fatal(verdicts, err)
	}
	children, err := run.Children(ctx)
	if err != nil || len(children) != 2 || children[0].Parent.GetRunId() != run.ID || !answered[children[0].RunId] {
		t.Fatal(children, err)
	}
}
