package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	stepwire "github.com/stepwire/stepwire/clients/go"
	_ "github.com/stepwire/stepwire/clients/go/stepwirev1"
)

// methodOf finds Service.Method of the generated code; its path on the wire works for unknown methods too.
func methodOf(name string) (string, protoreflect.MethodDescriptor) {
	service, method, _ := strings.Cut(name, ".")
	path := fmt.Sprintf("/stepwire.v1.%s/%s", service, method)
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName("stepwire.v1." + service))
	if err != nil {
		return path, nil
	}
	return path, found.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(method))
}

func newMessage(descriptor protoreflect.MessageDescriptor) (proto.Message, error) {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(descriptor.FullName())
	if err != nil {
		return nil, err
	}
	return kind.New().Interface(), nil
}

func messageOf(descriptor protoreflect.MessageDescriptor, document any) (proto.Message, error) {
	message, err := newMessage(descriptor)
	if err != nil || document == nil {
		return message, err
	}
	text, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	return message, protojson.Unmarshal(text, message)
}

func documentOf(message proto.Message) (object, error) {
	text, err := protojson.Marshal(message)
	if err != nil {
		return nil, err
	}
	var document object
	return document, json.Unmarshal(text, &document)
}

// errorOf returns the error object of a call or a send that failed.
func errorOf(failed *stepwire.Error) object {
	metadata, violations := object{}, []any{}
	for key, value := range failed.Metadata {
		metadata[key] = value
	}
	for _, violation := range failed.Violations {
		violations = append(violations, violation.Field)
	}
	found := object{
		"code": code.Code(failed.Code()).String(), "message": failed.Message(), "reason": string(failed.Reason),
		"domain": "", "metadata": metadata, "violations": violations,
		"retryMs": float64(failed.RetryAfter.Milliseconds()),
	}
	if failed.Reason != "" {
		found["domain"] = "stepwire"
	}
	return found
}

// bytesCodec sends bytes as they are.
type bytesCodec struct{}

func (bytesCodec) Marshal(value any) ([]byte, error) { return value.([]byte), nil }

func (bytesCodec) Unmarshal(data []byte, value any) error {
	*value.(*[]byte) = append([]byte(nil), data...)
	return nil
}

func (bytesCodec) Name() string { return "proto" }
