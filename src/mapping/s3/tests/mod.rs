//! The whole walk, the published page, and two second opinions: Amazon's own client and another store's router.

mod botocore;
mod cases;
#[cfg(feature = "demo")]
mod oracle;
mod page;
