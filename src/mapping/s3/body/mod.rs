//! The two operations whose body says what is asked: DeleteObjects and RestoreObject.

mod checksum;
mod delete_objects;
mod restore;
mod xml;

pub use checksum::Checksums;
pub use delete_objects::{DeleteObjects, DeleteRequest, DeletedKey, RewrittenBody, fuzz};
pub use restore::RestoreObject;

pub(super) use checksum::Rewritable;
