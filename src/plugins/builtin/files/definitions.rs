//! What the plugin offers, in words and schemas for models. Must not know how anything is done.

use serde_json::{Value, json};

use super::list::ENTRIES_MAX;
use super::roots::{Place, Roots};
use super::{Options, uri};
use crate::plugins::Inventory;
use crate::protocol::Definition;

/// Everything, for these roots.
pub(super) fn inventory(roots: &Roots, options: &Options) -> Inventory {
    let mut tools = vec![read_file(options), list_directory(options), search_files(options)];
    if roots.all().iter().any(|root| root.writable) {
        tools.insert(1, write_file(options));
    }
    let described = |definition: Definition, name: &str, writable: bool| {
        let may = if writable { "may be read and written" } else { "may be read" };
        definition
            .with("title", format!("Files in {name}"))
            .with("description", format!("What lies here {may}."))
    };
    let resources = roots.all().iter().map(|root| {
        let definition = Definition::resource(&Place::root_of(root).uri(), &root.name);
        described(definition, &root.name, root.writable).with("mimeType", "application/json")
    });
    let templates = roots.all().iter().map(|root| {
        let definition = Definition::template(&uri::template(&root.name), &format!("{}-files", root.name));
        described(definition, &root.name, root.writable)
    });
    Inventory {
        tools,
        prompts: Vec::new(),
        resources: resources.collect(),
        templates: templates.collect(),
        instructions: Some(instructions(roots)),
        completes: true,
        subscribes: true,
        ..Inventory::default()
    }
}

