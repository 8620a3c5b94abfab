//! The binary: Waygate with its built-in plugins.

use std::process::ExitCode;

use waygate_mcp::app::Builder;

fn main() -> ExitCode {
    waygate_mcp::cli::main(Builder::new("waygate-mcp").with_builtins())
}
