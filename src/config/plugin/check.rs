//! What the fields of a plugin's file must mean, alone and together. Pure: looks at nothing but what was said.

use std::collections::HashSet;

use globset::Glob;
use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value as Json;

use super::fields::{FileKind, Of};
use super::read::{Given, Said, Value};
use super::{BUILT_INS, Credential, check_name, credential, is_name, pointer};
use crate::config::checks::is_network;
use crate::config::faults::Faults;
use crate::config::values::Value as Plain;

/// Checks all that was said; its types are right already.
pub fn check(said: &Said, faults: &mut Faults) {
    // Which built-in plugins there are is the program's own to know.
    if said.kind != FileKind::Builtin
        && let Err(sentence) = check_name(&said.name)
    {
        faults.add(&said.whole, sentence);
    }
    match said.kind {
        FileKind::Bundle => return check_bundle(said, faults),
        FileKind::Builtin => {
            check_there(said, faults);
            return check_curation(said, faults);
        }
        FileKind::Mcp => {}
    }
    check_reach(said, faults);
    check_program(said, faults);
    check_exclusive(said, faults);
    check_sandbox(said, faults);
    check_headers(said, faults);
    check_connection(said, faults);
    check_curation(said, faults);
}

/// What the program brings is taken away by no file.
fn check_there(said: &Said, faults: &mut Faults) {
    let is_off = |given: &&Given| given.value == Value::Plain(Plain::Truth(false));
    if let Some(given) = said.find("enabled").filter(is_off) {
        let sentence = "enabled is false, but a built-in plugin is not turned off here: write hidden = true to offer none of its tools; \
                        the settings files.enabled and system.programs say whether those two are there";
        faults.add(&given.place, sentence);
    }
}

fn check_reach(said: &Said, faults: &mut Faults) {
    let was_said = |key| said.find(key).is_some() || said.broken.contains(&key);
    let (has_url, has_command) = (was_said("url"), was_said("command"));
    match (has_url, has_command) {
        (false, false) => {
            faults.add(&said.whole, "it says neither url nor command; write where the server is")
        }
        (true, true) => {
            if let Some(given) = said.find("command") {
                faults.add(
                    &given.place,
                    "it has a url, too, and a server is in one place; remove one of the two",
                );
            }
        }
        _ => {
            let (wrong, here, there) =
                if has_url { (Of::Program, "url", "command") } else { (Of::Url, "command", "url") };
            for given in said.given.iter().filter(|given| given.field.of == wrong) {
                let key = given.key();
                faults.add(
                    &given.place,
                    format!("{key} goes with {there}, and this plugin has a {here}; remove it"),
                );
            }
        }
    }
    if let Some(url) = said.find("url")
        && let Err(sentence) = check_url(url.text())
    {
        faults.add(&url.place, sentence);
    }
    let Some(transport) = said.find("transport") else { return };
    match transport.text() {
        "stdio" if has_url => {
            faults.add(
                &transport.place,
                "transport is \"stdio\", which goes with command; with url it is auto, http or sse",
            );
        }
        kind @ ("http" | "sse") if has_command && !has_url => {
            faults.add(
                &transport.place,
                format!("transport is {kind:?}, which goes with url; with command it is stdio"),
            );
        }
        _ => {}
    }
}

/// A URL may carry secrets where it should not: it is not repeated.
fn check_url(text: &str) -> Result<(), &'static str> {
    const EXAMPLE: &str = "url is no URL; write one as https://mcp.example.org/mcp";
    if text.contains("${") {
        return Err("url has ${…}, but nothing is put into it; secrets belong into headers");
    }
    if text.contains('#') {
        return Err("url has a part after #, which no server sees; remove it");
    }
    let uri: Uri = text.parse().map_err(|_no_url| EXAMPLE)?;
    let authority = uri.authority().ok_or(EXAMPLE)?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("url begins with neither https:// nor http://; name an MCP server that is reached so");
    }
    if authority.as_str().contains('@') {
        return Err("url has a user before its host; write headers = { Authorization = \"…\" } in its place");
    }
    if uri.host().is_none_or(str::is_empty) || authority.as_str().ends_with(':') {
        return Err(EXAMPLE);
    }
    let port = authority.as_str().rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
    if port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port == 0))
        || (port.is_some() && uri.port_u16().is_none())
    {
        return Err("url has a port that is none; it takes one from 1 to 65535");
    }
    Ok(())
}

/// A process for each client would be what it forbids.
fn check_exclusive(said: &Said, faults: &mut Faults) {
    let is_on = |given: &&Given| given.value == Value::Plain(Plain::Truth(true));
    let is_for_each = said.find("isolation").is_some_and(|given| given.text() == "per_client");
    if let Some(given) = said.find("exclusive").filter(is_on).filter(|_| is_for_each) {
        let sentence = "exclusive is true, so that there is one process of it, and isolation is \"per_client\", which starts one for each \
                        client; remove one of the two";
        faults.add(&given.place, sentence);
    }
}

