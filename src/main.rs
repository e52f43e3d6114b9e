//! The `portcullis` command: everything is in the library.

use std::process::ExitCode;

/// Small, short-lived allocations on few threads: where mimalloc is ahead of the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    portcullis::cli::main()
}
