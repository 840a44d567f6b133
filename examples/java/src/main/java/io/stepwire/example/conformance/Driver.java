package io.stepwire.example.conformance;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.Message;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;

/** Runs the scenarios of a table, prints a line of JSON for each: {@code Driver TABLE.json}. */
public final class Driver {
  private Driver() {}

  public static void main(String[] args) throws IOException, InterruptedException {
    if (args[0].equals("--version")) {
      String grpc = ManagedChannel.class.getProtectionDomain().getCodeSource().getLocation().getPath();
      String protobuf = Message.class.getProtectionDomain().getCodeSource().getLocation().getPath();
      System.out.printf("java %s, %s, %s%n", Runtime.version().feature(), jar(grpc), jar(protobuf));
      return;
    }
    JsonObject table = JsonParser.parseString(Files.readString(Path.of(args[0]))).getAsJsonObject();
    PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
    Map<String, ManagedChannel> channels = new HashMap<>();
    for (Map.Entry<String, JsonElement> server : table.getAsJsonObject("servers").entrySet()) {
      String address = server.getValue().getAsString();
      channels.put(server.getKey(), Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()).build());
    }
    try {
      Map<String, JsonElement> variables = table.getAsJsonObject("vars").asMap();
      for (JsonElement element : table.getAsJsonArray("scenarios")) {
        JsonObject scenario = element.getAsJsonObject();
        String server = scenario.has("server") ? scenario.get("server").getAsString() : "main";
        out.println(Scenario.run(scenario, channels.get(server), variables));
      }
    } finally {
      channels.values().forEach(ManagedChannel::shutdownNow);
    }
  }

  /** Returns the name and version that the file name of a jar tells. */
  private static String jar(String path) {
    return Path.of(path).getFileName().toString().replace(".jar", "");
  }
}
