//! What must never be shown: finds secrets by the names they go by and by how they look, in JSON and in free text.
//!
//! Pure, and made for arguments of any size: one pass, output capped. Must not know who shows what.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

pub mod places;

pub use crate::config::MASK;

/// No redacted or shaped text is longer, in bytes.
pub const TEXT_MAX_BYTES: usize = 4096;

/// What stands where the text was cut.
const CUT: &str = "\"…\"";

/// Arguments of a call as the history may keep them: JSON whose secrets are masked. What would make it longer than
/// [`TEXT_MAX_BYTES`] is left out, and `"…"` stands in its place; the text stays valid JSON.
pub fn redact(raw: &str, extra_keys: &[String]) -> String {
    walk(raw, extra_keys, false)
}

/// The keys of arguments with the types of their values: `{"path":"string","lines":["integer"]}`. Of an array the
/// first element stands for all. Capped as [`redact`].
pub fn shape(raw: &str) -> String {
    walk(raw, &[], true)
}

/// Whether a value under this key is a secret, however the key is spelt: `api_key`, `apiKey`, `X-API-Key`.
pub fn is_secret_name(key: &str, extra_keys: &[String]) -> bool {
    /// Within the key, its separators taken out.
    const TELLTALES: [&str; 14] = [
        "password",
        "passwd",
        "passphrase",
        "passcode",
        "secret",
        "apikey",
        "accesskey",
        "privatekey",
        "signingkey",
        "sealingkey",
        "authorization",
        "cookie",
        "credential",
        "bearer",
    ];
    /// One of the key's words.
    const WORDS: [&str; 6] = ["pwd", "auth", "jwt", "otp", "pin", "token"];
    /// A token that is no secret: it counts, pages or reports.
    const HARMLESS: [&str; 8] = ["count", "limit", "budget", "usage", "type", "max", "min", "length"];
    let (words, flat) = words(key);
    let is_extra = |extra: &String| self::words(extra).1 == flat;
    // Keys are short: to compare at each place is cheaper than to set up a search for each telltale.
    let contains =
        |telltale: &str| flat.as_bytes().windows(telltale.len()).any(|part| part == telltale.as_bytes());
    if TELLTALES.iter().any(|telltale| contains(telltale)) || extra_keys.iter().any(is_extra) {
        return true;
    }
    let mut words = words.split_ascii_whitespace();
    let harmless = flat == "progresstoken" || words.clone().any(|word| HARMLESS.contains(&word));
    !harmless && (flat.ends_with("token") || words.any(|word| WORDS.contains(&word)))
}

/// The words of a key, in lower case: at separators, and where a capital follows a small letter. With blanks between them,
/// and without.
fn words(key: &str) -> (String, String) {
    let (mut words, mut flat) = (String::with_capacity(key.len() * 2), String::with_capacity(key.len()));
    let mut after_small = false;
    for char in key.chars() {
        let in_word = char.is_alphanumeric();
        if !in_word || (char.is_uppercase() && after_small) {
            words.push(' ');
        }
        after_small = char.is_lowercase() || char.is_numeric();
        if !in_word {
            continue;
        }
        // The general way is many times dearer, and nearly all keys are ASCII.
        if char.is_ascii() {
            words.push(char.to_ascii_lowercase());
            flat.push(char.to_ascii_lowercase());
        } else {
            words.extend(char.to_lowercase());
            flat.extend(char.to_lowercase());
        }
    }
    (words, flat)
}

/// Free text with what looks like a secret masked.
pub fn mask(text: &str) -> Cow<'_, str> {
    let mut masked = String::new();
    let mut from = 0;
    for secret in secrets(text) {
        masked.push_str(text.get(from..secret.start).unwrap_or_default());
        masked.push_str(MASK);
        from = secret.end;
    }
    if masked.is_empty() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(masked + text.get(from..).unwrap_or_default())
}

/// Where in free text what looks like a secret is, in order.
pub fn secrets(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let found = text.get(from..).and_then(secret_in)?;
        let secret = from + found.start..from + found.end;
        from = secret.end;
        Some(secret)
    })
}

/// Where the first secret of a text is: a bearer token, a key as well-known services make them, a JWT, a PEM block,
/// the user and password of a URL.
fn secret_in(text: &str) -> Option<Range<usize>> {
    if !may_hold_secret(text) {
        return None;
    }
    let pem = text.find('-').and_then(|_| text.find("-----BEGIN ")).map(|start| {
        let end = text.get(start + 11..).and_then(|rest| rest.find("-----END ")).map(|end| start + 11 + end);
        // An unfinished block hides all that follows.
        let end = end.and_then(|end| text.get(end + 9..)?.find("-----").map(|dashes| end + 9 + dashes + 5));
        start..end.unwrap_or(text.len())
    });
    let token = tokens(text).find_map(|token| secret_token(text, token));
    [pem, token].into_iter().flatten().min_by_key(|range| range.start)
}

