//! Archives that somebody cut off, changed or made up: each is refused before anything is touched.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use crate::places::Home;

/// One entry of a tar in the making.
struct Piece {
    name: String,
    kind: EntryType,
    link: Option<String>,
    bytes: Vec<u8>,
    /// What its header says, where that is not how long it is.
    claims: Option<u64>,
}

impl Piece {
    fn file(name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.to_owned(),
            kind: EntryType::Regular,
            link: None,
            bytes: bytes.into(),
            claims: None,
        }
    }
}

/// What is in an archive.
fn unpacked(path: &Path) -> Vec<Piece> {
    let raw = zstd::decode_all(&fs::read(path).unwrap()[..]).unwrap();
    let mut tar = tar::Archive::new(&raw[..]);
    let entries = tar.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        Piece::file(&name, bytes)
    });
    entries.collect()
}

/// Writes an archive of any pieces, whatever they are.
fn pack(path: &Path, pieces: &[Piece]) {
    let file = fs::File::create(path).unwrap();
    let mut encoder = zstd::Encoder::new(file, 1).unwrap();
    for piece in pieces {
        let mut header = Header::new_gnu();
        // Written by hand: the crate refuses names that lead elsewhere.
        let name = piece.name.as_bytes();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(piece.kind);
        header.set_mode(0o600);
        header.set_size(piece.claims.unwrap_or(piece.bytes.len() as u64));
        if let Some(link) = &piece.link {
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        }
        header.set_cksum();
        encoder.write_all(header.as_bytes()).unwrap();
        encoder.write_all(&piece.bytes).unwrap();
        let rest = piece.bytes.len() % 512;
        encoder.write_all(&vec![0; if rest == 0 { 0 } else { 512 - rest }]).unwrap();
    }
    encoder.write_all(&[0; 1024]).unwrap();
    encoder.finish().unwrap();
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Changes the manifest of an archive and nothing else; it bears no seal then.
fn with_manifest(pieces: &mut Vec<Piece>, change: impl FnOnce(&mut Value)) {
    pieces.retain(|piece| piece.name != "manifest.seal");
    let mut manifest: Value = serde_json::from_slice(&pieces[0].bytes).unwrap();
    manifest["sealed_by"] = Value::Null;
    change(&mut manifest);
    pieces[0].bytes = manifest.to_string().into_bytes();
}

struct Bench {
    home: Home,
    archive: PathBuf,
    hostile: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let home = Home::filled("a");
        fs::write(home.root().join("data/sealing.key"), format!("{}\n", "5".repeat(64))).unwrap();
        let archive = home.backup();
        let hostile = home.path().join("hostile.tar.zst");
        Self { home, archive, hostile }
    }

    /// Both who looks and who restores must refuse, and nothing may be touched.
    #[track_caller]
    fn refused(&self, what: &str) -> String {
        let before = (self.home.calls(), self.home.files(), fs::read_dir(self.home.root()).unwrap().count());
        let path = self.hostile.to_str().unwrap();
        let into = self.home.path().join("into");
        let (code, verify) = self.home.refused(&["backup", "verify", path]);
        assert!(code == 1, "{what}: {code} {verify}");
        let (code, restore) = self.home.refused(&["backup", "restore", path, "--yes", "--foreign"]);
        assert!(code == 1, "{what}: {code} {restore}");
        let aside = ["backup", "restore", path, "--foreign", "--into", into.to_str().unwrap()];
        assert_eq!(self.home.refused(&aside).0, 1, "{what}");
        assert!(!into.exists(), "{what}");
        let after = (self.home.calls(), self.home.files(), fs::read_dir(self.home.root()).unwrap().count());
        assert_eq!(before, after, "{what}");
        assert_eq!(self.home.litter(), [""; 0], "{what}");
        verify
    }
}

