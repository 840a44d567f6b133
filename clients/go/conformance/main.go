// Driver runs the conformance table (tests/system/conformance/README.md says how to read it).
//
//	driver TABLE.json
//	driver bench-stream STEPWIRE_ADDRESS RAW_ADDRESS RUN_ID ROUNDS
//	driver walk ADDRESSES RUN_ID COUNT
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"maps"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	stepwire "github.com/stepwire/stepwire/clients/go"
)

type table struct {
	Servers   map[string]string `json:"servers"`
	Vars      object            `json:"vars"`
	Scenarios []scenario        `json:"scenarios"`
}

type scenario struct {
	Name   string   `json:"name"`
	Server string   `json:"server"`
	Steps  []object `json:"steps"`
}

type result struct {
	Scenario string `json:"scenario"`
	OK       bool   `json:"ok"`
	Detail   string `json:"detail"`
	Code     string `json:"code"`
	Reason   string `json:"reason"`
}

func main() {
	log.SetFlags(0)
	var err error
	switch {
	case len(os.Args) == 2:
		err = runTable(os.Args[1])
	case len(os.Args) == 6 && os.Args[1] == "bench-stream":
		err = bench(os.Args[2], os.Args[3], os.Args[4], os.Args[5])
	case len(os.Args) == 5 && os.Args[1] == "walk":
		err = walk(os.Args[2], os.Args[3], os.Args[4])
	default:
		err = errors.New("usage: driver TABLE.json | walk ADDRESSES RUN_ID COUNT | bench-stream STEPWIRE_ADDRESS RAW_ADDRESS RUN_ID ROUNDS")
	}
	if err != nil {
		log.Fatal(err)
	}
}

func dial(address string) (*stepwire.Client, error) {
	// The table says what a call ends with, so the client must not repeat it.
	return stepwire.New(address, stepwire.Options{NoRepeats: true})
}

// walk calls GetRun some times, with a token.
func walk(addresses, runID, count string) error {
	token := func() (string, error) { return "secret", nil }
	client, err := stepwire.New(addresses, stepwire.Options{Token: token})
	if err != nil {
		return err
	}
	defer client.Close()
	times, err := strconv.Atoi(count)
	for range times {
		if _, err := client.Run(runID).Info(context.Background()); err != nil {
			return err
		}
	}
	return err
}

func runTable(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var read table
	if err := json.Unmarshal(text, &read); err != nil {
		return err
	}
	clients := map[string]*stepwire.Client{}
	for name, address := range read.Servers {
		client, err := dial(address)
		if err != nil {
			return err
		}
		defer client.Close()
		clients[name] = client
	}
	lines := json.NewEncoder(os.Stdout)
	for _, one := range read.Scenarios {
		server := one.Server
		if server == "" {
			server = "main"
		}
		if err := lines.Encode(runScenario(one, clients[server], read.Vars)); err != nil {
			return err
		}
	}
	return nil
}

func runScenario(one scenario, client *stepwire.Client, variables object) result {
	current := &run{client: client, variables: maps.Clone(variables), streams: map[string]*stream{}}
	defer current.close()
	line := result{Scenario: one.Name, OK: true}
	for number, step := range one.Steps {
		if err := current.step(step); err != nil {
			line.OK, line.Detail = false, fmt.Sprintf("step %d: %v", number, err)
			break
		}
	}
	line.Code, _ = current.lastError["code"].(string)
	line.Reason, _ = current.lastError["reason"].(string)
	return line
}

// run is a scenario under way.
type run struct {
	client    *stepwire.Client
	variables object
	streams   map[string]*stream
	lastError object
}

func (r *run) close() {
	for _, open := range r.streams {
		open.cancel()
	}
}

func (r *run) met(failure object) object {
	r.lastError = failure
	return failure
}

func (r *run) step(written object) error {
	save, _ := written["save"].(object)
	filled, err := substitute(written, r.variables)
	if err != nil {
		return err
	}
	step := filled.(object)
	document, err := r.do(step)
	if err != nil {
		return err
	}
	for name, path := range save {
		if r.variables[name], err = at(document, path.(string)); err != nil {
			return err
		}
	}
	return nil
}

