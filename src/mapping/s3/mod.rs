//! The S3 API: from a request head to the IAM actions it asks about.
//!
//! The target is forwarded as received, since the client signed it. So it must have one reading only: [`map`] refuses every target and
//! every header that two stores could understand differently, and what is left decodes to exactly the judged bucket, key and query.

mod actions;
mod address;
mod body;
mod copy_source;
mod headers;
mod map;
mod operations;
mod query;
mod table;

#[cfg(test)]
mod tests;

pub use actions::{actions, resource_kinds};
pub use address::{S3Address, fuzz as fuzz_address};
pub use body::{
    Checksums, DeleteObjects, DeleteRequest, DeletedKey, RestoreObject, RewrittenBody, fuzz as fuzz_delete_objects,
};
pub use copy_source::fuzz as fuzz_copy_source;
pub use map::{Asked, S3Call, fuzz, map};
pub use table::operations;
