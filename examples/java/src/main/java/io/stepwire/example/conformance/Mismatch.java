package io.stepwire.example.conformance;

/** A step does not hold; the message says where and why. */
final class Mismatch extends Exception {
  private static final long serialVersionUID = 1;

  Mismatch(String message) {
    super(message);
  }
}