#[test]
fn an_archive_that_is_cut_off_is_refused_wherever_it_is() {
    let bench = Bench::new();
    let whole = fs::read(&bench.archive).unwrap();
    let lengths =
        [0, 1, 4, 100, whole.len() / 3, whole.len() / 2, whole.len() - 100, whole.len() - 5, whole.len() - 1];
    for length in lengths {
        fs::write(&bench.hostile, &whole[..length]).unwrap();
        bench.refused(&format!("{length} of {} bytes", whole.len()));
    }
    fs::write(&bench.hostile, [&whole[..], b"more"].concat()).unwrap();
    bench.refused("more behind it");
    // Cut between two entries, and closed as a whole archive is.
    let mut pieces = unpacked(&bench.archive);
    drop(pieces.pop());
    pack(&bench.hostile, &pieces);
    bench.refused("without its last entry");
}

#[test]
fn a_changed_byte_is_found_in_every_entry() {
    let bench = Bench::new();
    let whole = fs::read(&bench.archive).unwrap();
    for at in [0, 8, whole.len() / 4, whole.len() / 2, whole.len() - 2] {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        fs::write(&bench.hostile, changed).unwrap();
        bench.refused(&format!("byte {at}"));
    }
    // Under a compression that is whole again.
    for number in 0..unpacked(&bench.archive).len() {
        let mut pieces = unpacked(&bench.archive);
        let middle = pieces[number].bytes.len() / 2;
        pieces[number].bytes[middle] ^= 1;
        pack(&bench.hostile, &pieces);
        bench.refused(&pieces[number].name);
    }
}

#[test]
fn a_manifest_that_was_edited_does_not_bear_its_seal() {
    let bench = Bench::new();
    let mut pieces = unpacked(&bench.archive);
    let text = String::from_utf8(pieces[0].bytes.clone()).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    pieces[0].bytes = text.replacen(version, &"9".repeat(version.len()), 1).into_bytes();
    assert_ne!(pieces[0].bytes, text.as_bytes());
    pack(&bench.hostile, &pieces);
    assert!(bench.refused("another version").contains("seal"), "it was changed");
    // Contents and manifest changed together, so that they fit: only the seal tells.
    let mut pieces = unpacked(&bench.archive);
    let last = pieces.len() - 1;
    pieces[last].bytes = b"command = \"evil\"\n".to_vec();
    let bytes = pieces[last].bytes.clone();
    let mut manifest: Value = serde_json::from_slice(&pieces[0].bytes).unwrap();
    let entry = manifest["entries"].as_array_mut().unwrap().last_mut().unwrap();
    (entry["bytes"], entry["sha256"]) = (json!(bytes.len()), json!(hash(&bytes)));
    pieces[0].bytes = manifest.to_string().into_bytes();
    pack(&bench.hostile, &pieces);
    assert!(bench.refused("another plugin").contains("seal"));
    // Whoever takes the seal away as well is found by its absence.
    with_manifest(&mut pieces, |_| ());
    pack(&bench.hostile, &pieces);
    let path = bench.hostile.to_str().unwrap();
    let (code, why) = bench.home.refused(&["backup", "restore", path, "--yes"]);
    assert!(code == 1 && why.contains("bears no seal"), "{code} {why}");
}

#[test]
fn an_archive_of_a_newer_version_is_refused_as_that() {
    let bench = Bench::new();
    let mut pieces = unpacked(&bench.archive);
    with_manifest(&mut pieces, |manifest| {
        (manifest["format"], manifest["version"], manifest["novelty"]) =
            (json!(2), json!("9.0.0"), json!({}));
    });
    pack(&bench.hostile, &pieces);
    assert!(bench.refused("a newer form").contains("newer version of Waygate (9.0.0)"));
}

#[test]
fn names_and_kinds_that_no_backup_has_lead_nowhere() {
    let bench = Bench::new();
    let lure = bench.home.path().join("lure");
    for name in
        ["../../lure", lure.to_str().unwrap(), "config/../../../lure", "plugins/x.sh", "data/sealing.key"]
    {
        // Listed as well as slipped in.
        let mut pieces = unpacked(&bench.archive);
        pieces.push(Piece::file(name, *b"lure"));
        pack(&bench.hostile, &pieces);
        bench.refused(&format!("{name} slipped in"));
        with_manifest(&mut pieces, |manifest| {
            let entry = json!({"name": name, "bytes": 4, "sha256": hash(b"lure")});
            manifest["entries"].as_array_mut().unwrap().push(entry);
        });
        pack(&bench.hostile, &pieces);
        bench.refused(&format!("{name} listed"));
        assert!(!lure.exists());
    }
    let kinds = [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Directory,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::GNUSparse,
        EntryType::GNULongName,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
    ];
    for kind in kinds {
        let mut pieces = unpacked(&bench.archive);
        let last = pieces.len() - 1;
        pieces[last].kind = kind;
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            pieces[last].link = Some(lure.to_str().unwrap().to_owned());
        }
        pack(&bench.hostile, &pieces);
        bench.refused(&format!("{kind:?}"));
    }
}

