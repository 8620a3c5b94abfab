//! Finding and reading the files of the configuration. Must not know settings, except where the folder of files is said.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::faults::Faults;
use super::layers::Variables;

/// A file of configuration is never larger.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// Where the system shows what a process was given open.
const GIVEN: [&str; 4] = ["/dev/fd", "/dev/stdin", "/proc/self/fd", "/proc/thread-self/fd"];

/// Reads a file of text: what all files of configuration go through, of settings, variables, secrets and plugins.
///
/// # Errors
/// Why not, as the end of a sentence that names the path.
pub fn read(path: &Path) -> Result<String, String> {
    let kind = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
        std::io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => format!("it cannot be read ({error})"),
    };
    let about = std::fs::metadata(path).map_err(kind)?;
    if about.is_dir() {
        return Err("it is a folder".to_owned());
    }
    // Nobody's variables, said by name.
    if path == Path::new("/dev/null") {
        return Ok(String::new());
    }
    // Opening a pipe would wait for whoever writes to it, and a device may have no end: but for what this process was given open, as by
    // `<(…)` of a shell, which nobody finds by chance.
    let is_given = about.file_type().is_fifo() && GIVEN.iter().any(|folder| path.starts_with(folder));
    if !about.is_file() && !is_given {
        return Err("it is no file, but a pipe, a socket or a device".to_owned());
    }
    let mut text = String::new();
    // What a file system says of a length is not always so, as of those under /proc.
    let read = File::open(path).and_then(|file| file.take(FILE_MAX_BYTES + 1).read_to_string(&mut text));
    match read {
        Ok(count) if count as u64 > FILE_MAX_BYTES => {
            Err(format!("it is larger than {FILE_MAX_BYTES} bytes"))
        }
        Ok(_) => Ok(text),
        Err(error) => Err(kind(error)),
    }
}

/// Bits of its mode that a file with secrets must not have: it is its owner's alone. One that root gave to a group is how a service
/// reads what it must not write, and the group may read it.
pub fn forbidden_mode(about: &Metadata) -> u32 {
    if about.uid() == 0 && about.gid() != 0 { 0o027 } else { 0o077 }
}

/// Whether others than those who should may read the file.
pub fn is_open_to_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|about| about.mode() & forbidden_mode(&about) != 0)
}

/// Where the folder of TOML files may be.
#[derive(Debug)]
pub struct Places<'a> {
    /// Said by the operator: the path and where it was said.
    pub said: Option<(PathBuf, String)>,
    /// The data root, whose `config` is looked at.
    pub data_root: Option<&'a Path>,
    /// `/etc/waygate`.
    pub system_folder: &'a Path,
    /// Its `config` is looked at when it is our own source folder.
    pub working_folder: &'a Path,
}

/// The folder of TOML files, if there is one.
pub fn folder(places: &Places<'_>, faults: &mut Faults) -> Option<PathBuf> {
    if let Some((said, place)) = &places.said {
        let path = places.working_folder.join(said);
        if !path.is_dir() {
            faults.add(place, format!("{} is not a folder; name the folder of default.toml", path.display()));
            return None;
        }
        return Some(path);
    }
    let of_data = places.data_root.map(|root| root.join("config"));
    let of_source = is_our_source(places.working_folder).then(|| places.working_folder.join("config"));
    let candidates = [of_data, Some(places.system_folder.to_owned()), of_source].into_iter().flatten();
    candidates.into_iter().find(|path| holds_toml(path, faults))
}

/// Whether there is anything to read: an empty folder hides none that come after it.
fn holds_toml(folder: &Path, faults: &mut Faults) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    match std::fs::read_dir(folder) {
        Ok(entries) => {
            entries.flatten().any(|entry| entry.path().extension().is_some_and(|end| end == "toml"))
        }
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => false,
        Err(error) => {
            let sentence =
                format!("the folder cannot be looked into ({error}); let this user read it, or remove it");
            faults.add(folder.display().to_string(), sentence);
            false
        }
    }
}

/// Whether `folder` holds the source of Waygate: the `config` of any other project is none of our business.
fn is_our_source(folder: &Path) -> bool {
    let manifest = read(&folder.join("Cargo.toml")).ok().and_then(|text| text.parse::<toml::Table>().ok());
    let name = manifest.as_ref().and_then(|manifest| manifest.get("package")?.get("name")?.as_str());
    name == Some("waygate-mcp")
}

