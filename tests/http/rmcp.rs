//! A client that we did not write: the Rust SDK, stateless and in sessions.

#![expect(deprecated, reason = "sampling, roots and logging are deprecated, and served")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, ClientConfig, CreateMessageRequestParams, CreateMessageResult,
    ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationCapability, ErrorData,
    GetPromptRequestParams, Implementation, ListRootsResult, LoggingLevel, LoggingMessageNotificationParam,
    ProgressNotificationParam, ProtocolVersion, ReadResourceRequestParams, ResourceUpdatedNotificationParam,
    Root, RootsCapabilities, SamplingCapability, SamplingMessage, ServerNotification, SetLevelRequestParams,
    SubscribeRequestParams, SubscriptionFilter,
};
use rmcp::service::{NotificationContext, RequestContext, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt, RoleClient};
use serde_json::json;

use crate::support::{PATIENCE, Server};

/// How the SDK begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Era {
    Stateless,
    Session,
}

const ERAS: [Era; 2] = [Era::Stateless, Era::Session];

/// A person with a name, a model and a folder, who also watches what is told.
#[derive(Clone, Default)]
pub struct Ada {
    steps: Arc<Mutex<Vec<f64>>>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Ada {
    /// The progress that was seen.
    pub fn steps(&self) -> Vec<f64> {
        self.steps.lock().expect("nobody panics").clone()
    }

    fn told(&self, what: String) {
        self.told.lock().expect("nobody panics").push(what);
    }

    pub async fn hears(&self, what: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !self.told.lock().expect("nobody panics").iter().any(|told| told.contains(what)) {
            assert!(tokio::time::Instant::now() < deadline, "{what} was not told");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl ClientHandler for Ada {
    fn get_info(&self) -> ClientConfig {
        let mut capabilities = ClientCapabilities::default();
        capabilities.elicitation = Some(ElicitationCapability::default());
        capabilities.sampling = Some(SamplingCapability::default());
        capabilities.roots = Some(RootsCapabilities::default());
        ClientConfig::new(capabilities, Implementation::new("ada", "1"))
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(json!({"name": "Ada"})))
    }

    async fn create_message(
        &self,
        _: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        Ok(CreateMessageResult::new(SamplingMessage::assistant_text("Paris"), "a-model".to_owned()))
    }

    async fn list_roots(&self, _: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        Ok(ListRootsResult::new(vec![Root::new("file:///home/ada")]))
    }

    async fn on_progress(&self, step: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.steps.lock().expect("nobody panics").push(step.progress);
    }

    async fn on_logging_message(
        &self,
        message: LoggingMessageNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.told(message.data.to_string());
    }

    async fn on_resource_updated(
        &self,
        update: ResourceUpdatedNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.told(update.uri);
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.told("tools".to_owned());
    }
}

async fn connect_in(era: Era, server: &Server, ada: Ada) -> RunningService<RoleClient, Ada> {
    let transport = StreamableHttpClientTransport::from_uri(server.url("/mcp"));
    let lifecycle = match era {
        Era::Stateless => {
            ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
        }
        Era::Session => ClientLifecycleMode::Initialize,
    };
    let connected = tokio::time::timeout(PATIENCE, ada.serve_with_lifecycle(transport, lifecycle));
    connected.await.expect("in time").expect("the SDK accepts our answer")
}

async fn connect(server: &Server, ada: Ada) -> RunningService<RoleClient, Ada> {
    connect_in(Era::Stateless, server, ada).await
}

pub fn arguments(value: serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
    value.as_object().cloned().unwrap_or_default()
}

/// The result's JSON, in which the tests look.
pub fn text(result: &impl serde::Serialize) -> String {
    serde_json::to_string(result).expect("a result is JSON")
}

#[tokio::test]
async fn the_sdk_discovers_and_lists_everything() {
    let server = Server::shared();
    for era in ERAS {
        let client = connect_in(era, &server, Ada::default()).await;
        let peer = client.peer_info().expect("discovered");
        let agreed = match era {
            Era::Stateless => ProtocolVersion::V_2026_07_28,
            Era::Session => ProtocolVersion::V_2025_11_25,
        };
        assert_eq!(peer.protocol_version, agreed);
        let tools = client.list_all_tools().await.expect("tools");
        assert!(
            tools.len() > 250 && tools.iter().any(|tool| tool.name == "tool_249"),
            "all pages were fetched"
        );
        assert!(
            client.list_all_prompts().await.expect("prompts").iter().any(|prompt| prompt.name == "greeting")
        );
        assert!(text(&client.list_all_resources().await.expect("resources")).contains("test://counter"));
        assert!(
            text(&client.list_all_resource_templates().await.expect("templates"))
                .contains("test://item/{id}")
        );
        client.cancel().await.expect("it ends");
    }
}

#[tokio::test]
async fn the_sdk_calls_reads_and_prompts() {
    let server = Server::shared();
    for era in ERAS {
        let client = connect_in(era, &server, Ada::default()).await;
        let call = CallToolRequestParams::new("structured").with_arguments(arguments(json!({"n": 7})));
        assert_eq!(client.call_tool(call).await.expect("a result").structured_content, Some(json!({"n": 7})));
        let read = client.read_resource(ReadResourceRequestParams::new("test://item/7")).await;
        assert!(text(&read.expect("contents")).contains("item 7"));
        let greeting =
            GetPromptRequestParams::new("greeting").with_arguments(arguments(json!({"who": "Bob"})));
        assert!(text(&client.get_prompt(greeting).await.expect("a prompt")).contains("Greet Bob."));
        let values = client.complete_prompt_simple("greeting", "style", "fr").await.expect("values");
        assert_eq!(values, ["friendly"]);
        let failed = client.call_tool(CallToolRequestParams::new("fail")).await.expect("a result");
        assert_eq!(failed.is_error, Some(true));
        assert!(client.call_tool(CallToolRequestParams::new("no_such")).await.is_err());
    }
}

#[tokio::test]
async fn the_sdk_repeats_what_headers_must_repeat() {
    let server = Server::shared();
    let client = connect(&server, Ada::default()).await;
    // It learns from the list which arguments go into headers.
    client.list_all_tools().await.expect("tools");
    let given = json!({"city": "Köln", "count": 42, "fast": true, "place": {"region": "Rhein"}});
    let call = CallToolRequestParams::new("mirrored").with_arguments(arguments(given));
    let result = client.call_tool(call).await.expect("the headers agree");
    assert!(text(&result).contains("Köln"));
    let read = client.read_resource(ReadResourceRequestParams::new("test://grüße")).await;
    assert!(text(&read.expect("contents")).contains("grüße"));
}

#[tokio::test]
async fn the_sdk_answers_what_a_tool_asks() {
    let server = Server::shared();
    for era in ERAS {
        let client = connect_in(era, &server, Ada::default()).await;
        let call = CallToolRequestParams::new("ask").with_arguments(arguments(json!({"city": "London"})));
        assert!(text(&client.call_tool(call).await.expect("a result")).contains("Hello, Ada of London!"));
    }
}

#[tokio::test]
async fn the_sdk_hears_progress() {
    let server = Server::shared();
    for era in ERAS {
        let ada = Ada::default();
        let client = connect_in(era, &server, ada.clone()).await;
        let call = CallToolRequestParams::new("steps").with_arguments(arguments(json!({"n": 3})));
        client.call_tool(call).await.expect("a result");
        client.cancel().await.expect("it ends");
        assert_eq!(ada.steps(), [1.0, 2.0, 3.0]);
    }
}

#[tokio::test]
async fn the_sdk_listens() {
    let server = Server::start("faulty_server");
    let client = connect(&server, Ada::default()).await;
    let mut filter = SubscriptionFilter::default();
    filter.resource_subscriptions = Some(vec!["test://counter".to_owned()]);
    let mut news = client.listen(filter).await.expect("acknowledged");
    client.call_tool(CallToolRequestParams::new("touch")).await.expect("touched");
    let update = tokio::time::timeout(Duration::from_secs(20), news.next()).await.expect("in time");
    let update = update.expect("no error").expect("not the end");
    assert!(matches!(update, ServerNotification::ResourceUpdatedNotification(_)), "{update:?}");
}

#[tokio::test]
async fn the_sdk_lends_its_model_and_shows_its_roots() {
    let server = Server::start("conformance_server");
    for era in ERAS {
        let client = connect_in(era, &server, Ada::default()).await;
        let call = CallToolRequestParams::new("test_sampling")
            .with_arguments(arguments(json!({"prompt": "Where?"})));
        assert!(text(&client.call_tool(call).await.expect("a result")).contains("Paris"), "{era:?}");
        let call = CallToolRequestParams::new("test_input_required_result_list_roots");
        assert!(text(&client.call_tool(call).await.expect("a result")).contains("/home/ada"), "{era:?}");
    }
}

#[tokio::test]
async fn the_sdk_in_a_session_is_told_logs_updates_and_changes_of_lists() {
    let server = Server::start("conformance_server");
    let ada = Ada::default();
    let client = connect_in(Era::Session, &server, ada.clone()).await;
    client.set_level(SetLevelRequestParams::new(LoggingLevel::Debug)).await.expect("set");
    client.call_tool(CallToolRequestParams::new("test_tool_with_logging")).await.expect("a result");
    ada.hears("Tool processing data").await;
    client.subscribe(SubscribeRequestParams::new("test://watched-resource")).await.expect("subscribed");
    // The SDK opens its stream when it is ready, and what was told before that is not told again.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    for (tool, told) in
        [("test_trigger_resource_update", "test://watched-resource"), ("test_trigger_tool_change", "tools")]
    {
        while !ada.told.lock().expect("nobody panics").iter().any(|seen| seen == told) {
            assert!(tokio::time::Instant::now() < deadline, "{told} was not told");
            client.call_tool(CallToolRequestParams::new(tool)).await.expect("a result");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    client.cancel().await.expect("it ends");
}
