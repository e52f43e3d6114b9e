//! How a connection is told to end, and how it says that it did.

use std::time::Duration;

/// A connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    /// What it may still do.
    pub last: Last,
    /// When the peer has no right to be here any more, of an end that is told ahead: from then on it finishes what is in flight.
    pub over_in: Option<Duration>,
    /// How long it may take for all of that before it is cut.
    pub grace: Duration,
    /// Why, as records name it.
    pub reason: &'static str,
}

/// What a connection that is to end may still do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// Finish, and also what its peer asks before it has heard of the end.
    Asked,
    /// Finish what is in flight: its peer has no right to be here any more.
    InFlight,
}

/// Why a connection ended.
#[derive(Debug)]
pub enum Closed {
    /// In order, by either side.
    InOrder,
    /// Nothing moved on it for the idle limit.
    Idle,
    /// The end that was asked for came before the peer had finished.
    Cut,
    /// The peer broke the protocol; nothing of what it sent last was forwarded.
    Refused {
        /// The rule, as records name it.
        rule: &'static str,
        /// What was wrong.
        message: String,
    },
    /// The peer or the network failed.
    Failed {
        /// What was seen.
        cause: String,
    },
}
