//! What decided something: a setting, a field of a file or of a key, or how something stands. Must not know what it decided.

use serde_json::{Value, json};

use crate::access::keys::About;
use crate::config::{Layer, Origin, Shown};

/// What decided, where it stands, and its value.
#[derive(Debug, Clone)]
pub struct By {
    kind: &'static str,
    /// The setting's name, the file's path, the key's name, or who stands so.
    name: String,
    field: Option<String>,
    value: Value,
    /// The layer and the place of a setting.
    origin: Option<Origin>,
}

impl By {
    /// A setting, with where its value comes from.
    pub fn setting(settings: &[Shown], key: &str) -> Self {
        let shown = settings.iter().find(|shown| shown.setting.key == key);
        let value = shown.and_then(|shown| shown.value.as_ref()).map(crate::config::Value::to_json);
        Self {
            kind: "setting",
            name: key.to_owned(),
            field: None,
            value: value.unwrap_or_default(),
            origin: shown.and_then(|shown| shown.origin.clone()),
        }
    }

    /// A field of a plugin's or bundle's file.
    pub fn file(path: &str, field: &str, value: impl Into<Value>) -> Self {
        Self::of("file", path, field, value)
    }

    /// A field of a key.
    pub fn key(about: &About, field: &str, value: impl Into<Value>) -> Self {
        Self::of("key", &format!("{} ({})", about.name, about.id), field, value)
    }

    /// How a plugin stands.
    pub fn plugin(name: &str, field: &str, value: impl Into<Value>) -> Self {
        Self::of("plugin", name, field, value)
    }

    /// How the server stands.
    pub fn server(field: &str, value: impl Into<Value>) -> Self {
        Self::of("server", "this server", field, value)
    }

    fn of(kind: &'static str, name: &str, field: &str, value: impl Into<Value>) -> Self {
        Self { kind, name: name.to_owned(), field: Some(field.to_owned()), value: value.into(), origin: None }
    }

    /// Whether this is its value.
    pub fn is(&self, value: &Value) -> bool {
        self.value == *value
    }

    /// For people: what it is, its value, where that comes from.
    pub fn text(&self) -> String {
        let Self { kind, name, field, value, origin } = self;
        let field = field.as_deref().unwrap_or(name);
        let value = if value.is_null() { "none".to_owned() } else { value.to_string() };
        match (*kind, origin) {
            ("setting", None) => format!("{field} is not set"),
            ("setting", Some(origin)) => format!("{field} = {value} {}", told(origin)),
            ("file", _) => format!("{field} = {value} in {name}"),
            (kind, _) => format!("{field} = {value} of the {kind} {name}").replace("the server this", "this"),
        }
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let Self { kind, name, field, value, origin } = self;
        let place = origin.as_ref().map(|origin| origin.place.as_str()).filter(|place| !place.is_empty());
        json!({
            "kind": kind,
            "name": name,
            "field": field,
            "value": value,
            "from": origin.as_ref().map(|origin| origin.layer.to_string()),
            "place": place,
            "text": self.text(),
        })
    }
}

fn told(origin: &Origin) -> String {
    let place = &origin.place;
    match origin.layer {
        Layer::Default => "by default".to_owned(),
        Layer::File | Layer::EnvFile => format!("from {place}"),
        Layer::Environment => format!("from the environment ({place})"),
        Layer::Flag => format!("from the flag {place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn it_says_what_its_value_is_and_where_that_comes_from() {
        let environment = vec![("WAYGATE_TIMEOUT".to_owned(), "7".to_owned())];
        let home = Some("/home/somebody".into());
        let sources = Sources {
            environment,
            home,
            working_folder: "/nowhere".into(),
            system_folder: "/nowhere".into(),
            ..Sources::default()
        };
        let settings = load(&sources).unwrap().config.shown;
        let text = |key| By::setting(&settings, key).text();
        assert_eq!(
            text("server.timeout_seconds"),
            "server.timeout_seconds = 7 from the environment (WAYGATE_TIMEOUT)"
        );
        assert_eq!(text("limits.calls_max"), "limits.calls_max = 10000 by default");
        assert_eq!(text("access.api_key"), "access.api_key is not set");
        assert_eq!(By::file("/p/a.toml", "deny", json!(["x"])).text(), "deny = [\"x\"] in /p/a.toml");
        assert_eq!(By::plugin("a", "state", "open").text(), "state = \"open\" of the plugin a");
        assert_eq!(By::server("phase", "serving").text(), "phase = \"serving\" of this server");
    }
}
