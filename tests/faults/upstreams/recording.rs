//! What of arguments is recorded nowhere, since the tool's schema or the operator says so.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::{House, hostile};
use crate::ledger;
use crate::support::{database_of, eventually, program};

const TOOL: &str = "pays__say";
/// In every value that nobody shall find.
const NEEDLE: &str = "for-nobody";

/// What a verb of the history says on the house's folder.
fn history(house: &House, words: &[&str]) -> String {
    let root = house.root.path();
    let mut command = Command::new(program("waygate-mcp"));
    command.arg("history").args(words).args(["--env", "test", "--data-dir"]).arg(root);
    command.env_clear().envs(database_of(root)).env("HOME", root).current_dir(root);
    let output = command.output().expect("the verb runs");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a text")
}

/// The files of the house's data and log that hold the needle; its database, too, if that is one of them.
fn files_with_needle(house: &House) -> Vec<String> {
    let folders = ["data", "logs"].map(|name| house.root.path().join(name));
    let files = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    let files = files.map(|file| file.expect("a file").path()).filter(|path| path.is_file());
    let holds = |path: &std::path::PathBuf| {
        let bytes = fs::read(path).unwrap_or_default();
        bytes.windows(NEEDLE.len()).any(|part| part == NEEDLE.as_bytes())
    };
    files.filter(holds).map(|path| path.display().to_string()).collect()
}

#[test]
fn what_the_schema_marks_and_the_operator_points_at_is_recorded_nowhere_however_much_is() {
    let file = hostile("secretive", "[tools.say]\nredact = [\"/card/number\", \"/items/*/a~1b\"]");
    for (durability, captured) in [
        ("strict", "full"),
        ("batched", "full"),
        ("strict", "redacted"),
        ("batched", "redacted"),
        ("batched", "shape"),
    ] {
        let settings = [("WAYGATE_HISTORY_DURABILITY", durability), ("WAYGATE_HISTORY_ARGUMENTS", captured)];
        let house = House::under(&settings, &[("pays", file.clone())]);
        house.is_ready("pays");
        let secret = |place: &str| format!("{NEEDLE}-{place}");
        let arguments = |text: Value| {
            json!({
                "text": text,
                "card": {"number": [secret("pointer")], "holder": "seen"},
                "items": [{"a/b": {secret("key"): secret("object")}}, {"a/b": secret("second")}],
                "chain": {"below": {"below": {"pin": secret("deep")}}, "pin": secret("ref")},
                "codes": [secret("element")]
            })
        };
        assert_eq!(house.says(TOOL, arguments(json!("well"))), "well", "the tool gets all of it");
        // What does not fit is told to the caller alone.
        assert!(house.says(TOOL, arguments(json!(7))).contains("text"));
        let rows = eventually("both calls are recorded", || {
            let rows = ledger::arguments(house.root.path(), TOOL);
            (rows.len() == 2).then_some(rows)
        });
        let seen = json!({
            "text": "well",
            "card": {"number": "(hidden)", "holder": "seen"},
            "items": [{"a/b": "(hidden)"}, {"a/b": "(hidden)"}],
            "chain": {"below": {"below": {"pin": "(hidden)"}}, "pin": "(hidden)"},
            "codes": ["(hidden)"]
        });
        for row in &rows {
            assert!(!row.contains(NEEDLE), "{durability}, {captured}: {row}");
        }
        let first: Value = serde_json::from_str(&rows[0]).expect("JSON");
        match captured {
            "full" => assert_eq!(first, seen, "{durability}"),
            "redacted" => assert_eq!(first["card"], seen["card"], "{durability}"),
            _ => assert_eq!(first["card"]["number"], "string"),
        }
        let list: Value =
            serde_json::from_str(&history(&house, &["list", "--json", "--tool", TOOL])).expect("JSON");
        let calls = list["calls"].as_array().expect("a list");
        assert_eq!(calls.len(), 2, "{list}");
        for call in calls {
            let shown = history(&house, &["show", call["call_id"].as_str().expect("an id")]);
            assert!(shown.contains("card") && !shown.contains(NEEDLE), "{durability}, {captured}: {shown}");
        }
        assert!(!history(&house, &["export", "--rows"]).contains(NEEDLE));
        assert_eq!(files_with_needle(&house), Vec::<String>::new(), "{durability}, {captured}");
    }
}

#[test]
fn a_pointer_that_is_none_is_refused_with_its_file_and_field_and_the_others_are_served() {
    let house = House::with(&[]);
    house.describe("pays", &hostile("secretive", "[tools.say]\nredact = [\"card.number\"]"));
    let report = house.reload().to_string();
    for part in ["pays.toml:4", "tools.say.redact", "card.number", "no JSON pointer"] {
        assert!(report.contains(part), "{part} in {report}");
    }
    house.neighbour_is_well();
    for (rows, pointer) in ["/card/number", "/card/holder"].into_iter().enumerate() {
        house.describe("pays", &hostile("secretive", &format!("[tools.say]\nredact = [{pointer:?}]")));
        house.reload();
        house.is_ready("pays");
        house.says(TOOL, json!({"card": {"number": 1, "holder": 2}}));
        let recorded = eventually("the call is recorded", || {
            let recorded = ledger::arguments(house.root.path(), TOOL);
            (recorded.len() > rows).then_some(recorded)
        });
        let last: Value = serde_json::from_str(&recorded[rows]).expect("JSON");
        assert_eq!(
            last.pointer(pointer),
            Some(&json!("(hidden)")),
            "what was changed holds from then on: {last}"
        );
    }
}
