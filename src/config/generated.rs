//! What is made from the table of settings: `config/default.toml`, `.env.example`, `docs/settings.md`, the JSON Schema;
//! and from that of plugins' fields: `docs/plugin-files.md`.
//!
//! A test holds the checked-in files equal to these texts; `WAYGATE_BLESS=1 cargo test generated` writes them anew.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use super::Mode;
use super::plugin::fields::{FIELDS, GROUPS, Takes};
use super::settings::{Fallback, Kind, NOT_YET, SECTIONS, SETTINGS, Setting};
use super::values::{WORKERS_MAX, takes};

/// Variables that a new `.env` sets: those that people look for first. Each to its default, so that nothing changes.
const FIRST_LOOKED_FOR: [&str; 8] = [
    "WAYGATE_MODE",
    "WAYGATE_ENV",
    "WAYGATE_HOST",
    "WAYGATE_PORT",
    "WAYGATE_WORKERS",
    "WAYGATE_LOG_LEVEL",
    "WAYGATE_TIMEOUT",
    "WAYGATE_DB_POOL_SIZE",
];

const WRAP_AT: usize = 100;

fn of_section(section: &str) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(move |setting| setting.section() == section)
}

/// `config/default.toml`: every setting, commented out.
pub fn default_toml() -> String {
    let mut text = String::from(
        "# Every setting of Waygate with its default. This file changes nothing as it is: take away the `#` before a\n\
         # setting to set it. Later layers win: default.toml, <env>.toml beside it, .env, WAYGATE_ variables, flags.\n\
         # Made from the table in src/config/settings.rs; `waygate-mcp config show` tells what holds and why.\n",
    );
    for (section, about) in SECTIONS {
        let _infallible = write!(text, "\n# {about}\n[{section}]\n");
        for setting in of_section(section) {
            let _infallible = write!(text, "\n{}", comment(&about_in_full(setting)));
            let _infallible = writeln!(text, "# {} = {}", setting.name(), sample(setting, toml_of));
        }
    }
    text
}

/// `.env.example`: a copy of it, as `.env`, changes nothing.
pub fn env_example() -> String {
    let mut text = String::from(
        "# Copy this to .env in the folder that you start Waygate from: cp .env.example .env && chmod 600 .env\n\
         # As it is, it sets nothing but defaults. Real variables of the environment win over this file.\n\
         # A secret can also be read from a file: WAYGATE_API_KEY_FILE=/run/secrets/key\n\
         # Made from the table in src/config/settings.rs.\n",
    );
    for (section, about) in SECTIONS {
        let _infallible = write!(text, "\n# --- {section}: {about}\n");
        for setting in of_section(section) {
            let mark = if FIRST_LOOKED_FOR.contains(&setting.variable) { "" } else { "# " };
            let _infallible = write!(text, "\n{}", comment(&about_in_full(setting)));
            let _infallible = writeln!(text, "{mark}{}={}", setting.variable, sample(setting, variable_of));
        }
    }
    text
}

/// `docs/settings.md`.
pub fn settings_md() -> String {
    let mut text = String::from(
        "# Settings\n\n\
         Made from the table in `src/config/settings.rs`; `waygate-mcp config show` tells what holds and where it came from.\n\n\
         Later layers win, setting by setting: compiled-in defaults, `default.toml`, `<env>.toml`, `.env`, `WAYGATE_` variables, flags.\n\
         A list replaces the list of the layer below; in a variable its items are separated by commas. An empty variable sets nothing, but empties a list.\n\n\
         - The TOML files lie in the folder that `--config-dir` or `WAYGATE_CONFIG_DIR` names, else in `<data root>/config`, else in `/etc/waygate`.\n\
         - A `.env` file is read from `--env-file`, or from the working folder by `serve`, by what looks after the same (`history`, `keys`, `backup`, `db`, `config`, `doctor`) and by `client`; only its `WAYGATE_` lines count. The other verbs do not look there: they are typed anywhere, and the `.env` of a folder that somebody else wrote could name the machine that the key is sent to.\n\
         - Secrets can be read from a file: `WAYGATE_API_KEY_FILE=/run/secrets/key`, and so for each secret.\n\
         - `DATABASE_URL` of the environment counts where nothing but a TOML file says what the database is.\n\
         - Unknown keys, variables and flags stop the start with exit code 78; so do settings that this version does not serve yet.\n",
    );
    for (section, about) in SECTIONS {
        let _infallible = write!(text, "\n## `[{section}]`\n\n{about}\n\n");
        text.push_str("| Setting | Variable | Takes | Default | What it does |\n|---|---|---|---|---|\n");
        for setting in of_section(section) {
            let flag = setting.flag.map(|flag| format!("<br>`{flag}`")).unwrap_or_default();
            let _infallible = writeln!(
                text,
                "| `{}` | `{}`{flag} | {} | {} | {} |",
                setting.name(),
                setting.variable,
                takes_in_words(setting).replace('|', "\\|"),
                default_in_words(setting),
                setting.sentence.replace('|', "\\|"),
            );
        }
    }
    text.push_str("\n## Not served by this version\n\n");
    for (variable, key, advice) in NOT_YET {
        let _infallible = writeln!(text, "- `{variable}` (`{key}`): {advice}.");
    }
    text
}