/// Our variables in the text of a `.env` file, called `name` in places; other lines are other programs' business.
///
/// `NAME=value`, with or without `export`; double quotes know `\n`, `\"` and `\\`, single quotes nothing; without
/// quotes, a ` #` begins a comment. Nothing is expanded.
pub fn variables(name: &str, text: &str, faults: &mut Faults) -> Variables {
    let mut found = Variables::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        if !line.starts_with("WAYGATE_") {
            continue;
        }
        let place = format!("{name}:{}", number + 1);
        let Some((variable, value)) = line.split_once('=') else {
            faults.add(place, "the line has no `=`; write NAME=value");
            continue;
        };
        let variable = variable.trim_end();
        if found.iter().any(|(earlier, ..)| earlier == variable) {
            faults.add(place, format!("{variable} stands twice in this file; remove one"));
            continue;
        }
        match unquote(value.trim()) {
            Ok(value) => found.push((variable.to_owned(), value, place)),
            Err(sentence) => faults.add(place, sentence),
        }
    }
    found
}

fn unquote(text: &str) -> Result<String, String> {
    let mut rest = text.chars();
    let Some(quote) = rest.next().filter(|first| matches!(first, '"' | '\'')) else {
        let end = if text.starts_with('#') { 0 } else { text.find(" #").unwrap_or(text.len()) };
        return Ok(text.get(..end).unwrap_or_default().trim_end().to_owned());
    };
    let mut value = String::new();
    while let Some(char) = rest.next() {
        match char {
            '\\' if quote == '"' => match rest.next() {
                Some('n') => value.push('\n'),
                Some(other @ ('"' | '\\' | '$')) => value.push(other),
                _ => {
                    return Err(
                        "within double quotes, a backslash stands before n, \", $ or \\ only".to_owned()
                    );
                }
            },
            _ if char == quote => {
                let rest = rest.as_str().trim();
                let ends = rest.is_empty() || rest.starts_with('#');
                return if ends {
                    Ok(value)
                } else {
                    Err("something stands after the closing quote".to_owned())
                };
            }
            _ => value.push(char),
        }
    }
    Err(format!("the closing {quote} is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_secrets_is_its_owners_alone_unless_root_gave_it_to_a_group() {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("waygate.env");
        std::fs::write(&path, "").unwrap();
        let is_open = |mode: u32| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            is_open_to_others(&path)
        };
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(0), Some(7)).unwrap();
            assert_eq!([0o600, 0o640, 0o660, 0o644].map(is_open), [false, false, true, true]);
            chown(&path, Some(7), Some(7)).unwrap();
        }
        assert_eq!([0o600, 0o640, 0o604].map(is_open), [false, true, true]);
    }

    #[test]
    fn what_is_no_file_is_not_opened_and_what_is_too_large_not_read_to_its_end() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        mknodat(CWD, path("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        std::os::unix::fs::symlink("/dev/zero", path("endless")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        for name in ["pipe", "endless", "socket"] {
            assert!(read(&path(name)).unwrap_err().contains("no file"), "{name}");
        }
        std::fs::write(path("large"), vec![b'#'; FILE_MAX_BYTES as usize + 1]).unwrap();
        assert!(read(&path("large")).unwrap_err().contains("larger than"));
        std::fs::write(path("full"), vec![b'#'; FILE_MAX_BYTES as usize]).unwrap();
        assert_eq!(read(&path("full")).unwrap().len() as u64, FILE_MAX_BYTES);
        assert_eq!(read(folder.path()).unwrap_err(), "it is a folder");
    }

    #[test]
    fn lines_of_an_env_file_are_read_as_a_shell_would_and_others_ignored() {
        let text = "# comment\nPATH=x\nWAYGATE_A=plain # why\n export WAYGATE_B = \"a\\\"b#c\" # why\n\
                    WAYGATE_C='$x \\n'\nWAYGATE_D=\nWAYGATE_E=a#b\nWAYGATE_F=  # nothing\r\n";
        let mut faults = Faults::default();
        let found = variables(".env", text, &mut faults);
        let pairs: Vec<(&str, &str)> =
            found.iter().map(|(name, value, _)| (name.as_str(), value.as_str())).collect();
        let wanted = [
            ("WAYGATE_A", "plain"),
            ("WAYGATE_B", "a\"b#c"),
            ("WAYGATE_C", "$x \\n"),
            ("WAYGATE_D", ""),
            ("WAYGATE_E", "a#b"),
            ("WAYGATE_F", ""),
        ];
        assert_eq!(pairs, wanted);
        assert_eq!(found[1].2, ".env:4");
        assert!(faults.is_empty(), "{faults}");
    }

    #[test]
    fn bad_lines_of_an_env_file_are_named_by_their_number() {
        let text = "WAYGATE_A\nWAYGATE_B=\"open\nWAYGATE_C='x'y\nWAYGATE_D=1\nWAYGATE_D=2\n";
        let mut faults = Faults::default();
        variables("e", text, &mut faults);
        let places: Vec<&str> = faults.iter().map(|fault| fault.place.as_str()).collect();
        assert_eq!(places, ["e:1", "e:2", "e:3", "e:5"]);
    }
}
