package io.stepwire.example;

import com.google.gson.JsonObject;
import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import io.stepwire.example.Reconnect.Silence;
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
import io.stepwire.v1.StreamEventsResponse;
import io.stepwire.v1.StreamOptions;
import java.util.Iterator;
import java.util.List;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Stream;

/**
 * Starts a run of the approval workflow, follows its events, answers its question, prints the result. With several
 * addresses, separated by commas, it goes on with the next one when one fails.
 */
public final class Approval {
  private Approval() {}

  public static void main(String[] args) throws InterruptedException {
    String addresses = args.length > 0 ? args[0] : "127.0.0.1:50051";
    List<ManagedChannel> channels =
        Stream.of(addresses.split(","))
            .map(Approval::open)
            .toList();
    try {
      follow(channels.stream().map(RunServiceGrpc::newBlockingStub).toList());
    } finally {
      for (ManagedChannel channel : channels) {
        channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
      }
    }
  }

  /** Opens a channel that finds a server out which hangs. gRPC for Java pings every 10 seconds at most. */
  private static ManagedChannel open(String address) {
    return Grpc.newChannelBuilder(address, InsecureChannelCredentials.create())
        .keepAliveTime(10, TimeUnit.SECONDS)
        .keepAliveTimeout(5, TimeUnit.SECONDS)
        .build();
  }

  private static void follow(List<RunServiceBlockingStub> replicas) throws InterruptedException {
    JsonObject expense = new JsonObject();
    expense.addProperty("who", "ada");
    expense.addProperty("amount", 120.5);
    expense.addProperty("purpose", "a keyboard");
    // The request_id makes the start safe to repeat after a lost connection.
    StartRunRequest start =
        StartRunRequest.newBuilder()
            .setWorkflow("approval")
            .setInput(Payloads.of(expense))
            .setRequestId(UUID.randomUUID().toString())
            .build();
    String runId = "";
    // The cursor makes the stream resumable: whatever happens to the connection, nothing is lost or seen twice.
    AtomicLong cursor = new AtomicLong();
    Optional<Outcome> outcome = Optional.empty();
    for (int attempt = 0; outcome.isEmpty(); attempt++) {
      RunServiceBlockingStub runs = replicas.get(attempt % replicas.size());
      try {
        if (runId.isEmpty()) {
          // Each call has its own deadline.
          runId = runs.withDeadlineAfter(10, TimeUnit.SECONDS).startRun(start).getRun().getRunId();
          System.out.println("run " + runId);
        }
        outcome = read(runs, runId, cursor);
      } catch (StatusRuntimeException error) {
        if (!Reconnect.lost(error)) {
          throw error;
        }
      }
      if (outcome.isEmpty()) {
        System.err.println("connection lost, going on after sequence " + cursor);
        TimeUnit.SECONDS.sleep(1);
      }
    }
    System.out.println(outcome.get().getStatus() + ": " + Payloads.read(outcome.get().getResult()));
  }

  /** Reads the run's events until it ends or the connection does; then there is no outcome. */
  private static Optional<Outcome> read(RunServiceBlockingStub runs, String runId, AtomicLong cursor) {
    StreamEventsRequest request =
        StreamEventsRequest.newBuilder()
            .setRunId(runId)
            .setAfterSequence(cursor.get())
            .setOptions(StreamOptions.newBuilder().setEncoding(PayloadEncoding.PAYLOAD_ENCODING_JSON))
            .build();
    Context.CancellableContext call = Context.current().withCancellation();
    Context before = call.attach();
    Iterator<StreamEventsResponse> stream;
    try {
      stream = runs.streamEvents(request);
    } finally {
      call.detach(before); // the answers below are calls of their own
    }
    try (Silence silence = new Silence(() -> call.cancel(null))) {
      while (true) {
        silence.await();
        boolean more = stream.hasNext();
        silence.heard();
        if (!more) {
          return Optional.empty();
        }
        StreamEventsResponse frame = stream.next();
        switch (frame.getFrameCase()) {
          case EVENTS -> {
            frame.getEvents().getEntriesList().forEach(entry -> see(runs, runId, entry));
            cursor.set(frame.getEvents().getToSequence());
          }
          case HEARTBEAT -> silence.take(frame.getHeartbeat());
          case FINISHED -> {
            return Optional.of(frame.getFinished().getOutcome());
          }
          default -> {} // a frame of a later version
        }
      }
    } finally {
      call.cancel(null);
    }
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