// do does one step and returns what it may save from.
func (r *run) do(step object) (any, error) {
	if name, ok := step["call"].(string); ok {
		return r.call(name, step)
	}
	streamName, ok := step["stream"].(string)
	if !ok {
		streamName = "main"
	}
	if name, ok := step["open"].(string); ok {
		ctx, cancel := callContext(step, 30*time.Second)
		opened, err := openStream(ctx, cancel, r.client, name, step["request"], r.met)
		if err == nil {
			r.streams[streamName] = opened
		}
		return nil, err
	}
	open := r.streams[streamName]
	if open == nil {
		return nil, fmt.Errorf("no stream %s is open", streamName)
	}
	if frame, ok := step["send"]; ok {
		return nil, open.send(frame)
	}
	if patterns, ok := step["receive"].([]any); ok {
		var item object
		for _, pattern := range patterns {
			var err error
			if item, err = open.take(); err != nil {
				return nil, err
			}
			if err := match(pattern, item, "the item"); err != nil {
				return nil, err
			}
		}
		return item, nil
	}
	if pattern, ok := step["until"]; ok {
		for {
			item, err := open.take()
			if err != nil {
				return nil, err
			}
			if match(pattern, item, "") == nil {
				return item, nil
			}
		}
	}
	if _, ok := step["half_close"]; ok {
		open.talk.CloseSend()
		return nil, nil
	}
	if _, ok := step["cut"]; ok {
		open.cancel()
		return nil, nil
	}
	if _, ok := step["end"]; ok {
		return nil, end(open, step)
	}
	return nil, errors.New("the step has no verb")
}

func (r *run) call(name string, step object) (any, error) {
	ctx, cancel := callContext(step, 15*time.Second)
	defer cancel()
	path, method := methodOf(name)
	var document object
	var failed error
	if raw, ok := step["raw"].(string); ok {
		data, err := base64.StdEncoding.DecodeString(raw)
		if err != nil {
			return nil, err
		}
		var answer []byte
		failed = r.client.Invoke(ctx, path, data, &answer, grpc.ForceCodec(bytesCodec{}))
	} else {
		request, err := messageOf(method.Input(), step["request"])
		if err != nil {
			return nil, err
		}
		response, err := newMessage(method.Output())
		if err != nil {
			return nil, err
		}
		failed = r.client.Invoke(ctx, path, request, response)
		if document, err = documentOf(response); err != nil {
			return nil, err
		}
	}
	pattern, wanted := step["error"]
	if failed != nil {
		var typed *stepwire.Error
		if !errors.As(failed, &typed) {
			return nil, failed
		}
		failure := r.met(errorOf(typed))
		if !wanted {
			return nil, fmt.Errorf("the call failed: %s", short(failure))
		}
		return failure, match(pattern, failure, "the error")
	}
	if wanted {
		return nil, errors.New("the call succeeded")
	}
	if expected, ok := step["expect"]; ok {
		return document, match(expected, document, "the response")
	}
	return document, nil
}

func end(open *stream, step object) error {
	item, err := open.take()
	if err == nil {
		return fmt.Errorf("the stream goes on with %s", short(item))
	}
	var over ended
	if !errors.As(err, &over) {
		return err
	}
	pattern, wanted := step["error"]
	switch {
	case over.failure == nil && wanted:
		return errors.New("the stream ended without an error")
	case over.failure != nil && !wanted:
		return over
	case wanted:
		return match(pattern, over.failure, "the error")
	}
	return nil
}

// callContext has the deadline and the headers of a step.
func callContext(step object, standard time.Duration) (context.Context, context.CancelFunc) {
	if milliseconds, ok := step["deadline_ms"].(float64); ok {
		standard = time.Duration(milliseconds) * time.Millisecond
	}
	ctx := context.Background()
	headers, _ := step["headers"].(object)
	for name, value := range headers {
		ctx = metadata.AppendToOutgoingContext(ctx, name, value.(string))
	}
	return context.WithTimeout(ctx, standard)
}
