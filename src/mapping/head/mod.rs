//! What every request head must be before anybody asks what it means, whatever the HTTP version.
//!
//! HTTP/1.1 heads have passed the byte guard before; HTTP/2 heads have not, so nothing here relies on it.
//!
//! Two things cannot be seen in a parsed head and are refused elsewhere: a fragment in the target (the URI type drops it, so what is
//! judged and sent has none) and the `:protocol` of RFC 8441, which comes only with CONNECT, and CONNECT is refused here.

mod authority;
mod fields;
mod judge;
mod strip;
mod upgrade;

pub use fields::{copied, is_secret, judge_spelling};
pub use judge::{HeadRules, JudgedHead, judge};
pub use strip::{strip_for_upstream, strip_named, strip_trailers, strip_unjudged};
pub use upgrade::Upgrade;

pub(in crate::mapping) use authority::is_same_host;
