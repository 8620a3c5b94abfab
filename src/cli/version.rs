//! `version`: what this binary is.

use std::process::ExitCode;

use serde_json::json;

use super::{Exit, output};
use crate::app;

/// Tells version, protocol revisions and features.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(json: bool) -> anyhow::Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    let mut features = Vec::new();
    features.extend(cfg!(feature = "sqlite").then_some("sqlite"));
    features.extend(cfg!(feature = "postgres").then_some("postgres"));
    if json {
        let name = env!("CARGO_PKG_NAME");
        output::print_json(&json!({
            "name": name, "version": version, "protocolVersions": app::revisions(), "features": features,
        }))?;
    } else {
        let (revisions, features) = (app::revisions().join(", "), features.join(", "));
        output::print(&format!("waygate-mcp {version}\nprotocol   {revisions}\nfeatures   {features}"))?;
    }
    Ok(Exit::Ok.into())
}