fn instructions(roots: &Roots) -> String {
    let named: Vec<String> = roots
        .all()
        .iter()
        .map(|root| format!("{} ({})", root.name, if root.writable { "read-write" } else { "read-only" }))
        .collect();
    format!(
        "Files are named root/folder/file. The roots are: {}. Nothing outside them can be reached. Find files with \
         list_directory and search_files before reading; read long files in parts; give write_file the sha256 of what \
         you read as if_match, so that nobody's change is lost.",
        named.join(", ")
    )
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn path(says: &str) -> Value {
    json!({"type": "string", "maxLength": 4096, "description": format!("root/folder/file. {says}")})
}

fn count(says: &str, minimum: u64) -> Value {
    json!({"type": "integer", "minimum": minimum, "maximum": 9_007_199_254_740_991_u64, "description": says})
}

fn string() -> Value {
    json!({"type": "string"})
}

fn number() -> Value {
    json!({"type": "integer", "minimum": 0})
}

fn read_file(options: &Options) -> Definition {
    let description = format!(
        "Reads a file, as text where it is UTF-8 text, else as Base64 (images as images). Returns at most {} bytes: of \
         longer text the beginning, with the offset to read on from. Use offset and limit for lines, byte_offset and \
         byte_limit for bytes. The sha256 of a file that was read as a whole can be given to write_file as if_match.",
        options.read_max_bytes
    );
    let input = object(
        json!({
            "path": path("The file to read."),
            "encoding": {
                "type": "string", "enum": ["auto", "utf-8", "base64"], "default": "auto",
                "description": "How to return the contents; utf-8 fails on what is not text.",
            },
            "offset": count("The line to begin with; the first is 1.", 1),
            "limit": count("How many lines at most.", 1),
            "byte_offset": count("The byte to begin with; the first is 0.", 0),
            "byte_limit": count("How many bytes at most.", 1),
        }),
        &["path"],
    );
    let output = object(
        json!({
            "path": string(), "uri": string(), "mime_type": string(), "size_bytes": number(),
            "encoding": {"enum": ["utf-8", "base64"]},
            "text": {"type": "string", "description": "The contents, where they are text."},
            "byte_offset": number(), "bytes": number(), "first_line": number(), "lines": number(),
            "truncated": {"type": "boolean", "description": "Whether the file goes on after this part."},
            "next_offset": number(), "next_byte_offset": number(),
            "sha256": {"type": "string", "description": "Of the whole file; absent where a part was read."},
            "changed_while_read": {"type": "boolean"},
        }),
        &[
            "path",
            "uri",
            "mime_type",
            "size_bytes",
            "encoding",
            "byte_offset",
            "bytes",
            "truncated",
            "changed_while_read",
        ],
    );
    Definition::tool("read_file", &description, input)
        .with("title", "Read a file")
        .with("outputSchema", output)
        .read_only()
}

fn write_file(options: &Options) -> Definition {
    let description = format!(
        "Writes a file in one step: readers see the old contents or the new, never half. Mode create (the default) \
         fails where the file exists, overwrite replaces it, append adds to its end. With if_match, it fails unless \
         the file still has that SHA-256. At most {} bytes a call.",
        options.write_max_bytes
    );
    let input = object(
        json!({
            "path": path("The file to write."),
            "content": {"type": "string", "description": "What to write."},
            "encoding": {
                "type": "string", "enum": ["utf-8", "base64"], "default": "utf-8",
                "description": "How content is given.",
            },
            "mode": {
                "type": "string", "enum": ["create", "overwrite", "append"], "default": "create",
                "description": "What to do with a file that exists; overwrite and append create a missing one.",
            },
            "if_match": {
                "type": "string", "pattern": "^[0-9a-fA-F]{64}$",
                "description": "The SHA-256 that the file must still have.",
            },
            "create_parents": {
                "type": "boolean", "default": false, "description": "Whether to create missing folders.",
            },
        }),
        &["path", "content"],
    );
    let output = object(
        json!({
            "path": string(), "uri": string(), "created": {"type": "boolean"},
            "bytes_written": number(), "size_bytes": number(), "sha256": string(),
        }),
        &["path", "uri", "created", "bytes_written", "size_bytes", "sha256"],
    );
    let annotations = json!({
        "readOnlyHint": false, "destructiveHint": true, "idempotentHint": false, "openWorldHint": false,
    });
    Definition::tool("write_file", &description, input)
        .with("title", "Write a file")
        .with("outputSchema", output)
        .with("annotations", annotations)
}

fn entry() -> Value {
    let properties = json!({
        "path": string(),
        "type": {"enum": ["file", "directory", "symlink", "other"]},
        "size_bytes": number(),
        "modified": {"type": "string", "description": "In UTC."},
        "unusable": string(),
    });
    object(properties, &["path", "type"])
}

fn list_directory(options: &Options) -> Definition {
    let description = format!(
        "Lists what a folder holds, sorted, with types, sizes and times of change. Symbolic links are shown, not \
         followed. With an empty path it begins at the top. At most {} entries a page and {ENTRIES_MAX} looked at.",
        options.results_max
    );
    let input = object(
        json!({
            "path": path("The folder to list; empty for the top."),
            "recursive": {"type": "boolean", "default": false, "description": "Whether to list folders below, too."},
            "depth": {
                "type": "integer", "minimum": 1, "maximum": 64,
                "description": "How many levels to list when recursive.",
            },
            "glob": glob(),
            "respect_gitignore": {
                "type": "boolean", "default": false,
                "description": "Whether to leave out what .gitignore files name, and .git itself.",
            },
            "limit": limit(options),
            "after": {
                "type": "string", "maxLength": 8192,
                "description": "For the next page: next_after of the page before.",
            },
        }),
        &[],
    );
    let output = object(
        json!({
            "path": string(), "entries": {"type": "array", "items": entry()}, "total": number(),
            "truncated": {"type": "boolean"}, "next_after": string(), "notes": notes(),
        }),
        &["path", "entries", "total", "truncated", "notes"],
    );
    Definition::tool("list_directory", &description, input)
        .with("title", "List a folder")
        .with("outputSchema", output)
        .read_only()
}

fn search_files(options: &Options) -> Definition {
    let description = "Searches a folder and all below it: by a glob for files' names, by a pattern for what their \
                       lines say, or both. Binary files are passed over, and so is what .gitignore files name.";
    let input = object(
        json!({
            "path": path("The folder to search; empty for all."),
            "glob": glob(),
            "pattern": {
                "type": "string", "minLength": 1, "maxLength": 1000,
                "description": "A regular expression (Rust's regex crate) that matches within one line.",
            },
            "literal": {"type": "boolean", "default": false, "description": "Whether pattern is plain text."},
            "ignore_case": {"type": "boolean", "default": false, "description": "Whether pattern ignores case."},
            "context_lines": {
                "type": "integer", "minimum": 0, "maximum": 10, "default": 0,
                "description": "How many lines around each match to show.",
            },
            "respect_gitignore": {
                "type": "boolean", "default": true,
                "description": "Whether to leave out what .gitignore files name, and .git itself.",
            },
            "limit": limit(options),
        }),
        &[],
    );
    let lines = json!({"type": "array", "items": string()});
    let found = json!({
        "path": string(), "line": number(), "column": number(), "text": string(), "before": lines, "after": lines,
    });
    let found = object(found, &["path", "line", "column", "text"]);
    let output = object(
        json!({
            "matches": {"type": "array", "items": found}, "files": {"type": "array", "items": entry()},
            "files_searched": number(), "truncated": {"type": "boolean"}, "notes": notes(),
        }),
        &["files_searched", "truncated", "notes"],
    );
    Definition::tool("search_files", description, input)
        .with("title", "Search files")
        .with("outputSchema", output)
        .read_only()
}

fn glob() -> Value {
    json!({
        "type": "string", "minLength": 1, "maxLength": 256,
        "description": "Such as *.md; with a slash it is for the path below the folder, such as src/**/*.rs.",
    })
}

fn limit(options: &Options) -> Value {
    json!({
        "type": "integer", "minimum": 1, "maximum": options.results_max.max(1),
        "description": "How many results at most.",
    })
}

fn notes() -> Value {
    json!({"type": "array", "items": string(), "description": "What was left out, and how to go on."})
}
