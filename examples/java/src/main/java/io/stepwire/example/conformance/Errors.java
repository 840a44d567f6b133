package io.stepwire.example.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.util.Durations;
import com.google.rpc.BadRequest;
import com.google.rpc.Code;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;

/** Error objects, made from statuses. */
final class Errors {
  private Errors() {}

  /** Makes the error object of a status; {@code StatusProto.fromThrowable} gives that of a failed call. */
  static JsonObject of(Status status) {
    JsonObject found = new JsonObject();
    Code code = Code.forNumber(status.getCode());
    found.addProperty("code", (code == null ? Code.UNKNOWN : code).name());
    found.addProperty("message", status.getMessage());
    ErrorInfo info = ErrorInfo.getDefaultInstance();
    JsonArray violations = new JsonArray();
    long retryMs = 0;
    try {
      for (Any detail : status.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          info = detail.unpack(ErrorInfo.class);
        } else if (detail.is(BadRequest.class)) {
          detail.unpack(BadRequest.class).getFieldViolationsList().forEach(one -> violations.add(one.getField()));
        } else if (detail.is(RetryInfo.class)) {
          retryMs = Durations.toMillis(detail.unpack(RetryInfo.class).getRetryDelay());
        }
      }
    } catch (InvalidProtocolBufferException error) {
      found.addProperty("message", "the details of the status are not readable: " + error.getMessage());
    }
    JsonObject metadata = new JsonObject();
    info.getMetadataMap().forEach(metadata::addProperty);
    found.addProperty("reason", info.getReason());
    found.addProperty("domain", info.getDomain());
    found.add("metadata", metadata);
    found.add("violations", violations);
    found.addProperty("retryMs", retryMs);
    return found;
  }
}
