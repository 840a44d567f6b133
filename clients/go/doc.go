// Package stepwire is a client of Stepwire servers: it starts runs of workflows, follows their events, answers their
// questions, and reads and writes their state.
//
//	client, err := stepwire.New("127.0.0.1:50051", stepwire.Options{})
//	run, err := client.Start(ctx, "approval", map[string]any{"who": "ada", "amount": 120})
//	for event, err := range run.Events(ctx) { … }
//
// Streams resume where they were when a connection is lost, calls are repeated under the same request_id, and a client
// with several addresses goes on with the next one. Errors of the server are *Error, with a Reason to compare with.
package stepwire
