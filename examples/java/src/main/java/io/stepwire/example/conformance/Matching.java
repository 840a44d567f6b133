package io.stepwire.example.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Variables, paths and patterns of the table, as tests/system/conformance/README.md defines them. */
final class Matching {
  private static final Pattern VARIABLE = Pattern.compile("\\$\\{(\\w+)}");

  private Matching() {}

  /** Fills {@code ${name}} in every string of a value. */
  static JsonElement substitute(JsonElement value, Map<String, JsonElement> variables) throws Mismatch {
    if (value.isJsonObject()) {
      JsonObject filled = new JsonObject();
      for (Map.Entry<String, JsonElement> field : value.getAsJsonObject().entrySet()) {
        filled.add(field.getKey(), substitute(field.getValue(), variables));
      }
      return filled;
    }
    if (value.isJsonArray()) {
      JsonArray filled = new JsonArray();
      for (JsonElement item : value.getAsJsonArray()) {
        filled.add(substitute(item, variables));
      }
      return filled;
    }
    return isString(value) ? fill(value.getAsString(), variables) : value;
  }

  private static JsonElement fill(String text, Map<String, JsonElement> variables) throws Mismatch {
    StringBuilder filled = new StringBuilder();
    Matcher found = VARIABLE.matcher(text);
    while (found.find()) {
      JsonElement value = variables.get(found.group(1));
      if (value == null) {
        throw new Mismatch("there is no variable " + found.group(1));
      }
      if (found.start() == 0 && found.end() == text.length()) {
        return value;
      }
      String part = value.isJsonPrimitive() ? value.getAsString() : value.toString();
      found.appendReplacement(filled, Matcher.quoteReplacement(part));
    }
    return new JsonPrimitive(found.appendTail(filled).toString());
  }

  /** Returns what is at a dotted path. */
  static JsonElement atPath(JsonElement document, String path) throws Mismatch {
    JsonElement found = document;
    for (String part : path.isEmpty() ? new String[0] : path.split("\\.")) {
      JsonElement next = null;
      if (found.isJsonObject()) {
        next = found.getAsJsonObject().get(part);
      } else if (found.isJsonArray() && part.matches("\\d{1,6}")) {
        int index = Integer.parseInt(part);
        next = index < found.getAsJsonArray().size() ? found.getAsJsonArray().get(index) : null;
      }
      if (next == null) {
        throw new Mismatch("nothing is at " + path + " to save");
      }
      found = next;
    }
    return found;
  }

  /** Throws, saying where, unless the pattern matches what is there; null is nothing. */
  static void check(JsonElement pattern, JsonElement actual, String at) throws Mismatch {
    JsonElement there = actual == null || actual.isJsonNull() ? null : actual;
    if (pattern.isJsonObject()) {
      checkObject(pattern.getAsJsonObject(), there, at);
    } else if (pattern.isJsonArray()) {
      checkArray(pattern.getAsJsonArray(), there, at);
    } else if (isString(pattern) && pattern.getAsString().equals("*")) {
      if (there == null || isEmpty(there)) {
        throw new Mismatch(at + " is not there, or empty");
      }
    } else if (!equal(pattern, there)) {
      throw differs(pattern, there, at);
    }
  }

  private static void checkObject(JsonObject pattern, JsonElement actual, String at) throws Mismatch {
    if (actual != null && !actual.isJsonObject()) {
      throw differs(pattern, actual, at);
    }
    for (Map.Entry<String, JsonElement> field : pattern.entrySet()) {
      JsonElement value = actual == null ? null : actual.getAsJsonObject().get(field.getKey());
      check(field.getValue(), value, at + "." + field.getKey());
    }
  }

  private static void checkArray(JsonArray pattern, JsonElement actual, String at) throws Mismatch {
    JsonElement items = actual == null ? new JsonArray() : actual;
    if (!items.isJsonArray() || items.getAsJsonArray().size() != pattern.size()) {
      throw new Mismatch(at + " is " + brief(actual) + ", not a list of " + pattern.size());
    }
    for (int index = 0; index < pattern.size(); index++) {
      check(pattern.get(index), items.getAsJsonArray().get(index), at + "." + index);
    }
  }

  private static boolean equal(JsonElement pattern, JsonElement actual) {
    if (pattern.isJsonNull()) {
      return actual == null;
    }
    JsonPrimitive expected = pattern.getAsJsonPrimitive();
    if (actual != null && !actual.isJsonPrimitive()) {
      return false;
    }
    JsonPrimitive found = actual == null ? null : actual.getAsJsonPrimitive();
    if (expected.isBoolean()) {
      return found == null ? !expected.getAsBoolean() : found.equals(expected);
    }
    if (expected.isString()) {
      return found == null ? expected.getAsString().isEmpty() : found.isString() && found.equals(expected);
    }
    if (found != null && found.isBoolean()) {
      return false;
    }
    try {
      return expected.getAsDouble() == (found == null ? 0 : Double.parseDouble(found.getAsString()));
    } catch (NumberFormatException error) {
      return false;
    }
  }

  private static boolean isEmpty(JsonElement value) {
    if (value.isJsonObject()) {
      return value.getAsJsonObject().size() == 0;
    }
    if (value.isJsonArray()) {
      return value.getAsJsonArray().isEmpty();
    }
    JsonPrimitive primitive = value.getAsJsonPrimitive();
    if (primitive.isBoolean()) {
      return !primitive.getAsBoolean();
    }
    if (primitive.isNumber()) {
      return primitive.getAsDouble() == 0;
    }
    return primitive.getAsString().isEmpty() || primitive.getAsString().equals("0");
  }

  private static boolean isString(JsonElement value) {
    return value.isJsonPrimitive() && value.getAsJsonPrimitive().isString();
  }

  private static Mismatch differs(JsonElement pattern, JsonElement actual, String at) {
    return new Mismatch(at + " is " + brief(actual) + ", not " + brief(pattern));
  }

  private static String brief(JsonElement value) {
    String text = String.valueOf(value == null ? JsonNull.INSTANCE : value);
    return text.length() <= 200 ? text : text.substring(0, 200) + "…";
  }
}
