package io.stepwire.example.conformance;

import com.google.gson.JsonElement;
import com.google.gson.JsonParser;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.PrototypeMarshaller;
import io.grpc.ServiceDescriptor;
import io.stepwire.v1.RunServiceGrpc;
import io.stepwire.v1.ScheduleServiceGrpc;
import io.stepwire.v1.SnapshotServiceGrpc;
import io.stepwire.v1.StateServiceGrpc;
import io.stepwire.v1.WorkflowServiceGrpc;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.List;

/** The methods of the stubs by the names of the table, and their messages as JSON. */
final class Methods {
  private static final List<ServiceDescriptor> SERVICES =
      List.of(
          RunServiceGrpc.getServiceDescriptor(),
          ScheduleServiceGrpc.getServiceDescriptor(),
          SnapshotServiceGrpc.getServiceDescriptor(),
          StateServiceGrpc.getServiceDescriptor(),
          WorkflowServiceGrpc.getServiceDescriptor());

  private Methods() {}

  /** Finds {@code Service.Method}. */
  @SuppressWarnings("unchecked") // the generated methods of a service have messages only
  static MethodDescriptor<Message, Message> find(String name) throws Mismatch {
    String full = fullName(name);
    for (ServiceDescriptor service : SERVICES) {
      for (MethodDescriptor<?, ?> method : service.getMethods()) {
        if (method.getFullMethodName().equals(full)) {
          return (MethodDescriptor<Message, Message>) method;
        }
      }
    }
    throw new Mismatch("there is no method " + name);
  }

  /** Makes a unary method, which the contract need not have, whose messages are bytes. */
  static MethodDescriptor<byte[], byte[]> raw(String name) {
    return MethodDescriptor.newBuilder(Bytes.INSTANCE, Bytes.INSTANCE)
        .setType(MethodDescriptor.MethodType.UNARY)
        .setFullMethodName(fullName(name))
        .build();
  }

  private static String fullName(String name) {
    return "stepwire.v1." + name.replaceFirst("\\.", "/");
  }

  /** Reads the request of a method from protobuf's JSON mapping. */
  static Message request(MethodDescriptor<Message, Message> method, JsonElement document) throws Mismatch {
    PrototypeMarshaller<Message> marshaller = (PrototypeMarshaller<Message>) method.getRequestMarshaller();
    Message.Builder builder = marshaller.getMessagePrototype().newBuilderForType();
    try {
      JsonFormat.parser().merge(document.toString(), builder);
    } catch (InvalidProtocolBufferException error) {
      throw new Mismatch("the table's request is not one: " + error.getMessage());
    }
    return builder.build();
  }

  /** Writes a message in protobuf's JSON mapping. */
  static JsonElement document(Message message) throws Mismatch {
    try {
      return JsonParser.parseString(JsonFormat.printer().omittingInsignificantWhitespace().print(message));
    } catch (InvalidProtocolBufferException error) {
      throw new Mismatch("the message is not JSON: " + error.getMessage());
    }
  }

  private enum Bytes implements MethodDescriptor.Marshaller<byte[]> {
    INSTANCE;

    @Override
    public InputStream stream(byte[] value) {
      return new ByteArrayInputStream(value);
    }

    @Override
    public byte[] parse(InputStream stream) {
      try {
        return stream.readAllBytes();
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }
  }
}