/// A quick look, since most texts are plain words: a secret has a mark of a name or a URL before it, a scheme, or is a long
/// token of its own.
fn may_hold_secret(text: &str) -> bool {
    let (mut before, mut stretch) = (b' ', 0);
    text.bytes().any(|byte| {
        let ends_scheme = byte == b' ' && matches!(before, b'r' | b'R' | b'c');
        stretch = if byte <= b' ' { 0 } else { stretch + 1 };
        before = byte;
        ends_scheme || stretch >= LOOKS_MIN || matches!(byte, b'=' | b':' | b'-')
    })
}

/// The stretches of a text that tokens can be: between blanks, quotes, commas and brackets.
fn tokens(text: &str) -> impl Iterator<Item = Range<usize>> {
    let ends = |char: char| match char {
        '\0'..=' ' | '"' | '\'' | '`' | ',' | ';' | '<' | '>' | '(' | ')' | '{' | '}' => true,
        '!'..='~' => false,
        _ => char.is_whitespace() || char.is_control(),
    };
    let mut at = 0;
    text.split(ends).map(move |token| {
        let start = at;
        // Separators are found by walking the text again, for they may be longer than a byte.
        at = start + token.len();
        at += text.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        start..start + token.len()
    })
}

fn secret_token(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let token = text.get(range.clone())?;
    let value_at = token.bytes().position(|byte| matches!(byte, b'=' | b':')).map(|at| at + 1);
    // Most tokens are words, with no mark of a URL or of a name before them, and too short to follow a scheme.
    if value_at.is_none() && token.len() < CREDENTIALS_MIN {
        return None;
    }
    if let Some(userinfo) = value_at.and_then(|_| userinfo(token)) {
        return Some(range.start + userinfo.start..range.start + userinfo.end);
    }
    // `key=value` and `key:value` are looked at from the value on; the value of a secret name is one.
    let value_at = value_at.filter(|at| *at < token.len());
    let value = value_at.and_then(|at| token.get(at..)).unwrap_or(token);
    let start = range.start + value_at.unwrap_or(0);
    let named = value_at.and_then(|at| token.get(..at - 1)).is_some_and(|name| is_secret_name(name, &[]));
    let schemed = value.len() >= CREDENTIALS_MIN && follows_scheme(text, range.start);
    (named && !value.starts_with("//") || schemed || looks_secret(value))
        .then(|| start.min(range.end)..range.end)
}

/// What follows a scheme such as `Bearer` and is shorter is no secret.
const CREDENTIALS_MIN: usize = 8;

fn follows_scheme(text: &str, at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    ["Bearer ", "bearer ", "BEARER ", "Basic ", "basic "].iter().any(|scheme| before.ends_with(scheme))
}

/// The shortest token that is a secret by its looks is a JWT: header, claims and no signature.
const LOOKS_MIN: usize = "eyJ1234567.1234.".len();

/// Keys as well-known services make them, and JWTs.
fn looks_secret(token: &str) -> bool {
    const PREFIXES: [(&str, usize); 14] = [
        ("sk-", 20),
        ("sk_live_", 20),
        ("sk_test_", 20),
        ("rk_live_", 20),
        ("ghp_", 20),
        ("gho_", 20),
        ("ghs_", 20),
        ("ghu_", 20),
        ("github_pat_", 30),
        ("glpat-", 20),
        ("xoxb-", 20),
        ("xoxp-", 20),
        ("AKIA", 20),
        ("ASIA", 20),
    ];
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let prefixed = |(prefix, length): &(&str, usize)| {
        token.starts_with(prefix) && token.len() >= *length && token.bytes().all(plain)
    };
    token.len() >= LOOKS_MIN && (PREFIXES.iter().any(prefixed) || is_jwt(token))
}

fn is_jwt(token: &str) -> bool {
    let base64url =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let mut parts = token.split('.');
    let (header, claims, signature) = (parts.next(), parts.next(), parts.next());
    let long =
        |part: Option<&str>, least: usize| part.is_some_and(|part| part.len() >= least && base64url(part));
    // Every JSON object begins `{"`, and that is `eyJ` in base64.
    token.starts_with("eyJ")
        && long(header, 10)
        && long(claims, 4)
        && long(signature, 0)
        && parts.next().is_none()
}

/// Where `user:password` stands in a URL.
fn userinfo(token: &str) -> Option<Range<usize>> {
    let start = token.find("://")? + 3;
    let rest = token.get(start..)?;
    let authority = rest.get(..rest.find(['/', '?', '#']).unwrap_or(rest.len()))?;
    let end = authority.rfind('@')?;
    authority.get(..end)?.contains(':').then_some(start..start + end)
}

fn walk(raw: &str, extra_keys: &[String], shape: bool) -> String {
    let mut out =
        Out { text: String::with_capacity(raw.len().min(TEXT_MAX_BYTES)), open: Vec::new(), cut: false };
    let mut source = serde_json::Deserializer::from_str(raw);
    let seen = Seen { out: &mut out, extra_keys, shape, before: String::new() }.deserialize(&mut source);
    if seen.and_then(|()| source.end()).is_err() && !out.cut {
        // Only checked JSON is given; what is not is kept to the last byte out of sight.
        return "\"(not JSON)\"".to_owned();
    }
    out.text
}