fn check_program(said: &Said, faults: &mut Faults) {
    let whole = |path: &str| path.starts_with('/');
    if let Some(command) = said.find("command") {
        let text = command.text();
        if text.contains('\0') || (text.contains('/') && !whole(text)) {
            faults
                .add(&command.place, format!("command is {text:?}, but takes a whole path, or a name alone"));
        } else if text.trim().contains(char::is_whitespace) && !whole(text) {
            faults.add(
                &command.place,
                format!("command is {text:?}, but takes the program alone; its words go into args"),
            );
        }
    }
    if let Some(args) = said.find("args").filter(|args| args.items().iter().any(|word| word.contains('\0'))) {
        faults.add(&args.place, "args has a NUL character, which no program can be given; remove it");
    }
    if let Some(cwd) = said.find("cwd").filter(|cwd| !whole(cwd.text()) || cwd.text().contains('\0')) {
        faults.add(&cwd.place, format!("cwd is {:?}, but takes a whole path, as /srv/data", cwd.text()));
    }
    for given in said.each("env.*") {
        if given.name.is_empty()
            || given.name.contains(|c: char| matches!(c, '=' | '\0') || c.is_whitespace())
        {
            faults.add(&given.place, format!("env has {:?}, which is no name of a variable", given.name));
        }
        if given.text().contains('\0') {
            faults.add(
                &given.place,
                format!("{} has a NUL character, which no variable holds; remove it", given.key()),
            );
        }
        check_credential(given, faults);
    }
    let inherited = said.find("inherit_env");
    for (name, place) in
        inherited.into_iter().flat_map(|given| given.items().iter().map(move |name| (name, &given.place)))
    {
        if credential::is_own(name) {
            let why = "but what is Waygate's own, as its secrets, is given to no server; remove it";
            faults.add(place, format!("inherit_env has {name}, {why}"));
        } else if !credential::is_variable(name) {
            // What follows `=` might be a secret.
            let name = name.split('=').next().unwrap_or_default();
            faults.add(
                place,
                format!("inherit_env has {name:?}, but takes names of variables, without a value"),
            );
        }
    }
}

fn check_sandbox(said: &Said, faults: &mut Faults) {
    let Some(folders) = said.find("sandbox.folders") else { return };
    for folder in folders.items() {
        if super::build::folder_of(folder).is_none() {
            let sentence =
                format!("sandbox.folders has {folder:?}, but takes /path:ro or /path:rw, the path whole");
            faults.add(&folders.place, sentence);
        }
    }
}

fn check_credential(given: &Given, faults: &mut Faults) {
    let credential = Credential(given.text().to_owned());
    if let Err(why) = credential.pieces() {
        faults.add(&given.place, format!("{} {why}", given.key()));
    }
}

/// What Waygate says itself in each request, or what belongs to one connection only.
const OWN_HEADERS: [&str; 17] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "last-event-id",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-mcp-header",
];

fn check_headers(said: &Said, faults: &mut Faults) {
    let mut seen = HashSet::new();
    for given in said.each("headers.*") {
        let name = given.name.to_ascii_lowercase();
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            faults.add(&given.place, format!("headers has {:?}, which is no name of a header", given.name));
        } else if OWN_HEADERS.contains(&name.as_str()) || name.starts_with("mcp-") {
            faults.add(&given.place, format!("{} is Waygate's own to say; remove it", given.key()));
        } else if !seen.insert(name) {
            faults.add(
                &given.place,
                format!("{} stands twice, for case does not count; remove one", given.key()),
            );
        }
        if HeaderValue::from_str(given.text()).is_err() {
            let sentence =
                format!("{} has characters that no header can carry, as a line break", given.key());
            faults.add(&given.place, sentence);
        }
        check_credential(given, faults);
    }
}

fn check_connection(said: &Said, faults: &mut Faults) {
    let is_https = said
        .find("url")
        .is_none_or(|url| url.text().get(..8).is_some_and(|begin| begin.eq_ignore_ascii_case("https://")));
    for key in ["tls.ca", "tls.cert", "tls.key"] {
        let Some(given) = said.find(key) else { continue };
        if !given.text().starts_with('/') || given.text().contains('\0') {
            faults.add(&given.place, format!("{key} is {:?}, but takes a whole path", given.text()));
        }
        if !is_https {
            faults.add(
                &given.place,
                format!("{key} goes with https://, and this url begins otherwise; remove it"),
            );
        }
    }
    let was_said = |key| said.find(key).is_some() || said.broken.contains(&key);
    for (one, other) in [("tls.cert", "tls.key"), ("tls.key", "tls.cert")] {
        if let Some(given) = said.find(one).filter(|_| !was_said(other)) {
            faults.add(&given.place, format!("{one} goes with {other}; write both, or none"));
        }
    }
    let Some(ranges) = said.find("allow_ranges") else { return };
    for range in ranges.items().iter().filter(|range| !is_network(range)) {
        let sentence =
            format!("allow_ranges has {range:?}, but takes addresses or networks, as 169.254.0.0/16");
        faults.add(&ranges.place, sentence);
    }
}

