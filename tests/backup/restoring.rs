//! The way back, when nothing cuts it off.

use std::fs;

use serde_json::json;

use crate::places::{Home, files_of};
use crate::support::Server;

#[test]
fn a_restore_brings_all_back_and_keeps_what_was_there() {
    let home = Home::filled("old");
    let (calls, files) = (home.calls(), home.files());
    home.backup();
    home.fill("new");
    assert!(home.calls() != calls && home.files() != files);
    let newer = home.files();
    let (code, why) = home.refused(&["backup", "restore", "latest"]);
    assert!(code == 2 && why.contains("--yes"), "{code} {why}");
    let restored = home.json(&["backup", "restore", "latest", "--yes"]);
    assert_eq!(home.calls(), calls);
    let without_env = |files: &[(String, String)]| {
        files.iter().filter(|(name, _)| !name.ends_with(".env")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(without_env(&home.files()), without_env(&files));
    let kept = std::path::PathBuf::from(restored["kept"].as_str().unwrap());
    let kept_files = files_of(&[kept.join("config"), kept.join("plugins")], &[]);
    assert_eq!(kept_files, without_env(&newer));
    assert!(kept.join("data/waygate.db").exists());
    assert_eq!(home.litter(), [""; 0]);
}

#[test]
fn a_part_can_be_restored_alone() {
    let home = Home::filled("old");
    let (calls, files) = (home.calls(), home.files());
    home.backup();
    home.fill("new");
    home.said(&["backup", "restore", "latest", "--yes", "--only", "plugins"]);
    let of = |files: &[(String, String)], folder: &str| {
        files.iter().filter(|(name, _)| name.starts_with(folder)).cloned().collect::<Vec<_>>()
    };
    assert_eq!(of(&home.files(), "plugins"), of(&files, "plugins"));
    assert!(of(&home.files(), "config") != of(&files, "config") && home.calls() != calls);
    home.said(&["backup", "restore", "latest", "--yes", "--only", "config"]);
    assert_eq!(of(&home.files(), "config"), of(&files, "config"));
    assert!(home.calls() != calls);
    home.said(&["backup", "restore", "latest", "--yes", "--only", "database"]);
    assert_eq!(home.calls(), calls);
    assert_eq!(home.litter(), [""; 0]);
}

#[test]
fn secrets_come_back_with_their_passphrase() {
    let home = Home::filled("old");
    let key = home.root().join("data/sealing.key");
    fs::write(&key, format!("{}\n", "5".repeat(64))).unwrap();
    let file = home.path().join("pass");
    fs::write(&file, "correct horse battery").unwrap();
    let pass = ["--passphrase-file", file.to_str().unwrap()];
    home.said(&[&["backup", "create"], &pass[..]].concat());
    let env = fs::read_to_string(home.path().join(".env")).unwrap();
    home.fill("new");
    fs::write(&key, format!("{}\n", "6".repeat(64))).unwrap();
    // Another key is here now: the one within the secrets vouches for the rest.
    let restored = home.json(&[&["backup", "restore", "latest", "--yes"], &pass[..]].concat());
    assert_eq!(restored["authenticity"], "sealed");
    assert_eq!(fs::read_to_string(home.path().join(".env")).unwrap(), env);
    assert_eq!(fs::read_to_string(&key).unwrap().trim(), "5".repeat(64));
    // Into a place of its own, too, and there a server starts.
    let into = home.path().join("copy");
    home.said(&[&["backup", "restore", "latest", "--into", into.to_str().unwrap()], &pass[..]].concat());
    assert_eq!(fs::read_to_string(into.join(".env")).unwrap(), env);
    assert_eq!(fs::read_to_string(into.join("data/sealing.key")).unwrap().trim(), "5".repeat(64));
    fs::remove_file(into.join("plugins/both.toml")).unwrap();
    fs::set_permissions(into.join("data/sealing.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    let server = Server::on("echo", &into, &[]);
    assert_eq!(server.tool("echo", json!({"message": "hej"}))["content"][0]["text"], "hej");
}

#[test]
fn a_backup_of_another_server_is_restored_only_if_that_is_said() {
    let (home, other) = (Home::filled("here"), Home::filled("there"));
    for (place, digit) in [(&home, "1"), (&other, "2")] {
        fs::write(place.root().join("data/sealing.key"), format!("{}\n", digit.repeat(64))).unwrap();
    }
    let backup = other.backup();
    let restore = ["backup", "restore", backup.to_str().unwrap(), "--yes"];
    let before = home.calls();
    let (code, why) = home.refused(&restore);
    assert!(code == 1 && why.contains("--foreign"), "{code} {why}");
    assert_eq!(home.calls(), before);
    assert_eq!(home.json(&[&restore[..], &["--foreign"]].concat())["authenticity"], "other_key");
    assert_eq!(home.calls(), other.calls());
}

#[test]
fn a_running_server_is_refused_by_its_number() {
    let home = Home::new();
    fs::create_dir_all(home.root()).unwrap();
    let server = Server::on("echo", &home.root(), &[]);
    home.backup();
    let pid = server.child.id().to_string();
    for words in [
        &["backup", "restore", "latest", "--yes"][..],
        &["db", "reset", "--yes"],
        &["db", "vacuum"],
        &["db", "migrate", "down", "--yes"],
    ] {
        let (code, why) = home.refused(words);
        assert!(code == 75 && why.contains(&pid), "{words:?}: {code} {why}");
    }
    assert_eq!(server.tool("echo", json!({"message": "hej"}))["content"][0]["text"], "hej");
    assert_eq!(
        home.json(&["backup", "list"])["backups"].as_array().unwrap().len(),
        1,
        "no backup for nothing"
    );
    home.said(&[
        "backup",
        "restore",
        "latest",
        "--into",
        home.path().join("copy").to_str().unwrap(),
        "--foreign",
    ]);
}

#[test]
fn a_database_that_is_damaged_beyond_reading_is_restored() {
    let home = Home::filled("old");
    let calls = home.calls();
    home.backup();
    fs::write(home.database_file(), "this is no database, whoever says so".repeat(500)).unwrap();
    let (code, why) = home.refused(&["db", "check"]);
    assert!(code != 0 && why.contains("damaged"), "{why}");
    // Which keys were revoked since, nobody can tell: that they are taken again is for a person to say.
    for words in [&["backup", "restore", "latest"][..], &["backup", "restore", "latest", "--yes"]] {
        let (code, why) = home.refused(words);
        assert!(code == 1 && why.contains("--revive-keys") && why.contains("damaged"), "{code} {why}");
    }
    home.said(&["backup", "restore", "latest", "--yes", "--only", "plugins"]);
    home.said(&["backup", "restore", "latest", "--yes", "--revive-keys"]);
    assert_eq!(home.calls(), calls);
    home.said(&["db", "check"]);
    // One that is not there can have no keys that were revoked.
    fs::remove_file(home.database_file()).unwrap();
    home.said(&["backup", "restore", "latest", "--yes"]);
    assert_eq!(home.calls(), calls);
}

#[test]
fn a_folder_with_something_in_it_is_not_restored_into() {
    let home = Home::filled("old");
    home.backup();
    let (code, why) = home.refused(&["backup", "restore", "latest", "--into", home.root().to_str().unwrap()]);
    assert!(code == 1 && why.contains("not empty"), "{code} {why}");
}

/// What `keys list` says of each key.
fn standings(home: &Home) -> Vec<(String, String)> {
    let listed = home.json(&["keys", "list"]);
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let all = listed["keys"].as_array().unwrap().iter();
    all.map(|key| (text(&key["name"]), text(&key["standing"]))).collect()
}

/// Two of each, as `standings` gives them.
fn pairs<const N: usize>(of: [(&str, &str); N]) -> Vec<(String, String)> {
    of.map(|(name, status)| (name.to_owned(), status.to_owned())).to_vec()
}

/// Names and what became of them.
fn ended(keys: &serde_json::Value) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let ended = keys["ended"].as_array().unwrap().iter();
    ended.map(|key| (text(&key["name"]), text(&key["since"]))).collect()
}

/// A home whose keys changed after its backup.
fn with_keys_that_ended(home: Home) -> Home {
    for name in ["kept", "leaked", "forgotten", "old"] {
        home.said(&["keys", "create", name]);
    }
    home.backup();
    home.said(&["keys", "revoke", "leaked"]);
    home.said(&["keys", "delete", "forgotten"]);
    home.said(&["keys", "rotate", "old", "--grace", "0"]);
    home.said(&["keys", "create", "made since"]);
    home
}

/// Holds a restore to what it says of keys, whichever database it is.
pub fn keys_that_ended_stay_so(home: &Home) {
    let wanted = pairs([("leaked", "revoked"), ("forgotten", "deleted"), ("old", "replaced")]);
    // Asked first.
    let asked = home.run(&["backup", "restore", "latest", "--json"]);
    assert_eq!(asked.status.code(), Some(2));
    let told: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
    assert_eq!((ended(&told["keys"]), &told["keys"]["revived"]), (wanted.clone(), &json!(false)));
    let said = String::from_utf8(asked.stderr).unwrap();
    assert!(said.contains("\"leaked\", revoked") && said.contains("made since"), "{said}");
    // As it is done, it is said again, and it is so.
    let done = home.run(&["backup", "restore", "latest", "--yes"]);
    for said in [&done.stdout, &done.stderr].map(|said| String::from_utf8_lossy(said)) {
        assert!(said.contains("stay so") && said.contains("\"forgotten\", deleted"), "{said}");
    }
    let after = pairs([("kept", "active"), ("leaked", "revoked"), ("old", "replaced")]);
    assert_eq!(standings(home), after);
    // The same once more: what was deleted is not forgotten to be so.
    let restored = home.json(&["backup", "restore", "latest", "--yes"]);
    assert_eq!((ended(&restored["keys"]), standings(home)), (wanted.clone(), after));
    // Unless it is wanted.
    let restored = home.json(&["backup", "restore", "latest", "--yes", "--revive-keys"]);
    assert_eq!((ended(&restored["keys"]), &restored["keys"]["revived"]), (wanted, &json!(true)));
    let all = pairs([("kept", "active"), ("leaked", "active"), ("forgotten", "active"), ("old", "active")]);
    assert_eq!(standings(home), all);
}

#[test]
fn keys_that_were_revoked_since_the_backup_stay_so_and_it_is_said() {
    let home = Home::new();
    home.said(&["db", "migrate"]);
    keys_that_ended_stay_so(&with_keys_that_ended(home));
}

#[test]
#[cfg(feature = "postgres")]
fn keys_that_were_revoked_since_stay_so_on_postgresql_too() {
    let Some(url) = crate::support::postgres::schema_for("keys that ended") else { return };
    let home = Home::on(url);
    home.said(&["db", "migrate"]);
    keys_that_ended_stay_so(&with_keys_that_ended(home));
}

#[test]
#[cfg(feature = "postgres")]
fn a_key_that_is_revoked_while_postgresql_is_filled_ends_the_restore() {
    use diesel::Connection as _;
    use diesel::connection::SimpleConnection as _;
    let Some(url) = crate::support::postgres::schema_for("keys meanwhile") else { return };
    let home = Home::on(url.clone());
    home.said(&["db", "migrate"]);
    home.said(&["keys", "create", "leaked"]);
    home.backup();
    let mut other = diesel::PgConnection::establish(&url).unwrap();
    // It has begun, and nobody sees it yet: also not who looks whether keys were changed before all is swapped.
    other
        .batch_execute(
            "BEGIN; UPDATE generation SET counter = counter + 1; UPDATE api_keys SET revoked_at = now()",
        )
        .unwrap();
    let restore = home.command(&["backup", "restore", "latest", "--yes"]);
    let restore = std::thread::spawn(move || { restore }.output().unwrap());
    let waits = || {
        let query = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'generation'::regclass";
        let mut looker = diesel::PgConnection::establish(&url).unwrap();
        diesel::RunQueryDsl::execute(diesel::sql_query(query), &mut looker).unwrap() > 0
    };
    crate::support::eventually("it waits for the tables", || waits().then_some(()));
    other.batch_execute("COMMIT").unwrap();
    let output = restore.join().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("keys were changed"), "{said}");
    assert_eq!(standings(&home), pairs([("leaked", "revoked")]));
    assert_eq!(home.litter(), [""; 0]);
    home.said(&["backup", "restore", "latest", "--yes"]);
    assert_eq!(standings(&home), pairs([("leaked", "revoked")]));
}

#[test]
fn where_nobody_knows_what_became_of_keys_that_is_said() {
    let home = Home::new();
    home.said(&["db", "migrate"]);
    let home = with_keys_that_ended(home);
    let unknown = |restored: &serde_json::Value, against: &str| {
        assert_eq!(restored["keys"]["against"], against, "{restored}");
        let all = restored["keys"]["unknown"].as_array().unwrap().iter();
        all.map(|key| key["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = ["kept", "leaked", "forgotten", "old"];
    home.said(&["db", "reset", "--yes", "--no-backup"]);
    assert_eq!(unknown(&home.json(&["backup", "restore", "latest", "--yes"]), "other"), all);
    fs::write(home.database_file(), "this is no database, whoever says so".repeat(500)).unwrap();
    let restored = home.json(&["backup", "restore", "latest", "--yes", "--revive-keys"]);
    assert_eq!(unknown(&restored, "unreadable"), all);
    // Of files alone, nothing is said of keys.
    let restored = home.json(&["backup", "restore", "latest", "--yes", "--only", "plugins"]);
    assert!(restored["keys"].is_null());
}

/// Holds restores of an older backup and then of a newer one to it that nothing between is taken for what came after.
fn an_older_database_ends_no_keys(home: &Home) {
    for name in ["kept", "old"] {
        home.said(&["keys", "create", name]);
    }
    let older = home.backup();
    home.said(&["keys", "create", "made between"]);
    home.said(&["keys", "rotate", "old", "--grace", "1h"]);
    let newer = home.backup();
    let wanted = standings(home);
    let names = |keys: &serde_json::Value| {
        let all = keys["unknown"].as_array().unwrap().iter();
        all.map(|key| key["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let restore =
        |backup: &std::path::Path| home.json(&["backup", "restore", backup.to_str().unwrap(), "--yes"]);
    home.said(&["backup", "restore", older.to_str().unwrap(), "--yes", "--revive-keys"]);
    assert_eq!(standings(home), pairs([("kept", "active"), ("old", "active")]));
    // More is done there than was done since, which proves nothing.
    for name in ["x", "y", "z"] {
        home.said(&["keys", "create", name]);
    }
    let restored = restore(&newer);
    assert_eq!((ended(&restored["keys"]), standings(home)), (vec![], wanted.clone()));
    assert_eq!(names(&restored["keys"]), ["made between", "old"]);
    // Here it is known what became of them.
    home.said(&["keys", "delete", "made between"]);
    let restored = restore(&newer);
    assert_eq!(ended(&restored["keys"]), pairs([("made between", "deleted")]));
    let left = wanted.into_iter().filter(|(name, _)| name != "made between").collect::<Vec<_>>();
    assert_eq!(standings(home), left);
    assert!(left.contains(&("old".to_owned(), "leaving".to_owned())), "{left:?}");
}

#[test]
fn a_key_that_an_older_database_does_not_know_is_not_taken_for_deleted_nor_its_grace_put_off() {
    let home = Home::new();
    home.said(&["db", "migrate"]);
    an_older_database_ends_no_keys(&home);
}

#[test]
#[cfg(feature = "postgres")]
fn nor_is_it_on_postgresql() {
    let Some(url) = crate::support::postgres::schema_for("older keys") else { return };
    let home = Home::on(url);
    home.said(&["db", "migrate"]);
    an_older_database_ends_no_keys(&home);
}

#[test]
fn keys_that_were_revoked_stay_so_where_a_server_was_killed_while_it_put_the_database_back() {
    let home = Home::new();
    home.said(&["db", "migrate"]);
    home.said(&["keys", "create", "leaked"]);
    home.backup();
    home.said(&["keys", "revoke", "leaked"]);
    let file = home.root().join("data/waygate.db");
    let left = |end: &str| std::path::PathBuf::from(format!("{}{end}", file.display()));
    std::fs::rename(&file, left(".putback")).unwrap();
    home.said(&["backup", "restore", "latest", "--yes"]);
    assert_eq!(standings(&home), pairs([("leaked", "revoked")]));
    std::fs::rename(&file, left(".putback-part")).unwrap();
    let (code, why) = home.refused(&["backup", "restore", "latest", "--yes"]);
    assert!(code == 1 && why.contains("--revive-keys") && left(".putback-part").exists(), "{code} {why}");
    home.said(&["backup", "restore", "latest", "--yes", "--revive-keys"]);
    assert_eq!(standings(&home), pairs([("leaked", "active")]));
}

#[test]
fn keys_that_were_revoked_stay_so_in_a_database_of_a_newer_version() {
    let home = Home::new();
    home.said(&["db", "migrate"]);
    home.said(&["keys", "create", "leaked"]);
    home.backup();
    home.said(&["keys", "revoke", "leaked"]);
    home.sql("INSERT INTO __diesel_schema_migrations (version) VALUES ('99999999999999')");
    home.said(&["backup", "restore", "latest", "--yes"]);
    assert_eq!(standings(&home), pairs([("leaked", "revoked")]));
    // One whose keys are not read so is no reason to take them.
    home.sql("ALTER TABLE api_keys RENAME TO elsewhere");
    let (code, why) = home.refused(&["backup", "restore", "latest", "--yes"]);
    assert!(code == 1 && why.contains("--revive-keys"), "{code} {why}");
}
