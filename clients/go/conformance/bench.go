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

	stepwire "github.com/stepwire/stepwire/clients/go"
	pb "github.com/stepwire/stepwire/clients/go/stepwirev1"
)

// bench reads one run's stream from both addresses in turn and prints the median seconds of each.
func bench(stepwireAddress, rawAddress, runID, roundsText string) error {
	rounds, err := strconv.Atoi(roundsText)
	if err != nil || rounds < 1 {
		return errors.New("ROUNDS must be a positive number")
	}
	clients := make([]*stepwire.Client, 2)
	for index, address := range []string{stepwireAddress, rawAddress} {
		client, err := dial(address)
		if err != nil {
			return err
		}
		defer client.Close()
		clients[index] = client
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

func readStream(client *stepwire.Client, runID string) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	stream, err := client.Runs.StreamEvents(ctx, &pb.StreamEventsRequest{
		RunId:   runID,
		Options: &pb.StreamOptions{Encoding: pb.PayloadEncoding_PAYLOAD_ENCODING_JSON},
	})
	if err != nil {
		return 0, err
	}
	entries := 0
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return 0, err
		}
		if events := response.GetEvents(); events != nil {
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
