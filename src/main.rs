//! Starts Waygate.

fn main() -> std::process::ExitCode {
    waygate_mcp::cli::main()
}
