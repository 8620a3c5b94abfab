//! Why a tool is not there for who looks: what the operator alone is told.
//!
//! Asks what keeps it away in the order in which that is done: the plugin's file, its place among others, the bundle, the key. Must
//! not know who asks.

use std::sync::Arc;

use serde_json::json;

use super::Case;
use super::by::By;
use crate::access::keys::About;
use crate::actors::plugin::Member;
use crate::catalog::{Snapshot, ToolEntry, ViewName, Withheld};
use crate::config::did_you_mean;

/// Why it is not there, what decided that, and what to do.
pub struct Absence {
    pub why: String,
    pub by: Vec<By>,
    pub advice: String,
}

impl Absence {
    fn new(why: impl Into<String>, by: Vec<By>, advice: impl Into<String>) -> Self {
        Self { why: why.into(), by, advice: advice.into() }
    }
}

/// Why `view` has no such tool.
pub fn why(case: &Case<'_>, view: &ViewName) -> Absence {
    let house = &case.door.frame.house;
    let whole = view.name().map_or(ViewName::MAIN, ViewName::of);
    let all = house.shelf.keep();
    // Without what hides it from this key alone.
    let here = house.shelf.view(&whole);
    if let Some(entry) = here.as_ref().and_then(|here| here.tool(case.tool)) {
        return of_key(case.subject.about.as_ref(), view, entry);
    }
    let entry = all.tools().find(|entry| is_called(entry, case.tool));
    match (entry, &here) {
        (Some(entry), Some(here)) => of_path(&whole, here, entry),
        (Some(entry), None) => Absence::new(
            format!("it is published as {}", entry.name),
            vec![By::plugin(&entry.seat.name, "tool", &*entry.name)],
            format!("call it as {}", entry.name),
        ),
        (None, _) => of_plugins(&all, &house.plugins.all(), case.tool),
    }
}

fn is_called(entry: &ToolEntry, name: &str) -> bool {
    *entry.canonical == *name || *entry.name == *name || entry.seat.curator.name_alone(&entry.local) == name
}

fn of_key(about: Option<&About>, view: &ViewName, entry: &ToolEntry) -> Absence {
    let by = |field: &str, globs: &[String]| about.map(|about| By::key(about, field, globs.to_vec()));
    let Some(selection) = view.selection() else {
        return Absence::new("it is there and was not a moment ago", Vec::new(), "ask again");
    };
    let lists = [("tools.deny", selection.deny()), ("tools.allow", selection.allow())];
    let lists = lists.into_iter().filter(|(_, globs)| !globs.is_empty());
    Absence::new(
        format!("the key does not show {}: to it, it is unknown", entry.canonical),
        lists.filter_map(|(field, globs)| by(field, globs)).collect(),
        format!(
            "make another key, as by `waygate-mcp keys create NAME --allow '{}'`, and revoke this one",
            entry.canonical
        ),
    )
}

/// It is somewhere else, or is called otherwise here.
fn of_path(view: &ViewName, here: &Snapshot, entry: &ToolEntry) -> Absence {
    if let Some(same) = here.tools().find(|same| same.canonical == entry.canonical) {
        let by = By::plugin(&entry.seat.name, "tool", &*same.name);
        return Absence::new(
            format!("at {view} it is called {}", same.name),
            vec![by],
            format!("call it as {}", same.name),
        );
    }
    let name = view.name().unwrap_or_default();
    let refused = here
        .refused
        .iter()
        .find(|refused| refused.plugin == entry.seat.name && tells_of(&refused.why, entry));
    if let Some(refused) = refused {
        return Absence::new(
            refused.why.clone(),
            vec![of_file(&entry.seat.name)],
            "rename or deny one of the two",
        );
    }
    let by = here.bundle().map(|bundle| {
        let file = file_of(name);
        [("plugins", &bundle.plugins), ("tools", &bundle.tools)]
            .map(|(field, names)| By::file(&file, field, names.clone()))
            .to_vec()
    });
    Absence::new(
        format!("{} is no part of {view}", entry.canonical),
        by.unwrap_or_else(|| vec![By::plugin(name, "front", true)]),
        format!("add it to the file of the bundle {name}, or call it at /mcp"),
    )
}

/// No plugin publishes it: perhaps one has it, and keeps it back.
fn of_plugins(all: &Snapshot, members: &[Arc<Member>], name: &str) -> Absence {
    for (seat, inventory) in &all.plugins {
        let curator = &seat.curator;
        let local = inventory.tools.iter().map(|tool| tool.name()).find(|local| {
            let alone = curator.name_alone(local);
            alone == name || local == name || curator.publish(&seat.name, alone) == name
        });
        let Some(local) = local else { continue };
        let origin = members.iter().find(|member| member.seat.name == seat.name);
        let origin = origin.and_then(|member| member.origin.as_ref()).map(|path| path.display().to_string());
        let file = origin.unwrap_or_else(|| file_of(&seat.name));
        if let Err(withheld) = curator.judge_tool(&local) {
            return of_curation(withheld, curator.curation(), &file, &local);
        }
        let refused = all
            .refused
            .iter()
            .find(|refused| refused.plugin == seat.name && refused.why.contains(&format!("{local:?}")));
        let why = refused.map_or_else(|| format!("{local} is not published"), |refused| refused.why.clone());
        return Absence::new(
            why,
            vec![By::plugin(&seat.name, "state", seat.state_name())],
            format!("`waygate-mcp plugins show {}` says what of it is refused", seat.name),
        );
    }
    let nearest = did_you_mean(name, all.tools().map(|entry| &*entry.name));
    Absence::new(
        format!("no plugin has a tool that is called {name:?}{nearest}"),
        Vec::new(),
        "`waygate-mcp tools list` shows those there are",
    )
}

fn of_curation(
    withheld: Withheld,
    said: &crate::config::plugin::Curation,
    file: &str,
    local: &str,
) -> Absence {
    let (why, field, value) = match withheld {
        Withheld::Malformed => {
            ("a glob of its plugin's file is none, so nothing of it is offered", "deny", json!(said.deny))
        }
        Withheld::NotAllowed => ("its plugin's file allows others only", "allow", json!(said.allow)),
        Withheld::Denied => ("its plugin's file denies it", "deny", json!(said.deny)),
        Withheld::Hidden => {
            ("its plugin's file hides all tools that nothing else is said of", "hidden", json!(true))
        }
        Withheld::HiddenItself => {
            let field = format!("tools.{local}.hidden");
            let by = By::file(file, &field, true);
            return Absence::new(
                "its plugin's file hides it",
                vec![by],
                format!("change {field} in {file}, which is read at once"),
            );
        }
    };
    Absence::new(
        format!("{why}: {local}"),
        vec![By::file(file, field, value)],
        format!("change {field} in {file}, which is read at once"),
    )
}

fn tells_of(why: &str, entry: &ToolEntry) -> bool {
    why.contains(&format!("{:?}", &*entry.local))
}

fn of_file(plugin: &str) -> By {
    By::file(&file_of(plugin), "names", "plain")
}

/// The file of a bundle or plugin, as it is called below the data root.
pub fn file_of(name: &str) -> String {
    format!("plugins/{name}.toml")
}
