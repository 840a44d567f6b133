package io.stepwire.example.conformance;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.protobuf.Message;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.MethodDescriptor;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.StreamObserver;
import io.stepwire.v1.ConverseRequest;
import io.stepwire.v1.ConverseResponse;
import io.stepwire.v1.ConverseSendResult;
import io.stepwire.v1.EventBatch;
import io.stepwire.v1.LogEntry;
import io.stepwire.v1.StreamEventsRequest;
import io.stepwire.v1.StreamEventsResponse;
import java.util.ArrayDeque;
import java.util.Queue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** StreamEvents or Converse as items. */
final class EventStream implements AutoCloseable {
  /** What arrives: a frame, or the end with its error if it has one. */
  private record Arrival(Message frame, Throwable error) {}

  /** What a stream gives next: an item, or the end with its error object if it has one. */
  record Next(JsonObject item, JsonObject error) {}

  private final BlockingQueue<Arrival> arrivals = new LinkedBlockingQueue<>();
  private final Queue<JsonObject> items = new ArrayDeque<>();
  private final MethodDescriptor<Message, Message> method;
  private final ClientCall<Message, Message> call;
  private final StreamObserver<Message> frames; // null for StreamEvents
  private final long patienceMs;
  private long cursor;
  private Arrival end;

  EventStream(Channel channel, String name, JsonElement document, long deadlineMs) throws Mismatch {
    method = Methods.find(name);
    patienceMs = deadlineMs + 5000;
    Message request = Methods.request(method, document);
    call = channel.newCall(method, CallOptions.DEFAULT.withDeadlineAfter(deadlineMs, TimeUnit.MILLISECONDS));
    StreamObserver<Message> reader =
        new StreamObserver<>() {
          @Override
          public void onNext(Message frame) {
            arrivals.add(new Arrival(frame, null));
          }

          @Override
          public void onError(Throwable error) {
            arrivals.add(new Arrival(null, error));
          }

          @Override
          public void onCompleted() {
            arrivals.add(new Arrival(null, null));
          }
        };
    if (request instanceof ConverseRequest first) {
      cursor = first.getAttach().getAfterSequence();
      frames = ClientCalls.asyncBidiStreamingCall(call, reader);
      frames.onNext(request);
    } else if (request instanceof StreamEventsRequest follow) {
      cursor = follow.getAfterSequence();
      frames = null;
      ClientCalls.asyncServerStreamingCall(call, request, reader);
    } else {
      throw new Mismatch("there is no stream " + name);
    }
  }

  /** Sends a frame. */
  void send(JsonElement document) throws Mismatch {
    outgoing().onNext(Methods.request(method, document));
  }

  /** Sends no more frames. */
  void halfClose() throws Mismatch {
    outgoing().onCompleted();
  }

  private StreamObserver<Message> outgoing() throws Mismatch {
    if (frames == null) {
      throw new Mismatch("the stream takes no frames");
    }
    return frames;
  }

  /** Returns the next item, or the end. */
  Next next() throws Mismatch, InterruptedException {
    while (items.isEmpty()) {
      if (end == null) {
        Arrival arrival = arrivals.poll(patienceMs, TimeUnit.MILLISECONDS);
        if (arrival == null) {
          throw new Mismatch("the stream outlived its deadline");
        }
        if (arrival.frame() != null) {
          takeIn(arrival.frame());
          continue;
        }
        end = arrival;
      }
      return new Next(null, end.error() == null ? null : Errors.of(StatusProto.fromThrowable(end.error())));
    }
    return new Next(items.remove(), null);
  }

  private void takeIn(Message message) throws Mismatch {
    if (message instanceof StreamEventsResponse frame) {
      switch (frame.getFrameCase()) {
        case EVENTS -> takeBatch(frame.getEvents());
        case FINISHED -> add("finished", Methods.document(frame.getFinished()));
        default -> {}
      }
    } else if (message instanceof ConverseResponse frame) {
      switch (frame.getFrameCase()) {
        case OPENED -> add("opened", Methods.document(frame.getOpened()));
        case EVENTS -> takeBatch(frame.getEvents());
        case SEND_RESULT -> add("sendResult", sent(frame.getSendResult()));
        case FINISHED -> add("finished", Methods.document(frame.getFinished()));
        default -> {}
      }
    }
  }

  private static JsonElement sent(ConverseSendResult result) throws Mismatch {
    if (!result.hasError()) {
      return Methods.document(result);
    }
    JsonObject item = Methods.document(result.toBuilder().clearError().build()).getAsJsonObject();
    item.add("error", Errors.of(result.getError()));
    return item;
  }

  private void takeBatch(EventBatch batch) throws Mismatch {
    long from = batch.getFromSequence();
    long to = batch.getToSequence();
    if (from != cursor + 1 || to < from) {
      throw new Mismatch("a batch covers " + from + " to " + to + " after " + cursor);
    }
    long last = from - 1;
    for (LogEntry entry : batch.getEntriesList()) {
      if (entry.getSequence() <= last || entry.getSequence() > to) {
        throw new Mismatch("entry " + entry.getSequence() + " is out of order");
      }
      last = entry.getSequence();
      add("entry", Methods.document(entry));
    }
    cursor = to;
  }

  private void add(String kind, JsonElement document) {
    JsonObject item = new JsonObject();
    item.add(kind, document);
    items.add(item);
  }

  /** Cancels the call. */
  @Override
  public void close() {
    call.cancel("cut", null);
  }
}
