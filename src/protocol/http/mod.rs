//! HTTP/1.1 and HTTP/2, generic or as the S3 API.
//!
//! `request.rs` is the walk of one request on one screen; `serve.rs` runs it for a connection.

mod body;
mod coalesce;
mod forward;
pub mod guard;
mod judged_body;
pub mod meter;
mod reply;
mod request;
mod serve;
mod service;
mod standing;
mod timing;
mod token;
mod upgrade;
mod xfcc;

pub use serve::serve;
pub use service::{HttpConnection, HttpListener, Speaks};
pub use token::Tokens;
