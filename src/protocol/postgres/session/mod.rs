//! The statements of a session: each is judged, replaced in place if it is denied, accounted for and recorded.
//!
//! `session` is a machine without sockets; `driver` moves bytes between it and both sides.

mod cache;
mod client;
mod copy;
mod deny;
mod disclosure;
mod driver;
mod extended;
mod facts;
mod function_call;
mod judge;
mod messages;
mod out;
mod outage;
mod own;
mod pipeline;
mod prepared;
mod query;
mod record;
mod room;
mod rows;
mod run;
mod server;
#[expect(clippy::module_inception, reason = "the walk of a session, in the folder of sessions")]
mod session;
mod setup;

#[cfg(test)]
mod tests;

pub(super) use run::{SessionStart, run};
