package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	pb "github.com/stepwire/stepwire/examples/go/stepwirev1"
)

// bench reads one run's stream from both addresses in turn and prints the median seconds of each.
func bench(stepwireAddress, rawAddress, runID, roundsText string) error {
	rounds, err := strconv.Atoi(roundsText)
	if err != nil || rounds < 1 {
		return errors.New("ROUNDS must be a positive number")
	}
	clients := make([]pb.RunServiceClient, 2)
	for index, address := range []string{stepwireAddress, rawAddress} {
		connection, err := dial(address)
		if err != nil {
			return err
		}
		defer connection.Close()
		clients[index] = pb.NewRunServiceClient(connection)
	}
	seconds := [2][]float64{}
	events := 0
	for round := range rounds + 1 {
		for index, client := range clients {
			begin := time.Now()
			read, err := readStream(client, runID)
			if err != nil {
				return err
			}
			if events != 0 && read != events {
				return fmt.Errorf("one stream gave %d entries, another %d", events, read)
			}
			events = read
			if round > 0 {
				seconds[index] = append(seconds[index], time.Since(begin).Seconds())
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(object{
		"events": events, "stepwire": median(seconds[0]), "raw": median(seconds[1]),
	})
}

func readStream(client pb.RunServiceClient, runID string) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	stream, err := client.StreamEvents(ctx, &pb.StreamEventsRequest{
		RunId:   runID,
		Options: &pb.StreamOptions{Encoding: pb.PayloadEncoding_PAYLOAD_ENCODING_JSON},
	})
	if err != nil {
		return 0, err
	}
	entries, cursor := 0, int64(0)
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return 0, err
		}
		if events := response.GetEvents(); events != nil {
			if events.FromSequence != cursor+1 {
				return 0, fmt.Errorf("a batch begins at %d after %d", events.FromSequence, cursor)
			}
			cursor = events.ToSequence
			entries += len(events.Entries)
		}
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}
