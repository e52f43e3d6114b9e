//! The protocols that portcullis understands, one folder each.
pub mod http;