/// The text so far, with room always left to close it.
struct Out {
    text: String,
    open: Vec<Open>,
    cut: bool,
}

/// An object or array that is not closed yet.
struct Open {
    close: char,
    empty: bool,
}

impl Out {
    /// Adds `before` and `piece`, unless that leaves no room to mark the cut and to close.
    fn add<E: serde::de::Error>(&mut self, before: &str, piece: &str) -> Result<(), E> {
        let reserve = CUT.len() * 2 + 2 + self.open.len() + 1;
        if self.text.len() + before.len() + piece.len() + reserve > TEXT_MAX_BYTES {
            self.close_all();
            return Err(E::custom("cut"));
        }
        self.text.push_str(before);
        self.text.push_str(piece);
        Ok(())
    }

    fn open<E: serde::de::Error>(&mut self, before: &str, open: &str, close: char) -> Result<(), E> {
        self.add(before, open)?;
        self.open.push(Open { close, empty: true });
        Ok(())
    }

    /// What stands before the next member of the innermost object or array.
    fn comma(&mut self) -> &'static str {
        match self.open.last_mut() {
            Some(open) if open.empty => {
                open.empty = false;
                ""
            }
            _ => ",",
        }
    }

    fn close(&mut self) {
        self.text.extend(self.open.pop().map(|open| open.close));
    }

    fn close_all(&mut self) {
        self.cut = true;
        if !self.text.is_empty() && !self.text.ends_with(['{', '[']) {
            self.text.push(',');
        }
        self.text.push_str(CUT);
        if self.open.last().is_some_and(|open| open.close == '}') {
            self.text.push(':');
            self.text.push_str(CUT);
        }
        while !self.open.is_empty() {
            self.close();
        }
    }
}

/// Walks one value and writes what may be seen of it.
struct Seen<'a> {
    out: &'a mut Out,
    extra_keys: &'a [String],
    shape: bool,
    /// Comma and key, written together with the first piece of the value, so that a cut falls between members.
    before: String,
}

impl Seen<'_> {
    fn write<E: serde::de::Error>(self, kind: &str, value: impl fmt::Display) -> Result<(), E> {
        let piece = if self.shape { format!("\"{kind}\"") } else { value.to_string() };
        self.out.add(&self.before, &piece)
    }

    fn write_text<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        if self.shape {
            return self.write("string", "");
        }
        self.out.add(&self.before, &quoted(&shown_text(text)))
    }
}

impl<'de> DeserializeSeed<'de> for Seen<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seen<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.write("null", "null")
    }
    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.write("boolean", value)
    }
    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.write("integer", value)
    }
    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.write("integer", value)
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.write("number", serde_json::Value::from(value))
    }
    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.write_text(value)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.out.open(&self.before, "[", ']')?;
        loop {
            if self.shape && self.out.open.last().is_some_and(|open| !open.empty) {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                break;
            }
            // The comma must not be taken when nothing follows: an empty array stays empty.
            let next = Element { out: &mut *self.out, extra_keys: self.extra_keys, shape: self.shape };
            if seq.next_element_seed(next)?.is_none() {
                break;
            }
        }
        self.out.close();
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.out.open(&self.before, "{", '}')?;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let before = [self.out.comma(), &quoted(&shown_text(&key)), ":"].concat();
            if !self.shape && is_secret_name(&key, self.extra_keys) {
                map.next_value::<IgnoredAny>()?;
                self.out.add(&before, &format!("\"{MASK}\""))?;
            } else {
                let (extra_keys, shape) = (self.extra_keys, self.shape);
                map.next_value_seed(Seen { out: &mut *self.out, extra_keys, shape, before })?;
            }
        }
        self.out.close();
        Ok(())
    }
}

/// An element of an array: takes its comma once it is known to be there.
struct Element<'a> {
    out: &'a mut Out,
    extra_keys: &'a [String],
    shape: bool,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let before = self.out.comma().to_owned();
        Seen { out: self.out, extra_keys: self.extra_keys, shape: self.shape, before }
            .deserialize(deserializer)
    }
}

/// A text in JSON.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte >= b' ' && !matches!(byte, b'"' | b'\\');
    if text.bytes().all(is_plain) {
        let mut quoted = String::with_capacity(text.len() + 2);
        quoted.push('"');
        quoted.push_str(text);
        quoted.push('"');
        return quoted;
    }
    serde_json::Value::from(text).to_string()
}

/// A text as it may be seen: masked whole when there is a secret in it, cut when it is long.
fn shown_text(text: &str) -> Cow<'_, str> {
    const SHOWN_MAX: usize = 1024;
    // What begins where it is shown is known as a secret by its end, and none is as long as this.
    const SECRET_MAX: usize = 16 << 10;
    let looked_at = text.get(..text.floor_char_boundary(SHOWN_MAX + SECRET_MAX)).unwrap_or(text);
    if secret_in(looked_at).is_some() {
        return Cow::Borrowed(MASK);
    }
    if text.len() <= SHOWN_MAX {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(SHOWN_MAX);
    Cow::Owned(format!("{}… ({} bytes)", text.get(..end).unwrap_or_default(), text.len()))
}

#[cfg(test)]
mod tests;
