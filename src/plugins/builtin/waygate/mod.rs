//! The built-in `waygate` plugin: the server explains itself, as tools, as `waygate://` resources and in a prompt.
//!
//! Everyone may see how the server is; what it did for others (errors, history) is for the operator alone. Must not
//! know where the answers come from: it asks the [`Host`].

mod offers;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::Value;

use crate::plugins::{Context, Host, HostError, Inventory, Outcome, Plugin, PluginError, Reference, Request};
use crate::protocol::Raw;
use crate::protocol::content::{self, ToolResult};

/// Rows of the history or errors when the caller does not say how many.
const LIMIT_DEFAULT: u32 = 20;
/// The most rows that one answer holds.
const LIMIT_MAX: u32 = 200;
/// What `diagnostics` can be about.
const TOPICS: [&str; 3] = ["performance", "connection", "actors"];

/// The plugin.
pub struct Waygate {
    host: Arc<dyn Host>,
}

/// One question about the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Status,
    Diagnostics(&'static str),
    Plugins,
    Errors { limit: u32 },
    History { limit: u32 },
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(
        "{0} tell of other clients' calls and are shown to the operator only: send the server's WAYGATE_API_KEY (set \
         one if there is none) as `Authorization: Bearer <key>`"
    )]
    NotOperator(&'static str),
    #[error(
        "{0} tell of all plugins, also of those that your key does not show: ask with a key that has no globs"
    )]
    SeesPart(&'static str),
    #[error("the server cannot say it now: {0}; try again in a moment")]
    NoAnswer(#[from] HostError),
}

impl Question {
    /// What the tool asks when it is called with `arguments`.
    fn of_tool(tool: &str, arguments: &Raw) -> Result<Self, PluginError> {
        #[derive(Deserialize)]
        struct Arguments {
            topic: Option<String>,
            limit: Option<u32>,
        }
        let Arguments { topic, limit } =
            arguments.read().map_err(|error| PluginError::InvalidParams(error.to_string()))?;
        let limit = limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
        match tool {
            "status" => Ok(Self::Status),
            "diagnostics" => topic.as_deref().and_then(Self::of_topic).ok_or_else(|| {
                PluginError::InvalidParams(format!("`topic` must be one of {}", TOPICS.join(", ")))
            }),
            "plugins" => Ok(Self::Plugins),
            "recent_errors" => Ok(Self::Errors { limit }),
            "history" => Ok(Self::History { limit }),
            unknown => Err(PluginError::Unknown(format!("tool {unknown}"))),
        }
    }

    /// What reading `uri` asks.
    fn of_uri(uri: &str) -> Option<Self> {
        match uri.strip_prefix("waygate://")? {
            "status" => Some(Self::Status),
            "plugins" => Some(Self::Plugins),
            "errors" => Some(Self::Errors { limit: LIMIT_DEFAULT }),
            "history" => Some(Self::History { limit: LIMIT_DEFAULT }),
            other => Self::of_topic(other.strip_prefix("diagnostics/")?),
        }
    }

    fn of_topic(topic: &str) -> Option<Self> {
        TOPICS.iter().find(|&&known| known == topic).map(|&known| Self::Diagnostics(known))
    }

    /// What only the operator may see, in a word.
    fn is_private(self) -> Option<&'static str> {
        match self {
            Self::Errors { .. } => Some("recent errors"),
            Self::History { .. } => Some("rows of the history"),
            Self::Status | Self::Diagnostics(_) | Self::Plugins => None,
        }
    }

    /// What tells of all plugins, in a word.
    fn is_of_all(self) -> Option<&'static str> {
        match self {
            Self::Diagnostics(_) => Some("diagnostics"),
            Self::Plugins => Some("plugins"),
            Self::Errors { .. } | Self::History { .. } => self.is_private(),
            Self::Status => None,
        }
    }
}

/// Of the status, what names no plugin.
fn without_plugins(mut status: Value) -> Value {
    const NAMELESS: [&str; 4] = ["status", "phase", "version", "uptimeSeconds"];
    if let Some(members) = status.as_object_mut() {
        members.retain(|key, _| NAMELESS.contains(&key.as_str()));
    }
    status
}

