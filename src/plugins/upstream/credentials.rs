//! Credentials of a plugin's file, looked up: `${VAR}` within a text, `env:NAME`, `file:PATH`. Done at each start and
//! restart, so that what was renewed is read anew.
//!
//! Errors name the place, the variable or the file, never a value. Must not know what a credential is for.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::hash::{Hash as _, Hasher};
use std::io::Read as _;
use std::path::Path;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};

use crate::config::Secret;
use crate::config::plugin::{Credential, Piece, Reach};

/// The largest file that is a credential.
const FILE_MAX_BYTES: u64 = 64 * 1024;
/// How much of a file of certificates is looked at to see whether it changed.
const CERTIFICATES_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Why a credential cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {trouble}")]
pub struct CredentialError {
    /// Which credential, as `headers.Authorization`.
    pub place: String,
    /// What is wrong, and what to do.
    pub trouble: String,
}

/// Looks up one credential. `place` is where it stands in the file, as `env.TOKEN`.
///
/// # Errors
/// A variable that is not set or is Waygate's own, a file that cannot be read, braces that do not close.
pub fn resolve(credential: &Credential, place: &str) -> Result<Secret, CredentialError> {
    resolve_with(credential, place, &|name| std::env::var_os(name))
}

/// Looks up all of a table, such as `env`.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_all(
    table: &BTreeMap<String, Credential>,
    place: &str,
) -> Result<BTreeMap<String, Secret>, CredentialError> {
    table
        .iter()
        .map(|(name, credential)| Ok((name.clone(), resolve(credential, &format!("{place}.{name}"))?)))
        .collect()
}

