//! The binary: an allocator and the command line; everything else is in the library.

use std::process::ExitCode;

/// Long-lived processes keep a flatter RSS with it than with glibc's malloc.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    pgherd::cli::main()
}
