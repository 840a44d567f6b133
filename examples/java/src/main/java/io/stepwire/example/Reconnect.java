package io.stepwire.example;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.util.Durations;
import com.google.rpc.ErrorInfo;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.stepwire.v1.Heartbeat;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

/** When a stream is opened again: which errors are a lost connection, and how long a server may be silent. */
public final class Reconnect {
  private Reconnect() {}

  /**
   * Says whether a call that ended with an error was cut: its connection is lost, and another one may help. Errors of
   * the server carry its reason. A status without one comes from a proxy or from gRPC itself.
   */
  public static boolean lost(StatusRuntimeException error) {
    return switch (error.getStatus().getCode()) {
      case UNAVAILABLE, CANCELLED -> true;
      case UNKNOWN, INTERNAL, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED -> !hasReason(error);
      default -> false;
    };
  }

  private static boolean hasReason(StatusRuntimeException error) {
    try {
      for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
        if (detail.is(ErrorInfo.class) && detail.unpack(ErrorInfo.class).getDomain().equals("stepwire")) {
          return true;
        }
      }
    } catch (InvalidProtocolBufferException damaged) {
      return false;
    }
    return false;
  }

  /**
   * Cancels a stream whose server sends nothing, not even heartbeats. A proxy may keep the connection of a dead server
   * open, and answer pings, for ever.
   */
  public static final class Silence implements AutoCloseable {
    private final ScheduledExecutorService clock = Executors.newSingleThreadScheduledExecutor();
    private final Runnable cancel;
    private long intervalMillis = 15_000; // the server's default, until it says otherwise
    private Future<?> alarm;

    public Silence(Runnable cancel) {
      this.cancel = cancel;
    }

    /** Begins to count: two heartbeats may be missing, and the next one may be late. */
    public void await() {
      long limit = 2 * intervalMillis + Math.max(2_000, intervalMillis / 3);
      alarm = clock.schedule(cancel, limit, TimeUnit.MILLISECONDS);
    }

    /** Stops the count. What the caller does with a frame takes as long as it takes. */
    public void heard() {
      alarm.cancel(false);
    }

    /** Learns when the next heartbeat comes. */
    public void take(Heartbeat beat) {
      if (Durations.isPositive(beat.getInterval())) {
        intervalMillis = Durations.toMillis(beat.getInterval());
      }
    }

    @Override
    public void close() {
      clock.shutdownNow();
    }
  }
}
