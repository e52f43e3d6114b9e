//! Documents of other servers, fetched by HTTPS: within a time, up to a size, through few redirects, from whoever proves to be the server.
//!
//! [`fetch`] asks once; [`pause`] says when to ask again. What a document means is for those who ask.

mod error;
mod https;
mod schedule;

pub use error::FetchError;
pub use https::{ALPN, Answer, Document, Proof, Wanted, fetch, is_https};
pub use schedule::pause;