impl Waygate {
    /// A plugin that asks `host`.
    pub fn new(host: Arc<dyn Host>) -> Arc<Self> {
        Arc::new(Self { host })
    }

    async fn answer(&self, request: Request, context: &Context) -> Result<Outcome, PluginError> {
        let result = match request {
            Request::Call { tool, arguments, .. } => {
                let question = Question::of_tool(&tool, &arguments)?;
                self.look(question, context).await.map_or_else(
                    |refusal| ToolResult::failed(refusal.to_string()).into_raw(),
                    |found| ToolResult::structured(found).into_raw(),
                )
            }
            Request::Read { uri, .. } => self.read(&uri, context).await?,
            Request::Prompt { name, arguments, .. } if &*name == "operate" => {
                let status = self.look(Question::Status, context).await.ok();
                offers::operate(&symptom(&arguments)?, status, context.is_operator())
            }
            Request::Prompt { name, .. } => return Err(PluginError::Unknown(format!("prompt {name}"))),
            Request::Complete { of, argument, typed, .. } => complete(&of, &argument, &typed),
            Request::Subscribe { uri, .. } => {
                return Err(PluginError::InvalidParams(format!(
                    "{uri} cannot be watched: read it when you need it"
                )));
            }
        };
        Ok(Outcome::Complete(result))
    }

    async fn look(&self, question: Question, context: &Context) -> Result<Value, Refusal> {
        if let (Some(private), false) = (question.is_private(), context.is_operator()) {
            return Err(Refusal::NotOperator(private));
        }
        if let (Some(all), false) = (question.is_of_all(), context.sees_all()) {
            return Err(Refusal::SeesPart(all));
        }
        let found = match question {
            Question::Status => self.host.status(),
            Question::Diagnostics(topic) => self.host.diagnostics(topic),
            Question::Plugins => self.host.plugins(),
            Question::Errors { limit } => self.host.errors(limit),
            Question::History { limit } => self.host.history(limit),
        };
        let found = found.await?;
        let is_cut = question == Question::Status && !context.sees_all();
        Ok(if is_cut { without_plugins(found) } else { found })
    }

    async fn read(&self, uri: &str, context: &Context) -> Result<Raw, PluginError> {
        let question =
            Question::of_uri(uri).ok_or_else(|| PluginError::Unknown(format!("resource {uri}")))?;
        let found = self.look(question, context).await.map_err(|refusal| match refusal {
            Refusal::NotOperator(_) | Refusal::SeesPart(_) => PluginError::InvalidParams(refusal.to_string()),
            Refusal::NoAnswer(_) => PluginError::Unavailable(refusal.to_string()),
        })?;
        Ok(content::read(vec![content::text_contents(uri, "application/json", found.to_string())]))
    }
}

/// The argument of `operate`; empty when there is none.
fn symptom(arguments: &Raw) -> Result<String, PluginError> {
    #[derive(Deserialize)]
    struct Arguments {
        #[serde(default)]
        symptom: String,
    }
    let Arguments { symptom } =
        arguments.read().map_err(|error| PluginError::InvalidParams(error.to_string()))?;
    Ok(symptom)
}

fn complete(of: &Reference, argument: &str, typed: &str) -> Raw {
    let topics = *of == Reference::Resource(offers::TOPIC_TEMPLATE.to_owned()) && argument == "topic";
    let fitting = TOPICS.iter().filter(|topic| topics && topic.starts_with(typed));
    content::completion(fitting.map(|&topic| topic.to_owned()).collect())
}

impl Plugin for Waygate {
    fn inventory(&self) -> Inventory {
        offers::inventory()
    }

    fn handle(
        self: Arc<Self>,
        request: Request,
        context: Context,
    ) -> BoxFuture<'static, Result<Outcome, PluginError>> {
        Box::pin(async move { self.answer(request, &context).await })
    }
}

#[cfg(test)]
mod tests;
