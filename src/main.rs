//! Starts Waygate.
fn main() {}
