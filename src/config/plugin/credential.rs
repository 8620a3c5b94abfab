//! How a text that may be secret is written: as it is, with `${VAR}` in it, as `env:NAME`, or as `file:/path`.
//!
//! Must not look at variables or files.

use std::path::Path;

use super::Credential;

/// A part of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// As it is.
    Text(&'a str),
    /// What this variable of Waygate's environment says.
    Variable(&'a str),
    /// What stands in this file.
    File(&'a Path),
}

impl Credential {
    /// Its parts, in order.
    ///
    /// # Errors
    /// What is wrong with it; its text is not repeated, but for names of variables.
    pub fn pieces(&self) -> Result<Vec<Piece<'_>>, String> {
        let text = self.0.as_str();
        if let Some(name) = text.strip_prefix("env:") {
            return Ok(vec![Piece::Variable(variable(name)?)]);
        }
        if let Some(path) = text.strip_prefix("file:") {
            if !path.starts_with('/') || path.contains('\0') {
                return Err("has file: with something that is no whole path; write file:/run/secrets/token"
                    .to_owned());
            }
            return Ok(vec![Piece::File(Path::new(path))]);
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, behind) = after.split_once('}').ok_or("has a ${ that no } closes")?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before));
            }
            pieces.push(Piece::Variable(variable(name)?));
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest));
        }
        Ok(pieces)
    }

    /// Whether it stands in the file as it is, with nothing taken from elsewhere.
    pub fn is_literal(&self) -> bool {
        let pieces = self.pieces().unwrap_or_default();
        !self.0.is_empty() && pieces.iter().all(|piece| matches!(piece, Piece::Text(_)))
    }
}

/// A name that can be that of a variable.
pub fn is_variable(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.bytes().all(inner) && !name.starts_with(|first: char| first.is_ascii_digit())
}

/// Whether a variable is Waygate's own: those may be secrets, and are given to no server.
pub fn is_own(name: &str) -> bool {
    name.to_ascii_uppercase().starts_with("WAYGATE_")
}

fn variable(name: &str) -> Result<&str, String> {
    if !is_variable(name) {
        return Err(
            "refers to something that is no name of a variable; write ${GITHUB_TOKEN} or env:GITHUB_TOKEN"
                .to_owned(),
        );
    }
    if is_own(name) {
        return Err(format!(
            "refers to {name}, but what is Waygate's own, as its secrets, is given to no server"
        ));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_taken_apart_into_texts_variables_and_a_file() {
        let pieces = |text: &str| Credential(text.to_owned()).pieces().map(|pieces| format!("{pieces:?}"));
        assert_eq!(
            pieces("Bearer ${A}-${_b2}!").unwrap(),
            r#"[Text("Bearer "), Variable("A"), Text("-"), Variable("_b2"), Text("!")]"#
        );
        assert_eq!(pieces("env:TOKEN").unwrap(), r#"[Variable("TOKEN")]"#);
        assert_eq!(pieces("file:/run/a b").unwrap(), r#"[File("/run/a b")]"#);
        assert_eq!(pieces("$5 {x} $ }").unwrap(), r#"[Text("$5 {x} $ }")]"#);
        assert_eq!(pieces("").unwrap(), "[]");
        for bad in [
            "a${B",
            "${}",
            "${1A}",
            "${A:-secret}",
            "env:",
            "env:A B",
            "file:",
            "file:secret",
            "${WAYGATE_API_KEY}",
            "env:waygate_x",
        ] {
            let why = pieces(bad).unwrap_err();
            assert!(!why.contains("secret}") && !why.contains(":-"), "{bad}: {why}");
        }
    }

    #[test]
    fn only_what_stands_there_itself_is_literal() {
        let literal = |text: &str| Credential(text.to_owned()).is_literal();
        assert!(literal("hunter2") && literal("$HOME"));
        assert!(!literal("Bearer ${A}") && !literal("env:A") && !literal("file:/a") && !literal(""));
    }
}
