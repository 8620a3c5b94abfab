//! Runs the tests that stand in the examples. Cargo would run them itself, but would then not build the examples as the
//! programs that the black-box tests start.

#[cfg(test)]
#[expect(dead_code, reason = "its main is not run here")]
#[path = "../examples/conformance_server.rs"]
mod conformance_server;

#[cfg(test)]
#[expect(dead_code, reason = "its main is not run here")]
#[path = "../examples/echo.rs"]
mod echo;