/// Looks up the headers of a plugin. Their values are marked as sensitive.
///
/// # Errors
/// As [`resolve`], and what cannot be a header.
pub fn headers(table: &BTreeMap<String, Credential>) -> Result<HeaderMap, CredentialError> {
    let mut headers = HeaderMap::with_capacity(table.len());
    for (name, credential) in table {
        let place = format!("headers.{name}");
        let secret = resolve(credential, &place)?;
        let refused = |trouble: &str| CredentialError { place: place.clone(), trouble: trouble.to_owned() };
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| refused("this is no name of a header: use letters, digits and hyphens"))?;
        let mut value = HeaderValue::from_str(secret.expose().trim()).map_err(|_| {
            refused("its value has characters that no header may have, such as line ends or letters that are not ASCII")
        })?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// What the credentials and certificates of a plugin come to, as a number: another number means that something is another,
/// or was renewed. It is the same in every process, and not to be shown. Reads files.
pub type Fingerprint = [u8; 32];

/// See [`Fingerprint`].
pub fn fingerprint(reach: &Reach) -> Fingerprint {
    let mut hasher = Digesting(Sha256::new());
    let (table, tls) = match reach {
        Reach::Stdio(reach) => (&reach.env, None),
        Reach::Http(reach) => (&reach.headers, Some(&reach.tls)),
    };
    for (name, credential) in table {
        name.hash(&mut hasher);
        match resolve(credential, name) {
            Ok(secret) => secret.expose().hash(&mut hasher),
            Err(error) => error.trouble.hash(&mut hasher),
        }
    }
    for path in tls.into_iter().flat_map(|tls| [&tls.ca, &tls.cert, &tls.key]) {
        path.as_deref().map(|path| plain_file(path, CERTIFICATES_MAX_BYTES)).hash(&mut hasher);
    }
    hasher.0.finalize().into()
}

/// Takes in what can be hashed.
struct Digesting(Sha256);

impl Hasher for Digesting {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Nobody asks for so little of it.
    fn finish(&self) -> u64 {
        0
    }
}

type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

fn resolve_with(credential: &Credential, place: &str, lookup: Lookup<'_>) -> Result<Secret, CredentialError> {
    let whole = || {
        let mut whole = String::new();
        for piece in credential.pieces()? {
            match piece {
                Piece::Text(text) => whole.push_str(text),
                // What is put in is not looked through again.
                Piece::Variable(name) => whole.push_str(&variable(name, lookup)?),
                Piece::File(path) => whole.push_str(&file(path)?),
            }
        }
        Ok(whole)
    };
    whole().map(Secret::new).map_err(|trouble| CredentialError { place: place.to_owned(), trouble })
}

fn variable(name: &str, lookup: Lookup<'_>) -> Result<String, String> {
    let value = lookup(name)
        .ok_or_else(|| format!("the variable {name} is not set: set it where Waygate is started"))?;
    value.into_string().map_err(|_| format!("the variable {name} is not UTF-8"))
}

fn file(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let bytes = plain_file(path, FILE_MAX_BYTES)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_MAX_BYTES {
        return Err(format!(
            "the file {shown} has more than {FILE_MAX_BYTES} bytes: it is hardly a credential"
        ));
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("the file {shown} is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// The beginning of a file, one byte longer than `bytes_max` where there is more.
fn plain_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| format!("the file {shown} cannot be read: {error}");
    // Opening a pipe would make the start wait for somebody who writes to it.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(format!("{shown} is not a plain file"));
    }
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Result<String, String> {
        let lookup = |name: &str| match name {
            "TOKEN" => Some(OsString::from("s3cret")),
            "NESTED" => Some(OsString::from("${TOKEN}")),
            "WAYGATE_API_KEY" => Some(OsString::from("never")),
            _ => None,
        };
        resolve_with(&Credential(text.into()), "headers.Authorization", &lookup)
            .map(|secret| secret.expose().to_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn each_form_gives_its_value() {
        for (text, wanted) in [
            ("plain", "plain"),
            ("Bearer ${TOKEN}", "Bearer s3cret"),
            ("${TOKEN}:${TOKEN}!", "s3cret:s3cret!"),
            ("env:TOKEN", "s3cret"),
            ("${NESTED}", "${TOKEN}"),
            ("$TOKEN", "$TOKEN"),
            ("", ""),
        ] {
            assert_eq!(resolved(text).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_had_is_named_but_never_shown() {
        for (text, says) in [
            ("${ABSENT}", "headers.Authorization: the variable ABSENT is not set"),
            ("env:ABSENT", "the variable ABSENT is not set"),
            ("${TOKEN", "no } closes"),
            ("env:s3 cret", "no name of a variable"),
            ("${}", "no name of a variable"),
            ("${WAYGATE_API_KEY}", "Waygate's own"),
            ("env:waygate_x", "Waygate's own"),
            ("file:relative", "whole path"),
            ("file:/does/not/exist", "/does/not/exist cannot be read"),
            ("file:/", "not a plain file"),
        ] {
            let error = resolved(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
            assert!(!error.contains("s3") && !error.contains("never"), "{error}");
        }
    }

    #[test]
    fn a_file_is_taken_whole_without_its_last_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let text = format!("file:{}", path.display());
        for (content, wanted) in [("a\nb\n", "a\nb"), ("a\r\n", "a"), ("a", "a"), ("a\n\n", "a\n")] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(resolved(&text).as_deref(), Ok(wanted), "{content:?}");
        }
        std::fs::write(&path, vec![b'a'; 64 * 1024 + 1]).unwrap();
        assert!(resolved(&text).unwrap_err().contains("more than 65536 bytes"));
    }

    #[test]
    fn headers_are_marked_and_what_cannot_be_one_is_refused() {
        let table =
            |name: &str, value: &str| BTreeMap::from([(name.to_owned(), Credential(value.to_owned()))]);
        let map = headers(&table("X-Key", "abc")).unwrap();
        assert!(map["x-key"] == "abc" && map["x-key"].is_sensitive());
        let error = headers(&table("X Key", "abc")).unwrap_err().to_string();
        assert!(error.contains("headers.X Key") && !error.contains("abc"), "{error}");
        let error = headers(&table("X-Key", "a\nbc")).unwrap_err().to_string();
        assert!(error.contains("headers.X-Key") && !error.contains("bc"), "{error}");
    }
}
