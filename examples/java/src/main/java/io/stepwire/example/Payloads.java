package io.stepwire.example;

import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonParser;
import com.google.protobuf.ByteString;
import io.stepwire.v1.Payload;

/** JSON documents as payloads, in the exact encoding. */
public final class Payloads {
  private Payloads() {}

  /** Makes a payload of a document. */
  public static Payload of(JsonElement document) {
    return Payload.newBuilder().setJson(ByteString.copyFromUtf8(document.toString())).build();
  }

  /** Reads a payload that was asked for as JSON; JSON null when there is none. */
  public static JsonElement read(Payload payload) {
    return payload.hasJson() ? JsonParser.parseString(payload.getJson().toStringUtf8()) : JsonNull.INSTANCE;
  }
}