fn check_globs(said: &Said, key: &str, faults: &mut Faults) {
    let Some(given) = said.find(key) else { return };
    for glob in given.items() {
        if glob.is_empty() {
            faults.add(&given.place, format!("{key} has an empty glob, which fits nothing; remove it"));
        } else if let Err(error) = Glob::new(glob) {
            faults.add(&given.place, format!("{key} has {glob:?}, which is no glob ({})", error.kind()));
        }
    }
}

/// Of a name as clients see it.
const TOOL_NAME_CHARACTERS_MAX: usize = 64;

fn check_curation(said: &Said, faults: &mut Faults) {
    check_globs(said, "allow", faults);
    check_globs(said, "deny", faults);
    if let Some(prefix) = said.find("uri_prefix")
        && prefix.text().contains(|c: char| c.is_whitespace() || c.is_control())
    {
        faults.add(&prefix.place, "uri_prefix has blanks, which no URI has; remove them");
    }
    for burst in said.each("tools.*.burst") {
        check_burst(
            burst,
            said.each("tools.*.requests_per_minute").any(|rate| rate.name == burst.name),
            faults,
        );
    }
    for given in said.each("tools.*.redact") {
        check_pointers(given, faults);
    }
    let mut renamed = HashSet::new();
    for given in said.each("tools.*.rename") {
        let (key, name) = (given.key(), given.text());
        let fits = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if !fits || name.len() > TOOL_NAME_CHARACTERS_MAX {
            let takes = format!("1 to {TOOL_NAME_CHARACTERS_MAX} letters, digits, _ and -");
            faults.add(&given.place, format!("{key} is {name:?}, but takes {takes}"));
        } else if !renamed.insert(name) {
            faults.add(&given.place, format!("{key} is {name:?}, and another tool is renamed to that, too"));
        }
    }
    for given in said.each("tools.*.annotations") {
        let Value::Object(Json::Object(members)) = &given.value else { continue };
        for (name, value) in members {
            if name.ends_with("Hint") && !value.is_boolean() {
                faults.add(&given.place, format!("{}.{name} takes true or false", given.key()));
            } else if name == "title" && !value.is_string() {
                faults.add(&given.place, format!("{}.title takes a text", given.key()));
            }
        }
    }
}

/// What is taken for a pointer and is none would hide nothing.
fn check_pointers(given: &Given, faults: &mut Faults) {
    for text in given.items() {
        if let Err(why) = pointer::steps_of(text) {
            let key = given.key();
            let sentence =
                format!("{key} has {text:?}, which is no JSON pointer: {why}; write one as /card/number");
            faults.add(&given.place, sentence);
        }
    }
}

/// A burst is a part of a minute's requests.
fn check_burst(burst: &Given, has_rate: bool, faults: &mut Faults) {
    if !has_rate {
        let key = burst.key();
        let rate = key.replace("burst", "requests_per_minute");
        faults.add(
            &burst.place,
            format!("{key} goes with {rate}, which is not there; write it, or remove {key}"),
        );
    }
}

fn check_bundle(said: &Said, faults: &mut Faults) {
    check_globs(said, "tools", faults);
    if let Some(burst) = said.find("burst") {
        check_burst(burst, said.find("requests_per_minute").is_some(), faults);
    }
    let is_empty =
        |key| said.find(key).is_none_or(|given| given.items().is_empty()) && !said.broken.contains(&key);
    if is_empty("plugins") && is_empty("tools") {
        faults.add(&said.whole, "it names neither plugins nor tools, so nothing belongs to it; name some");
    }
    let Some(given) = said.find("plugins") else { return };
    let mut seen = HashSet::new();
    for name in given.items() {
        if !is_name(name) && !BUILT_INS.contains(&name.as_str()) {
            let sentence = format!(
                "plugins has {name:?}, which is no name of a plugin; globs over tools go into `tools`"
            );
            faults.add(&given.place, sentence);
        } else if !seen.insert(name) {
            faults.add(&given.place, format!("plugins has {name} twice; remove one"));
        } else if *name == said.name {
            faults.add(&given.place, format!("plugins has {name}, which is this bundle itself; remove it"));
        }
    }
}
