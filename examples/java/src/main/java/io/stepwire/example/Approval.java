package io.stepwire.example;

import com.google.gson.JsonObject;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.stepwire.v1.Event;
import io.stepwire.v1.EventRole;
import io.stepwire.v1.LogEntry;
import io.stepwire.v1.Outcome;
import io.stepwire.v1.PayloadEncoding;
import io.stepwire.v1.RunServiceGrpc;
import io.stepwire.v1.RunServiceGrpc.RunServiceBlockingStub;
import io.stepwire.v1.SendEventRequest;
import io.stepwire.v1.StartRunRequest;
import io.stepwire.v1.StreamEventsRequest;
import io.stepwire.v1.StreamOptions;
import java.util.UUID;
import java.util.concurrent.TimeUnit;

/** Starts a run of the approval workflow, follows its events, answers its question, prints the result. */
public final class Approval {
  private Approval() {}

  public static void main(String[] args) throws InterruptedException {
    String address = args.length > 0 ? args[0] : "127.0.0.1:50051";
    ManagedChannel channel = Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()).build();
    try {
      follow(RunServiceGrpc.newBlockingStub(channel));
    } finally {
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  private static void follow(RunServiceBlockingStub runs) {
    JsonObject expense = new JsonObject();
    expense.addProperty("who", "ada");
    expense.addProperty("amount", 120.5);
    expense.addProperty("purpose", "a keyboard");
    String runId =
        // Each call has its own deadline. The request_id makes it safe to call again after a lost connection.
        runs.withDeadlineAfter(10, TimeUnit.SECONDS)
            .startRun(
                StartRunRequest.newBuilder()
                    .setWorkflow("approval")
                    .setInput(Payloads.of(expense))
                    .setRequestId(UUID.randomUUID().toString())
                    .build())
            .getRun()
            .getRunId();
    System.out.println("run " + runId);

    StreamEventsRequest stream =
        StreamEventsRequest.newBuilder()
            .setRunId(runId)
            .setOptions(StreamOptions.newBuilder().setEncoding(PayloadEncoding.PAYLOAD_ENCODING_JSON))
            .build();
    runs.withDeadlineAfter(60, TimeUnit.SECONDS)
        .streamEvents(stream)
        .forEachRemaining(
            frame -> {
              switch (frame.getFrameCase()) {
                case EVENTS -> frame.getEvents().getEntriesList().forEach(entry -> see(runs, runId, entry));
                case FINISHED -> {
                  Outcome outcome = frame.getFinished().getOutcome();
                  System.out.println(outcome.getStatus() + ": " + Payloads.read(outcome.getResult()));
                }
                default -> {} // a heartbeat: the stream lives
              }
            });
  }

  private static void see(RunServiceBlockingStub runs, String runId, LogEntry entry) {
    JsonObject data = Payloads.read(entry.getPayload()).getAsJsonObject();
    System.out.printf("%3d %s %s%n", entry.getSequence(), entry.getType(), data);
    if (entry.getRole() != EventRole.EVENT_ROLE_INPUT_REQUIRED) {
      return;
    }
    JsonObject answer = new JsonObject();
    answer.add("expense_id", data.get("expense_id"));
    answer.addProperty("verdict", "approve");
    answer.addProperty("by", "grace");
    runs.withDeadlineAfter(10, TimeUnit.SECONDS)
        .sendEvent(
            SendEventRequest.newBuilder()
                .setRunId(runId)
                .setEvent(Event.newBuilder().setType("ApprovalAnswer").setPayload(Payloads.of(answer)))
                .setRequestId("answer-" + entry.getSequence())
                .build());
  }
}