/// `docs/plugin-files.md`.
pub fn plugin_files_md() -> String {
    let mut text = String::from(
        "# Plugin files\n\n\
         Made from the table in `src/config/plugin/fields.rs`; what they are for stands in [plugins](plugins.md#mcp-servers-as-plugins).\n\n\
         One TOML file a plugin or bundle: `<data root>/plugins/NAME.toml`. A name is 1 to 32 lower-case letters, digits, `-` and `_`, a\n\
         letter or digit first. `files`, `system`, `waygate`, and the plugins that an embedding program brings, are built in: a file with such a\n\
         name has `kind = \"builtin\"` and says what is different of that plugin. An unknown field is an error; `waygate-mcp plugins check\n\
         NAME` tells all that is wrong with a file. Files whose names begin with a dot or end with `~` are passed over.\n\n\
         A field with a dot stands in a table: `tls.ca` is `tls = { ca = \"/etc/ca.pem\" }`, and `*` is any name: `tools.*.rename` is\n\
         `[tools.create_issue]` and then `rename = \"new_issue\"`.\n",
    );
    for (of, title, about) in GROUPS {
        let _infallible = write!(text, "\n## {title}\n\n{about}\n\n");
        text.push_str("| Field | Takes | Default | What it does |\n|---|---|---|---|\n");
        for field in FIELDS.iter().filter(|field| field.of == *of) {
            let takes = match field.takes {
                Takes::Plain(_) => takes_in_words(&field.as_setting()),
                Takes::Credential => "a text or a reference".to_owned(),
                Takes::Object => "a table".to_owned(),
            };
            let (takes, sentence) = (takes.replace('|', "\\|"), field.sentence.replace('|', "\\|"));
            let _infallible =
                writeln!(text, "| `{}` | {takes} | {} | {sentence} |", field.key, field.default);
        }
    }
    text.push_str(
        "\n## Secrets\n\n\
         A value of `env` and of `headers` is a text, and can refer to what stands elsewhere. It is read each time that the server is\n\
         started or connected to, and shown nowhere.\n\n\
         | Written | Means |\n|---|---|\n\
         | `\"Bearer ${GITHUB_TOKEN}\"` | the text with the variable of Waygate's environment in it, as often as you like |\n\
         | `\"env:GITHUB_TOKEN\"` | the variable |\n\
         | `\"file:/run/secrets/github\"` | what stands in the file, without the line break at its end |\n\n\
         Variables that begin with `WAYGATE_` are Waygate's own and refused.\n",
    );
    text
}

/// The JSON Schema of the TOML files.
pub fn schema() -> Json {
    let sections = SECTIONS.iter().map(|(section, about)| {
        let properties: Map<String, Json> =
            of_section(section).map(|setting| (setting.name().to_owned(), schema_of(setting))).collect();
        let table = json!({
            "type": "object", "description": about, "additionalProperties": false, "properties": properties,
        });
        ((*section).to_owned(), table)
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of waygate-mcp",
        "type": "object",
        "additionalProperties": false,
        "properties": sections.collect::<Map<String, Json>>(),
    })
}

