//! What is offered: definitions, resources, completions; and what a start refuses.

use serde_json::{Value, json};

use super::super::testing::{Bed, options, root};
use super::super::{Files, FilesError};
use crate::plugins::{Plugin, PluginError, Reference, Request};
use crate::protocol::{Answers, Raw};

async fn read(bed: &Bed, uri: &str) -> Result<Value, PluginError> {
    let request = Request::Read { uri: uri.to_owned(), answers: Answers::default() };
    bed.ask(request).await.map(|result| result["contents"][0].clone())
}

async fn complete(bed: &Bed, typed: &str) -> Value {
    let request = Request::Complete {
        of: Reference::Resource("files://files/{+path}".to_owned()),
        argument: "path".to_owned(),
        typed: typed.to_owned(),
        chosen: Raw::value(&json!({})),
    };
    bed.ask(request).await.unwrap()["completion"].clone()
}

#[test]
fn every_tool_is_described_and_strict() {
    let inventory = Bed::new().files.inventory();
    let names: Vec<String> = inventory.tools.iter().map(|tool| tool.name()).collect();
    assert_eq!(names, ["read_file", "write_file", "list_directory", "search_files"]);
    for tool in &inventory.tools {
        let member = |key: &str| tool.object().get(key).unwrap().read::<Value>().unwrap();
        assert!(member("title").is_string() && member("description").as_str().unwrap().len() > 80);
        assert!(member("annotations")["readOnlyHint"].is_boolean());
        for schema in [member("inputSchema"), member("outputSchema")] {
            assert!(jsonschema::meta::is_valid(&schema));
            assert_eq!((&schema["type"], &schema["additionalProperties"]), (&json!("object"), &json!(false)));
        }
    }
    assert!(inventory.completes && inventory.subscribes && inventory.prompts.is_empty());
    assert!(inventory.instructions.unwrap().contains("files (read-write)"));
    assert_eq!(inventory.resources[0].uri(), "files://files/");
    assert_eq!(inventory.templates[0].uri(), "files://files/{+path}");
}

#[tokio::test]
async fn files_are_resources_with_their_type() {
    let bed = Bed::new();
    bed.put("sub/ä b#?.md", "# hi");
    bed.put("x.bin", b"\xff\0");
    let uri = "files://files/sub/%C3%A4%20b%23%3F.md";
    let text = read(&bed, uri).await.unwrap();
    assert_eq!(text, json!({"uri": uri, "mimeType": "text/markdown", "text": "# hi"}));
    let blob = read(&bed, "files://files/x.bin").await.unwrap();
    assert_eq!((&blob["blob"], &blob["mimeType"]), (&json!("/wA="), &json!("application/octet-stream")));
    let folder = read(&bed, "files://files/sub").await.unwrap();
    let listing: Value = serde_json::from_str(folder["text"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&listing["entries"][0]["uri"], &folder["mimeType"]),
        (&json!(uri), &json!("application/json"))
    );
    for root in ["files://files/", "files://files", "files://FILES/"] {
        assert!(read(&bed, root).await.unwrap()["text"].as_str().unwrap().contains("files/x.bin"));
    }
}

#[tokio::test]
async fn a_missing_resource_is_unknown_and_a_large_one_says_how_to_read_it() {
    let bed = Bed::new();
    bed.put("large.txt", "x".repeat(1001));
    let missing = "files://files/none";
    assert!(matches!(read(&bed, missing).await, Err(PluginError::Unknown(uri)) if uri == missing));
    assert!(matches!(read(&bed, "files://other/x").await, Err(PluginError::Unknown(_))));
    match read(&bed, "files://files/large.txt").await {
        Err(PluginError::InvalidParams(says)) => assert!(says.contains("with the tool read_file"), "{says}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn paths_are_completed_below_the_root() {
    let bed = Bed::new();
    for path in ["docs/a.md", "docs/ab.md", "docs/b.md", "done", ".dot", "50%41"] {
        bed.put(path, "");
    }
    bed.link("docs", "dlink");
    bed.link("/etc", "dout");
    assert_eq!(complete(&bed, "d").await["values"], json!(["dlink/", "docs/", "done", "dout"]));
    assert_eq!(complete(&bed, "docs/a").await["values"], json!(["docs/a.md", "docs/ab.md"]));
    assert_eq!(complete(&bed, ".").await["values"], json!([".dot"]));
    assert!(!complete(&bed, "").await.to_string().contains(".dot"), "hidden ones only when typed");
    assert_eq!(complete(&bed, "50").await["values"], json!(["50%2541"]));
    for nowhere in ["../", "/etc/", "dout/", "none/x", "docs/../../", "a\0"] {
        assert_eq!(complete(&bed, nowhere).await["values"], json!([]), "{nowhere:?}");
    }
}

#[tokio::test]
async fn completions_are_capped_and_foreign_ones_refused() {
    let bed = Bed::new();
    for number in 0..130 {
        bed.put(&format!("f{number:03}"), "");
    }
    let completion = complete(&bed, "f").await;
    assert_eq!(completion["values"].as_array().unwrap().len(), 100);
    assert_eq!((&completion["total"], &completion["hasMore"]), (&json!(130), &json!(true)));
    let ask = |of: Reference, argument: &str| Request::Complete {
        of,
        argument: argument.to_owned(),
        typed: String::new(),
        chosen: Raw::value(&json!({})),
    };
    let other = Reference::Resource("files://other/{+path}".to_owned());
    assert!(matches!(bed.ask(ask(other, "path")).await, Err(PluginError::Unknown(_))));
    let ours = Reference::Resource("files://files/{+path}".to_owned());
    assert!(matches!(bed.ask(ask(ours, "root")).await, Err(PluginError::InvalidParams(_))));
    assert!(matches!(
        bed.ask(ask(Reference::Prompt("x".to_owned()), "path")).await,
        Err(PluginError::Unknown(_))
    ));
}

#[tokio::test]
async fn arguments_of_another_shape_are_refused() {
    let bed = Bed::new();
    for arguments in [json!({}), json!({"path": 1}), json!({"path": "a", "pth": "b"}), json!([])] {
        let arguments = Raw::value(&arguments);
        let request = Request::Call { tool: "read_file".into(), arguments, answers: Answers::default() };
        assert!(matches!(bed.ask(request).await, Err(PluginError::InvalidParams(_))));
    }
}

#[test]
fn a_start_names_the_root_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let start = |roots| Files::new(options(roots)).map(|_| ()).unwrap_err();
    assert!(matches!(start(vec![]), FilesError::NoRoot));
    for name in ["", "a/b", "..", ".x", "a b", "ü", &"x".repeat(65)] {
        assert!(matches!(start(vec![root(name, folder.path(), true)]), FilesError::Name(_)), "{name:?}");
    }
    let twice = vec![root("a", folder.path(), true), root("A", folder.path(), true)];
    assert!(matches!(start(twice), FilesError::NameTwice(_)));
    let missing = start(vec![root("a", &folder.path().join("none"), true)]);
    assert!(missing.to_string().contains("the root a at ") && missing.to_string().contains("create it"));
}
