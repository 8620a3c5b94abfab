//! The peer of `scripts/bench`: one echo tool on the official Rust SDK, stateless, answering in JSON.
//!
//! Set up as fast as the SDK allows without changing it: no sessions, no event streams, no delayed packets.

use axum::serve::ListenerExt;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ContentBlock};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, ServerHandler, schemars, tool, tool_handler, tool_router};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Arguments {
    message: String,
}

#[derive(Clone)]
struct Echo {
    tool_router: ToolRouter<Self>,
}

#[tool_router]
impl Echo {
    #[tool(description = "Gives back the message it is given")]
    async fn echo(&self, Parameters(arguments): Parameters<Arguments>) -> Result<CallToolResult, ErrorData> {
        Ok(CallToolResult::success(vec![ContentBlock::text(arguments.message)]))
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Echo {}

/// The number after `flag` on the command line.
fn number_after(flag: &str) -> Option<u16> {
    std::env::args().skip_while(|argument| argument != flag).nth(1)?.parse().ok()
}

fn main() -> anyhow::Result<()> {
    let (Some(port), Some(workers)) = (number_after("--port"), number_after("--workers")) else {
        anyhow::bail!("usage: rmcp-echo --port N --workers N");
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers.into()).enable_all().build()?;
    runtime.block_on(serve(port))
}

async fn serve(port: u16) -> anyhow::Result<()> {
    let echo = Echo { tool_router: Echo::tool_router() };
    let config = StreamableHttpServerConfig::default().with_legacy_session_mode(false).with_json_response(true);
    let sessions = LocalSessionManager::default().into();
    let service = StreamableHttpService::new(move || Ok(echo.clone()), sessions, config);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            eprintln!("rmcp-echo: cannot set TCP_NODELAY: {error}");
        }
    });
    axum::serve(listener, axum::Router::new().nest_service("/mcp", service)).await?;
    Ok(())
}
