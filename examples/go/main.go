// Approval starts a run, answers the question that it asks, and prints its result.
//
//	build/approval [HOST:PORT,…]
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/stepwire/stepwire/clients/go"
)

func main() {
	ctx, address := context.Background(), append(os.Args, "127.0.0.1:50051")[1]
	client := stepwire.Must(stepwire.New(address, stepwire.Options{}))
	run := stepwire.Must(client.Start(ctx, "approval", map[string]any{"who": "ada", "amount": 120}))
	for event, err := range run.Events(ctx) {
		fmt.Println(stepwire.Must(event, err))
		if event.Type == "ApprovalQuestion" {
			stepwire.Must(run.Answer(ctx, event, map[string]any{"verdict": ask(), "by": "go"}))
		}
	}
	fmt.Println("COMPLETED:", stepwire.Must(stepwire.Result[string](ctx, run)))
}

// ask asks the person at the terminal.
func ask() string {
	fmt.Print("Approve? [y/n] ")
	line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	if strings.HasPrefix(strings.ToLower(line), "y") {
		return "approve"
	}
	return "reject"
}
