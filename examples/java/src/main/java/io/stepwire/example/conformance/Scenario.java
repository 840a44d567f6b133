package io.stepwire.example.conformance;

import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.protobuf.Message;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.Metadata;
import io.grpc.Metadata.Key;
import io.grpc.MethodDescriptor;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import io.stepwire.example.conformance.EventStream.Next;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** A scenario under way: its variables and its streams. */
final class Scenario implements AutoCloseable {
  private static final long CALL_MS = 15_000;
  private static final long STREAM_MS = 30_000;

  private final Channel channel;
  private final Map<String, JsonElement> variables;
  private final Map<String, EventStream> streams = new HashMap<>();
  private JsonObject lastError = new JsonObject();

  private Scenario(Channel channel, Map<String, JsonElement> variables) {
    this.channel = channel;
    this.variables = new HashMap<>(variables);
  }

  /** Runs a scenario; returns its line. */
  static JsonObject run(JsonObject scenario, Channel channel, Map<String, JsonElement> variables)
      throws InterruptedException {
    String detail = "";
    try (Scenario run = new Scenario(channel, variables)) {
      int number = 0;
      for (JsonElement step : scenario.getAsJsonArray("steps")) {
        try {
          run.step(step.getAsJsonObject());
        } catch (Mismatch mismatch) {
          String text = mismatch.getMessage();
          detail = "step " + number + ": " + text.substring(0, Math.min(500, text.length()));
          break;
        }
        number++;
      }
      JsonObject line = new JsonObject();
      line.add("scenario", scenario.get("name"));
      line.addProperty("ok", detail.isEmpty());
      line.addProperty("detail", detail);
      line.addProperty("code", text(run.lastError, "code", ""));
      line.addProperty("reason", text(run.lastError, "reason", ""));
      return line;
    }
  }

  @Override
  public void close() {
    streams.values().forEach(EventStream::close);
  }

  private void step(JsonObject table) throws Mismatch, InterruptedException {
    JsonObject rest = table.deepCopy();
    JsonElement save = rest.remove("save");
    JsonElement document = perform(Matching.substitute(rest, variables).getAsJsonObject());
    if (save != null) {
      for (Map.Entry<String, JsonElement> entry : save.getAsJsonObject().entrySet()) {
        variables.put(entry.getKey(), Matching.atPath(document, entry.getValue().getAsString()));
      }
    }
  }

  private JsonElement perform(JsonObject step) throws Mismatch, InterruptedException {
    String name = text(step, "stream", "main");
    JsonElement document = JsonNull.INSTANCE;
    if (step.has("call")) {
      document = call(step);
    } else if (step.has("open")) {
      streams.put(name, new EventStream(channel(step), text(step, "open", ""), request(step), deadline(step, STREAM_MS)));
    } else if (step.has("send")) {
      stream(name).send(step.get("send"));
    } else if (step.has("half_close")) {
      stream(name).halfClose();
    } else if (step.has("cut")) {
      stream(name).close();
    } else if (step.has("receive")) {
      for (JsonElement pattern : step.getAsJsonArray("receive")) {
        document = take(stream(name));
        Matching.check(pattern, document, "the item");
      }
    } else if (step.has("until")) {
      do {
        document = take(stream(name));
      } while (!matches(step.get("until"), document));
    } else if (step.has("end")) {
      end(stream(name), step.get("error"));
    } else {
      throw new Mismatch("the step has no verb");
    }
    return document;
  }

  private JsonElement call(JsonObject step) throws Mismatch {
    CallOptions options = CallOptions.DEFAULT.withDeadlineAfter(deadline(step, CALL_MS), TimeUnit.MILLISECONDS);
    JsonElement document;
    try {
      document = answer(step, options);
    } catch (StatusRuntimeException status) {
      JsonObject found = met(Errors.of(StatusProto.fromThrowable(status)));
      if (!step.has("error")) {
        throw new Mismatch("the call failed: " + found);
      }
      Matching.check(step.get("error"), found, "the error");
      return found;
    }
    if (step.has("error")) {
      throw new Mismatch("the call succeeded");
    }
    if (step.has("expect")) {
      Matching.check(step.get("expect"), document, "the response");
    }
    return document;
  }

  private JsonElement answer(JsonObject step, CallOptions options) throws Mismatch {
    String name = step.get("call").getAsString();
    if (step.has("raw")) {
      byte[] bytes = Base64.getDecoder().decode(step.get("raw").getAsString());
      ClientCalls.blockingUnaryCall(channel(step), Methods.raw(name), options, bytes);
      return new JsonObject();
    }
    MethodDescriptor<Message, Message> method = Methods.find(name);
    Message request = Methods.request(method, request(step));
    return Methods.document(ClientCalls.blockingUnaryCall(channel(step), method, options, request));
  }

  private JsonObject take(EventStream stream) throws Mismatch, InterruptedException {
    Next next = stream.next();
    if (next.item() == null) {
      throw new Mismatch(next.error() == null ? "the stream ended" : "the stream failed: " + met(next.error()));
    }
    if (next.item().has("sendResult") && next.item().getAsJsonObject("sendResult").has("error")) {
      met(next.item().getAsJsonObject("sendResult").getAsJsonObject("error"));
    }
    return next.item();
  }

  private void end(EventStream stream, JsonElement expected) throws Mismatch, InterruptedException {
    Next next = stream.next();
    if (next.item() != null) {
      throw new Mismatch("the stream goes on with " + next.item());
    }
    if (next.error() != null) {
      met(next.error());
      if (expected == null) {
        throw new Mismatch("the stream failed: " + next.error());
      }
      Matching.check(expected, next.error(), "the error");
    } else if (expected != null) {
      throw new Mismatch("the stream ended without an error");
    }
  }

  private EventStream stream(String name) throws Mismatch {
    EventStream stream = streams.get(name);
    if (stream == null) {
      throw new Mismatch("no stream " + name + " is open");
    }
    return stream;
  }

  private JsonObject met(JsonObject error) {
    lastError = error;
    return error;
  }

  private static boolean matches(JsonElement pattern, JsonElement item) {
    try {
      Matching.check(pattern, item, "the item");
      return true;
    } catch (Mismatch mismatch) {
      return false;
    }
  }

  /** Returns the channel, with the step's headers on each call. */
  private Channel channel(JsonObject step) {
    if (!step.has("headers")) {
      return channel;
    }
    Metadata headers = new Metadata();
    for (Map.Entry<String, JsonElement> header : step.getAsJsonObject("headers").entrySet()) {
      headers.put(Key.of(header.getKey(), Metadata.ASCII_STRING_MARSHALLER), header.getValue().getAsString());
    }
    return ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(headers));
  }

  private static JsonElement request(JsonObject step) {
    return step.has("request") ? step.get("request") : new JsonObject();
  }

  private static long deadline(JsonObject step, long standard) {
    return step.has("deadline_ms") ? step.get("deadline_ms").getAsLong() : standard;
  }

  private static String text(JsonObject object, String key, String standard) {
    return object.has(key) ? object.get(key).getAsString() : standard;
  }
}
