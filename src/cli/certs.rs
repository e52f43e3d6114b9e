//! stub
#![allow(missing_docs)]
#[derive(Debug, clap::Args)] pub struct CertsArgs {}
pub fn run(_: &CertsArgs) -> std::process::ExitCode { std::process::ExitCode::SUCCESS }
