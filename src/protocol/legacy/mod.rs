//! The revisions with sessions, as data: the handshake, what the server asks of the client, results as older clients
//! know them.
//!
//! MCP 2024-11-05 to 2025-11-25. Inside the house everyone speaks 2026-07-28; this is the dictionary that the door uses.
//! Must not know sessions, streams or HTTP.

pub mod asks;
pub mod convert;
pub mod handshake;

use super::envelope::Id;
use super::object::Object;
use super::raw::Raw;
use crate::error::{ErrorCode, Fault};

/// A request from server to client.
pub fn request(id: u64, method: &str, params: &Raw) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{}}}"#, params.as_str()).into_bytes()
}

/// The answer to request `id` with this result object.
pub fn result(id: &Id, result: &Raw) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{}}}"#, id.as_str(), result.as_str()).into_bytes()
}

/// The same fault as a client of these revisions knows it: codes of 2026-07-28 never reach it.
pub fn fault(mut fault: Fault) -> Fault {
    fault.code = match fault.code {
        ErrorCode::InvalidParams if fault.detail("uri").is_some() => ErrorCode::ResourceNotFound,
        ErrorCode::MissingCapability => ErrorCode::InvalidParams,
        ErrorCode::HeaderMismatch | ErrorCode::UnsupportedVersion => ErrorCode::InvalidRequest,
        code => code,
    };
    fault
}

/// A notification with these members of `params`.
pub fn notification(method: &str, params: &Object) -> Vec<u8> {
    super::render::notification(method, params)
}
