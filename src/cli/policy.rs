//! stub
#![allow(missing_docs)]
pub const INVALID_POLICY: u8 = 3;
#[derive(Debug, clap::Args)] pub struct PolicyArgs {}
pub fn run(_: &PolicyArgs) -> std::process::ExitCode { std::process::ExitCode::SUCCESS }