#[test]
fn bombs_do_not_go_off() {
    let bench = Bench::new();
    let sizes = |claims: u64, listed: u64| {
        let mut pieces = unpacked(&bench.archive);
        let at = pieces.iter().position(|piece| piece.name == "database.sqlite").unwrap();
        pieces[at].claims = Some(claims);
        with_manifest(&mut pieces, |manifest| manifest["entries"][0]["bytes"] = json!(listed));
        pack(&bench.hostile, &pieces);
    };
    // More than the manifest says, and more than any disk has.
    sizes(10 << 30, 1 << 20);
    bench.refused("an entry that is larger than it says");
    sizes(1 << 60, 1 << 60);
    let (code, why) = bench.home.refused(&["backup", "verify", bench.hostile.to_str().unwrap()]);
    assert!(code == 73 && why.contains("not enough room"), "{code} {why}");
    // A manifest, a name and a file of the configuration that would fill the memory.
    let zeros = vec![0; 64 << 20];
    pack(&bench.hostile, &[Piece::file("manifest.json", zeros.clone())]);
    bench.refused("a manifest of 64 MiB");
    pack(&bench.hostile, &[Piece { kind: EntryType::GNULongName, ..Piece::file("x", zeros.clone()) }]);
    bench.refused("a name of 64 MiB");
    let mut pieces = unpacked(&bench.archive);
    pieces.push(Piece::file("plugins/z.toml", zeros.clone()));
    with_manifest(&mut pieces, |manifest| {
        let entry = json!({"name": "plugins/z.toml", "bytes": zeros.len(), "sha256": hash(&zeros)});
        manifest["entries"].as_array_mut().unwrap().push(entry);
    });
    pack(&bench.hostile, &pieces);
    bench.refused("a plugin of 64 MiB");
    fs::write(&bench.hostile, "this is no archive").unwrap();
    bench.refused("no archive");
    fs::write(&bench.hostile, zstd::encode_all(&b"nor is this"[..], 1).unwrap()).unwrap();
    bench.refused("no tar");
}

#[test]
fn a_database_that_would_do_something_by_itself_is_refused() {
    use diesel::Connection as _;
    use diesel::connection::SimpleConnection as _;
    let bench = Bench::new();
    let trigger = "CREATE TRIGGER evil AFTER INSERT ON command_history BEGIN DELETE FROM api_keys; END";
    for (what, statement) in [
        ("evil", trigger),
        ("schema", "ALTER TABLE api_keys ADD COLUMN more TEXT"),
        ("schema", "DROP VIEW command_history_calls; CREATE VIEW command_history_calls AS SELECT 1"),
        ("other rows", "DELETE FROM command_history WHERE id = 1"),
        ("cannot be used", "DROP TABLE command_history"),
    ] {
        let mut pieces = unpacked(&bench.archive);
        let at = pieces.iter().position(|piece| piece.name == "database.sqlite").unwrap();
        let file = bench.home.path().join("changed.sqlite");
        fs::write(&file, &pieces[at].bytes).unwrap();
        let mut sqlite = diesel::SqliteConnection::establish(file.to_str().unwrap()).unwrap();
        sqlite.batch_execute(statement).unwrap();
        drop(sqlite);
        let bytes = fs::read(&file).unwrap();
        with_manifest(&mut pieces, |manifest| {
            let entry = &mut manifest["entries"][0];
            (entry["bytes"], entry["sha256"]) = (json!(bytes.len()), json!(hash(&bytes)));
        });
        pieces[1].bytes = bytes;
        pack(&bench.hostile, &pieces);
        let why = bench.refused(statement);
        assert!(why.contains(what), "{statement}: {why}");
    }
}