fn schema_of(setting: &Setting) -> Json {
    let mut schema = match setting.kind {
        Kind::Integer { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::Workers => json!({
            "anyOf": [{"type": "integer", "minimum": 1, "maximum": WORKERS_MAX}, {"const": "auto"}],
        }),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Words(words) => json!({"type": "string", "enum": words}),
        Kind::Text | Kind::Folder | Kind::File => json!({"type": "string", "minLength": 1}),
        Kind::Secret => json!({"type": "string", "minLength": 1, "writeOnly": true}),
        Kind::List => json!({"type": "array", "items": {"type": "string"}}),
    };
    if let Some(members) = schema.as_object_mut() {
        members.insert("description".to_owned(), about(setting).into());
        if let Fallback::Is(text) = setting.fallback {
            members.insert("default".to_owned(), json_of(text));
        }
        members.insert("x-variable".to_owned(), setting.variable.into());
    }
    schema
}

fn json_of(toml_text: &str) -> Json {
    let line = format!("value = {toml_text}").parse::<toml::Table>();
    let value = line.ok().and_then(|mut table| table.remove("value"));
    value.and_then(|value| serde_json::to_value(value).ok()).unwrap_or(Json::Null)
}

fn about(setting: &Setting) -> String {
    let unit = if setting.unit.is_empty() { String::new() } else { format!(" ({})", setting.unit) };
    format!("{}{unit}", setting.sentence)
}

/// The sentence, then what the setting takes when that does not show, then the default when it depends on the mode.
fn about_in_full(setting: &Setting) -> String {
    let takes = match setting.kind {
        Kind::Integer { .. } | Kind::Words(_) | Kind::Workers => format!(" Takes {}.", takes(setting)),
        _ => String::new(),
    };
    let by_mode = match setting.fallback {
        Fallback::ByMode { container, .. } => format!(" In a container: {container}."),
        Fallback::Unset => " Not set by default.".to_owned(),
        Fallback::Is(_) => String::new(),
    };
    format!("{}{takes}{by_mode}", setting.sentence)
}

fn takes_in_words(setting: &Setting) -> String {
    match setting.kind {
        Kind::Words(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Kind::Secret => "a secret text".to_owned(),
        _ => takes(setting),
    }
}

fn default_in_words(setting: &Setting) -> String {
    match setting.fallback {
        Fallback::Unset => "none".to_owned(),
        Fallback::Is(value) => format!("`{value}`"),
        Fallback::ByMode { local_vm, container } => format!("`{local_vm}`; in a container `{container}`"),
    }
}

/// The default as `form` writes it, or, where there is none, an example.
fn sample(setting: &Setting, form: fn(&str) -> String) -> String {
    let example = match setting.key {
        "server.public_url" => "\"https://mcp.example.org\"",
        "telemetry.otlp_endpoint" => "\"http://127.0.0.1:4318\"",
        "tls.cert" => "\"/etc/waygate/tls/cert.pem\"",
        "tls.key" => "\"/etc/waygate/tls/key.pem\"",
        "tls.client_ca" => "\"/etc/waygate/tls/clients.pem\"",
        "database.url" => "\"postgres://user:password@localhost/waygate\"",
        _ => "\"\"",
    };
    form(setting.built_in(Mode::LocalVm).unwrap_or(example))
}

fn toml_of(text: &str) -> String {
    text.to_owned()
}

fn variable_of(text: &str) -> String {
    match json_of(text) {
        Json::String(text) => text,
        Json::Array(_) => String::new(),
        other => other.to_string(),
    }
}

fn comment(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.len() + 1 + word.len() > WRAP_AT {
            lines.push_str(&line);
            lines.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    lines + &line + "\n"
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::settings::by_variable;
    use super::*;

    #[test]
    fn the_checked_in_files_are_the_generated_ones() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for (file, text) in [
            ("config/default.toml", default_toml()),
            (".env.example", env_example()),
            ("docs/settings.md", settings_md()),
            ("docs/plugin-files.md", plugin_files_md()),
        ] {
            let path = root.join(file);
            if std::env::var_os("WAYGATE_BLESS").is_some() {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, &text).unwrap();
            }
            let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(checked_in == text, "{file} is out of date: run WAYGATE_BLESS=1 cargo test generated");
        }
    }

    #[test]
    fn every_line_of_default_toml_is_valid_once_uncommented() {
        let uncommented: String = default_toml()
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest)
                    if rest
                        .split_once(" = ")
                        .is_some_and(|(name, _)| SETTINGS.iter().any(|s| s.name() == name)) =>
                {
                    format!("{rest}\n")
                }
                _ => format!("{line}\n"),
            })
            .collect();
        let schema = jsonschema::validator_for(&schema()).unwrap();
        let parsed = serde_json::to_value(uncommented.parse::<toml::Table>().unwrap()).unwrap();
        let errors: Vec<String> =
            schema.iter_errors(&parsed).map(|error| error.instance_path().to_string()).collect();
        // Secrets and a folder have no example: an empty one stands in their place.
        let wanted = [
            "/access/api_key",
            "/access/sealing_key",
            "/backup/dir",
            "/backup/passphrase",
            "/cache/redis_url",
            "/telemetry/otlp_headers",
        ];
        assert_eq!(errors, wanted);
        assert!(
            !schema.is_valid(&json!({"server": {"prot": 1}}))
                && !schema.is_valid(&json!({"server": {"port": 70000}}))
        );
    }

    #[test]
    fn what_env_example_sets_is_the_default() {
        let mut count = 0;
        for line in env_example().lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (variable, value) = line.split_once('=').unwrap();
            let default = by_variable(variable).unwrap().built_in(Mode::LocalVm).unwrap();
            assert_eq!(value, variable_of(default), "{variable}");
            count += 1;
        }
        assert_eq!(count, FIRST_LOOKED_FOR.len());
    }
}
