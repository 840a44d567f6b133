//! When a stream is opened again: which errors are a lost connection, and how long a server may be silent.

use std::time::Duration;

use tonic::{Code, Status};

use crate::v1::Heartbeat;

/// Says whether a call that ended with this status was cut: its connection is lost, and another one may help. Errors of
/// the server carry details. A status without any comes from a proxy or from gRPC itself.
pub fn lost(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::Cancelled => true,
        Code::Unknown | Code::Internal | Code::ResourceExhausted | Code::DeadlineExceeded => {
            status.details().is_empty()
        }
        _ => false,
    }
}

/// How long a server may send nothing, not even heartbeats. A proxy may keep the connection of a dead server open, and
/// answer pings, for ever.
pub struct Silence {
    interval: Duration,
}

impl Default for Silence {
    /// Begins with the server's default, until it says otherwise.
    fn default() -> Self {
        Self { interval: Duration::from_secs(15) }
    }
}

impl Silence {
    /// Returns the longest silence: two heartbeats may be missing, and the next one may be late.
    pub fn limit(&self) -> Duration {
        self.interval * 2 + Duration::from_secs(2).max(self.interval / 3)
    }

    /// Learns when the next heartbeat comes.
    pub fn take(&mut self, beat: &Heartbeat) {
        if let Some(interval) = beat.interval.and_then(|interval| Duration::try_from(interval).ok()) {
            if !interval.is_zero() {
                self.interval = interval;
            }
        }
    }
}
