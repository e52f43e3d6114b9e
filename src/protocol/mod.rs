//! The protocols that portcullis understands, one folder each.

mod downstream;
pub mod http;

pub use downstream::{Activity, Downstream};
