// Approval starts a run, follows its events, answers its question and prints the result.
//
//	build/approval [ADDRESS]
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "github.com/stepwire/stepwire/examples/go/stepwirev1"
)

// The events of the workflow; `stepwire describe approval` gives their JSON Schemas.

type expense struct {
	Who     string  `json:"who"`
	Amount  float64 `json:"amount"`
	Purpose string  `json:"purpose,omitempty"`
}

type question struct {
	ExpenseID string `json:"expense_id"`
	Text      string `json:"text"`
}

type answer struct {
	ExpenseID string `json:"expense_id"`
	Verdict   string `json:"verdict"`
	By        string `json:"by"`
}

func main() {
	log.SetFlags(0)
	address := "127.0.0.1:50051"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	if err := approve(context.Background(), pb.NewRunServiceClient(connection)); err != nil {
		log.Fatal(err)
	}
}

func approve(ctx context.Context, runs pb.RunServiceClient) error {
	call, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	started, err := runs.StartRun(call, &pb.StartRunRequest{
		Workflow: "approval",
		Input:    payload(expense{Who: "ada", Amount: 120, Purpose: "a keyboard"}),
		// Makes the start safe to repeat after a lost connection.
		RequestId: rand.Text(),
	})
	if err != nil {
		return err
	}
	runID := started.Run.RunId
	fmt.Println("started", runID)

	// The cursor makes the stream resumable: whatever happens to the connection, nothing is lost or seen twice.
	var cursor int64
	for {
		outcome, err := follow(ctx, runs, runID, &cursor)
		if outcome != nil {
			fmt.Printf("%s: %s\n", outcome.Status, outcome.Result.GetJson())
			return nil
		}
		if !lost(err) {
			return err
		}
		log.Printf("connection lost, going on after sequence %d", cursor)
		time.Sleep(time.Second)
	}
}

// follow reads the run's events until it ends or the connection does.
func follow(ctx context.Context, runs pb.RunServiceClient, runID string, cursor *int64) (*pb.Outcome, error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := runs.StreamEvents(call, &pb.StreamEventsRequest{
		RunId:         runID,
		AfterSequence: *cursor,
		Options:       &pb.StreamOptions{Encoding: pb.PayloadEncoding_PAYLOAD_ENCODING_JSON},
	}, grpc.WaitForReady(true))
	if err != nil {
		return nil, err
	}
	silence := newSilence(cancel)
	for {
		silence.wait()
		response, err := stream.Recv()
		silence.heard(response)
		if errors.Is(err, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		switch frame := response.Frame.(type) {
		case *pb.StreamEventsResponse_Events:
			for _, entry := range frame.Events.Entries {
				fmt.Printf("%4d %s %s\n", entry.Sequence, entry.Type, entry.Payload.GetJson())
				if entry.Type == "ApprovalQuestion" {
					if err := reply(ctx, runs, runID, entry); err != nil {
						return nil, err
					}
				}
			}
			*cursor = frame.Events.ToSequence
		case *pb.StreamEventsResponse_Finished:
			return frame.Finished.Outcome, nil
		}
	}
}

// reply asks the person at the terminal and sends the answer.
func reply(ctx context.Context, runs pb.RunServiceClient, runID string, entry *pb.LogEntry) error {
	var asked question
	if err := json.Unmarshal(entry.Payload.GetJson(), &asked); err != nil {
		return err
	}
	fmt.Printf("%s. Approve? [y/n] ", asked.Text)
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil && line == "" {
		return fmt.Errorf("no answer: %w", err)
	}
	verdict := "reject"
	if strings.HasPrefix(strings.ToLower(line), "y") {
		verdict = "approve"
	}
	call, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err = runs.SendEvent(call, &pb.SendEventRequest{
		RunId: runID,
		Event: &pb.Event{
			Type:    "ApprovalAnswer",
			Payload: payload(answer{ExpenseID: asked.ExpenseID, Verdict: verdict, By: "go"}),
		},
		// The same id for the same question: sent again after a lost connection, it counts once.
		RequestId: fmt.Sprintf("answer-%d", entry.Sequence),
	})
	return err
}

func payload(fields any) *pb.Payload {
	data, err := json.Marshal(fields)
	if err != nil {
		panic(err) // our own structs always have a JSON form
	}
	return &pb.Payload{Encoding: &pb.Payload_Json{Json: data}}
}
