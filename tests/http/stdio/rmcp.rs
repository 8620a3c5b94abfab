//! A client that we did not write: the Rust SDK on standard streams, in both eras.

#![expect(deprecated, reason = "clients of earlier revisions still use what the SDK gives up")]

use std::process::Stdio;

use rmcp::model::{
    CallToolRequestParams, LoggingLevel, ProtocolVersion, ReadResourceRequestParams, ServerNotification,
    SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter,
};
use rmcp::service::RunningService;
use rmcp::{ClientLifecycleMode, ClientServiceExt, RoleClient};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::rmcp::{Ada, arguments, text};
use crate::support::{PATIENCE, stdio};

/// The SDK, connected; the folder and the process live as long.
struct Connected {
    client: RunningService<RoleClient, Ada>,
    process: Child,
    _folder: TempDir,
}

async fn connect(name: &str, lifecycle: ClientLifecycleMode, ada: Ada) -> Connected {
    let folder = tempfile::tempdir().expect("a folder");
    let command = stdio::Client::command(name, folder.path(), &[]);
    let mut command = Command::from(command);
    let mut child = command.stderr(Stdio::null()).kill_on_drop(true).spawn().expect("it starts");
    let streams = (child.stdout.take().expect("piped"), child.stdin.take().expect("piped"));
    let connected = tokio::time::timeout(PATIENCE, ada.serve_with_lifecycle(streams, lifecycle));
    let client = connected.await.expect("in time").expect("the SDK accepts our handshake");
    Connected { client, process: child, _folder: folder }
}

fn modern() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
}

/// What works alike in both eras, to the end of the process.
async fn drive(lifecycle: ClientLifecycleMode) {
    let ada = Ada::default();
    let Connected { client, mut process, _folder } = connect("faulty_server", lifecycle, ada.clone()).await;
    let tools = client.list_all_tools().await.expect("tools");
    assert!(tools.len() > 250, "all pages were fetched");
    assert!(text(&client.list_all_resources().await.expect("resources")).contains("test://counter"));
    let call = CallToolRequestParams::new("structured").with_arguments(arguments(json!({"n": 7})));
    assert_eq!(client.call_tool(call).await.expect("a result").structured_content, Some(json!({"n": 7})));
    let read = client.read_resource(ReadResourceRequestParams::new("test://item/7")).await;
    assert!(text(&read.expect("contents")).contains("item 7"));
    let values = client.complete_prompt_simple("greeting", "style", "fr").await.expect("values");
    assert_eq!(values, ["friendly"]);
    let call = CallToolRequestParams::new("ask").with_arguments(arguments(json!({"city": "London"})));
    assert!(text(&client.call_tool(call).await.expect("a result")).contains("Hello, Ada of London!"));
    let call = CallToolRequestParams::new("steps").with_arguments(arguments(json!({"n": 3})));
    client.call_tool(call).await.expect("a result");
    assert!(client.call_tool(CallToolRequestParams::new("no_such")).await.is_err());
    client.cancel().await.expect("it ends");
    assert_eq!(ada.steps(), [1.0, 2.0, 3.0]);
    let ended = tokio::time::timeout(PATIENCE, process.wait()).await.expect("in time");
    assert_eq!(ended.expect("it ends").code(), Some(0));
}

#[tokio::test]
async fn the_sdk_drives_a_process_of_the_stateless_revision() {
    drive(modern()).await;
}

#[tokio::test]
async fn the_sdk_drives_a_process_with_a_handshake() {
    drive(ClientLifecycleMode::Initialize).await;
}

#[tokio::test]
async fn the_sdk_probes_and_finds_the_stateless_revision() {
    let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
    let lifecycle = ClientLifecycleMode::Auto { preferred_versions, legacy_version: None };
    let connected = connect("faulty_server", lifecycle, Ada::default()).await;
    let peer = connected.client.peer_info().expect("discovered");
    assert_eq!(peer.protocol_version, ProtocolVersion::V_2026_07_28);
}

#[tokio::test]
async fn the_sdk_lends_its_model_and_shows_its_roots() {
    for lifecycle in [modern(), ClientLifecycleMode::Initialize] {
        let connected = connect("conformance_server", lifecycle, Ada::default()).await;
        let call = CallToolRequestParams::new("test_sampling")
            .with_arguments(arguments(json!({"prompt": "Where?"})));
        assert!(text(&connected.client.call_tool(call).await.expect("a result")).contains("Paris"));
        let call = CallToolRequestParams::new("test_input_required_result_list_roots");
        assert!(text(&connected.client.call_tool(call).await.expect("a result")).contains("/home/ada"));
    }
}

#[tokio::test]
async fn the_sdk_in_a_session_is_told_logs_and_updates() {
    let ada = Ada::default();
    let connected = connect("faulty_server", ClientLifecycleMode::Initialize, ada.clone()).await;
    let client = &connected.client;
    client.set_level(SetLevelRequestParams::new(LoggingLevel::Emergency)).await.expect("set");
    client.call_tool(CallToolRequestParams::new("logs")).await.expect("a result");
    ada.hears("emergency").await;
    client.subscribe(SubscribeRequestParams::new("test://counter")).await.expect("subscribed");
    client.call_tool(CallToolRequestParams::new("touch")).await.expect("touched");
    ada.hears("test://counter").await;
    let lists = CallToolRequestParams::new("touch").with_arguments(arguments(json!({"what": "tools"})));
    client.call_tool(lists).await.expect("touched");
    ada.hears("tools").await;
}

#[tokio::test]
async fn the_sdk_listens() {
    let connected = connect("faulty_server", modern(), Ada::default()).await;
    let mut filter = SubscriptionFilter::default();
    filter.resource_subscriptions = Some(vec!["test://counter".to_owned()]);
    let mut news = connected.client.listen(filter).await.expect("acknowledged");
    connected.client.call_tool(CallToolRequestParams::new("touch")).await.expect("touched");
    let update = tokio::time::timeout(PATIENCE, news.next()).await.expect("in time");
    let update = update.expect("no error").expect("not the end");
    assert!(matches!(update, ServerNotification::ResourceUpdatedNotification(_)), "{update:?}");
}
