//! The head guard: it sees every byte of an HTTP/1 connection before hyper does, so that what was judged is what hyper parses.
//!
//! hyper 1.12 by itself takes Content-Length with Transfer-Encoding in either order, equal Content-Lengths, and heads
//! with bare LF, and drops fragments; what it refuses it answers without the service, so without a record. The guard
//! stands between the transport and hyper:
//!
//! - A head is held until it is complete and judged. It passes byte for byte, or nothing of it does: hyper then reads a
//!   stand-in (`GET /`, `connection: close`) at that place in the stream, and [`GuardHandle::next_head`] tells the service
//!   that this request is a refusal. So the reply keeps its turn behind those of earlier, pipelined requests.
//! - Bodies are followed by their framing and never copied: the transport reads straight into hyper's buffer, the guard
//!   looks at the chunk sizes there, and only what belongs to a head that is not complete yet is moved out again.
//! - A violation within a body makes the read fail with a [`HeadRefusal`] ([`HeadRefusal::find`] gets it back out of
//!   hyper's errors), and the connection ends.
//! - After a GET that asks for an upgrade no byte passes until the service has said what became of it: a client's early
//!   bytes are neither a request nor yet raw (CVE-2026-2833).
//!
//! # What is refused, with the rule's name
//!
//! | rule | status | what |
//! |---|---|---|
//! | `empty-line` | 400 | more than one CRLF before a request line (one is allowed: RFC 9112, 2.2) |
//! | `request-line` | 400 | not exactly `method SP target SP version`: other blanks, parts missing, HTTP/0.9 |
//! | `method` | 400 | the method is not a token |
//! | `target-form` | 400 | not `/…`, not `http://` or `https://` with a host; `*` but for OPTIONS; CONNECT without host and port |
//! | `target-character` | 400 | a byte in the target that has to be percent-encoded |
//! | `fragment`, `userinfo` | 400 | `#` in the target; `user@` in an absolute one |
//! | `target-length` | 414 | target over `uri_bytes`; a request line over `header_bytes` |
//! | `version` | 505 | another version than HTTP/1.0 and 1.1 |
//! | `bare-lf`, `bare-cr`, `nul`, `control-character` | 400 | anywhere in a head or trailer section; HTAB is allowed in values |
//! | `obs-fold`, `space-before-colon`, `header-name` | 400 | a field line that is not `name:value` |
//! | `odd-framing-name` | 400 | `content_length` and the like |
//! | `header-bytes`, `header-count` | 431 | over the limits |
//! | `host-missing`, `host-repeated` | 400 | not exactly one Host (HTTP/1.0 may have none) |
//! | `content-length` | 400 | not digits only, or over 2^63 - 1 |
//! | `content-length-repeated` | 400 | a second one, equal or not |
//! | `content-length-with-transfer-encoding` | 400 | both, in either order |
//! | `transfer-encoding` | 501, 400 | another coding than `chunked` (any case: RFC 9112, 7); `chunked` twice or with parameters |
//! | `transfer-encoding-repeated`, `transfer-encoding-version` | 400 | a second field; in HTTP/1.0 |
//! | `head-timeout`, `head-incomplete` | 408, 400 | the head did not end in time, or at all |
//! | `chunk-size` | 400 | not hexadecimal digits, more than 16, or over 2^53 - 1; blanks around it |
//! | `chunk-extension` | 400 | other than visible ASCII, over 256 bytes, or over 8,192 in a body |
//! | `chunk-line-end`, `chunk-data-end` | 400 | CRLF missing after a size line or after the data (CVE-2025-43859) |
//! | `trailer-bytes`, `trailer-count` | 431 | over 8,192 bytes or 64 fields, or the head's limits |
//! | `trailer-forbidden` | 400 | a field that RFC 9110, 6.5.1, keeps out of trailers |
//!
//! # What hyper has to be told
//!
//! For the HTTP/1 server builder: `max_headers` above `header_count`, so that the guard speaks first; no
//! `header_read_timeout` and no timer for it (hyper's runs while idle and makes a timer a request); `max_buf_size` of 64
//! to 128 KiB but above `header_bytes`, since it bounds what the guard can be made to hold behind an upgrade.

mod chunked;
mod fields;
mod framer;
mod handle;
mod head;
mod response;
mod sniff;
mod stream;
#[cfg(test)]
mod tests;
mod verdict;

pub use framer::{Framer, Stop, fuzz};
pub use handle::{Exchange, GuardHandle};
pub use response::judge_upstream_head;
pub use sniff::{Rewound, Version, sniff};
pub use stream::Guard;
pub(super) use verdict::find_cause;
pub use verdict::{Framing, HeadFacts, HeadLimits, HeadRefusal, HeadVerdict};
