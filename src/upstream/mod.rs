//! The only way out: every call takes a [`Permit`](crate::enforce::Permit).

mod body;
mod connect;
mod http1;
mod http2;
mod io;
mod lease;
mod pool;
mod send;
mod stream;
mod term;

pub use body::{Progress, RequestBody};
pub(crate) use connect::keep_alive;
pub use io::{Reached, UpstreamIo};
pub use lease::Lease;
pub use send::{Answer, Upstream, UpstreamOptions};
pub use stream::{OwnPurpose, StreamUpstream};
