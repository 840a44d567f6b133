// Typed calls over @grpc/grpc-js with the messages that protoc-gen-es generates.

import * as grpc from "@grpc/grpc-js";
import {
  type DescMessage,
  type DescMethodBiDiStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type MessageInitShape,
  type MessageShape,
  create,
  fromBinary,
  toBinary,
} from "@bufbuild/protobuf";

type Method = { name: string; parent: { typeName: string } };

const path = (method: Method): string => `/${method.parent.typeName}/${method.name}`;

const writer =
  <S extends DescMessage>(schema: S) =>
  (message: MessageShape<S>): Buffer =>
    Buffer.from(toBinary(schema, message));

const reader =
  <S extends DescMessage>(schema: S) =>
  (data: Buffer): MessageShape<S> =>
    fromBinary(schema, data);

export class StepwireClient {
  readonly channel: grpc.Client;

  constructor(address: string, credentials = grpc.credentials.createInsecure()) {
    this.channel = new grpc.Client(address, credentials, { "grpc.max_receive_message_length": 16 << 20 });
  }

  /** Make a unary call; rejects with a grpc.ServiceError. */
  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: grpc.CallOptions = { deadline: Date.now() + 10_000 },
    headers = new grpc.Metadata(),
  ): Promise<MessageShape<O>> {
    return new Promise((resolve, reject) => {
      this.channel.makeUnaryRequest(
        path(method),
        writer(method.input),
        reader(method.output),
        create(method.input, request),
        headers,
        options,
        (error, response) => (error ? reject(error) : resolve(response!)),
      );
    });
  }

  /** Read a stream of messages with `for await`. */
  stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options: grpc.CallOptions = {},
    headers = new grpc.Metadata(),
  ): grpc.ClientReadableStream<MessageShape<O>> {
    return this.channel.makeServerStreamRequest(
      path(method),
      writer(method.input),
      reader(method.output),
      create(method.input, request),
      headers,
      options,
    );
  }

  /** Talk both ways: `write` frames, read with `for await`. */
  converse<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O>,
    options: grpc.CallOptions = {},
    headers = new grpc.Metadata(),
  ): grpc.ClientDuplexStream<MessageShape<I>, MessageShape<O>> {
    return this.channel.makeBidiStreamRequest(
      path(method),
      writer(method.input),
      reader(method.output),
      headers,
      options,
    );
  }

  close(): void {
    this.channel.close();
  }
}
