//! Files as resources: reading one by its URI, and completing paths. Must not know tools.

use serde_json::{Map, Value, json};

use super::read::{Contents, whole};
use super::roots::{OpenRoot, Place, Roots};
use super::trouble::Trouble;
use super::walk::{Bounds, Kind, Seen, Step, walk};
use super::{Options, list, uri};
use crate::plugins::{Context, PluginError};
use crate::protocol::Raw;
use crate::protocol::content::{self, blob_contents, text_contents};

/// A completion looks at no more entries of a folder.
const COMPLETION_ENTRIES_MAX: usize = 10_000;
/// The variable of our templates.
const VARIABLE: &str = "path";

/// Reads the resource `uri`: a file's contents, or a directory's listing as JSON.
pub(super) fn read(
    roots: &Roots,
    uri: &str,
    options: &Options,
    context: &Context,
) -> Result<Raw, PluginError> {
    let place = roots.place_of_uri(uri).ok_or_else(|| PluginError::Unknown(uri.to_owned()))?;
    let contents = contents(&place, uri, options, context);
    contents.map(|contents| content::read(vec![contents])).map_err(|trouble| refusal(trouble, uri))
}

/// What a trouble with the resource `uri` is called at the seam.
pub(super) fn refusal(trouble: Trouble, uri: &str) -> PluginError {
    match trouble {
        trouble if trouble.hides() => PluginError::Unknown(uri.to_owned()),
        Trouble::Io { .. } => PluginError::Failed(trouble.to_string()),
        Trouble::GivenUp => PluginError::Unavailable(trouble.to_string()),
        trouble => PluginError::InvalidParams(trouble.to_string()),
    }
}

fn contents(place: &Place, uri: &str, options: &Options, context: &Context) -> Result<Value, Trouble> {
    if place.metadata()?.is_dir() {
        let listing = listing(place, options, context)?;
        return Ok(text_contents(uri, "application/json", listing.to_string()));
    }
    Ok(match whole(place, options.read_max_bytes, context)? {
        Contents::Text(mime_type, text) => text_contents(uri, mime_type, text),
        Contents::Blob(mime_type, blob) => blob_contents(uri, mime_type, blob),
    })
}

fn listing(place: &Place, options: &Options, context: &Context) -> Result<Value, Trouble> {
    let bounds = Bounds { depth: 1, entries: list::ENTRIES_MAX, gitignore: false, ours: false };
    let mut entries = Vec::new();
    let mut is_cut = false;
    let Seen { is_cut: walk_cut, .. } = walk(place, bounds, context, &mut |found| {
        if entries.len() >= options.results_max {
            is_cut = true;
            return Ok(Step::Stop);
        }
        let inner = place.root_place().join(found.path);
        let mut entry = list::describe(&inner, found.kind, found.metadata().as_ref(), found.is_utf8);
        if let (true, Some(entry)) = (found.is_utf8, entry.as_object_mut()) {
            entry.insert("uri".to_owned(), json!(inner.uri()));
        }
        entries.push(entry);
        Ok(Step::On)
    })?;
    let mut listing = Map::new();
    listing.insert("path".to_owned(), json!(place.shown()));
    listing.insert("entries".to_owned(), Value::Array(entries));
    listing.insert("truncated".to_owned(), json!(is_cut || walk_cut));
    Ok(Value::Object(listing))
}

/// Whose template this is, if the argument is the one it has.
pub(super) fn template_root<'a>(
    roots: &'a Roots,
    template: &str,
    argument: &str,
) -> Result<&'a std::sync::Arc<OpenRoot>, PluginError> {
    let root = roots.all().iter().find(|root| uri::template(&root.name) == template);
    let root = root.ok_or_else(|| PluginError::Unknown(template.to_owned()))?;
    if argument == VARIABLE {
        Ok(root)
    } else {
        let says = format!("the template {template} has no variable {argument:?}; it has {VARIABLE:?}");
        Err(PluginError::InvalidParams(says))
    }
}

/// Paths below the root that go on from what was typed; folders end with `/`. What cannot be there has none.
pub(super) fn complete(roots: &Roots, root: &OpenRoot, typed: &str, context: &Context) -> Vec<String> {
    let typed = uri::typed(typed);
    let (folder, prefix) = match typed.rsplit_once('/') {
        Some((folder, prefix)) => (folder, prefix),
        None => ("", typed.as_str()),
    };
    let Some(start) = roots.place_of_uri(&uri::of(&root.name, folder)) else {
        return Vec::new();
    };
    let shows_hidden = prefix.starts_with('.');
    let bounds = Bounds { depth: 1, entries: COMPLETION_ENTRIES_MAX, gitignore: false, ours: false };
    let mut values = Vec::new();
    let walked = walk(&start, bounds, context, &mut |found| {
        let name = found.path.rsplit('/').next().unwrap_or(found.path);
        let fits = found.is_utf8 && name.starts_with(prefix) && (shows_hidden || !name.starts_with('.'));
        if fits {
            let is_folder = match found.kind {
                Kind::Directory => true,
                Kind::Symlink => start.join(name).metadata().is_ok_and(|metadata| metadata.is_dir()),
                Kind::File | Kind::Other => false,
            };
            values.push(uri::value(found.path) + if is_folder { "/" } else { "" });
        }
        Ok(Step::On)
    });
    match walked {
        Ok(_) => values,
        Err(_) => Vec::new(),
    }
}
