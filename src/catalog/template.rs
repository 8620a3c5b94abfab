//! Which URIs an RFC 6570 template covers. Must not know resources.

/// A longer template is none that anybody would fill in.
const TEMPLATE_MAX_BYTES: usize = 512;
/// A longer URI is covered by no template; a list may name it.
const URI_MAX_BYTES: usize = 4096;

/// A template cut into literal text and gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// `{var}`: at least one character, no slash.
    Segment,
    /// `{+var}`, `{/var*}` and other operators: anything.
    Rest,
}

impl Template {
    /// Cuts a template.
    ///
    /// # Errors
    /// When it is too long, or a brace is not closed.
    pub fn parse(template: &str) -> Result<Self, &'static str> {
        if template.len() > TEMPLATE_MAX_BYTES {
            return Err("its template has more than 512 bytes");
        }
        let mut pieces = Vec::new();
        let mut rest = template;
        while let Some((literal, after)) = rest.split_once('{') {
            let (expression, after) = after.split_once('}').ok_or("its template has an open brace")?;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.to_owned()));
            }
            let plain =
                expression.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'));
            pieces.push(if plain && !expression.is_empty() { Piece::Segment } else { Piece::Rest });
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.to_owned()));
        }
        Ok(Self(pieces))
    }

    /// Whether `uri` is one of its expansions. Each piece is held against the whole URI once, whatever the server wrote:
    /// trying one way after the other would take for ever where there are many.
    pub fn covers(&self, uri: &str) -> bool {
        let text = uri.as_bytes();
        if text.len() > URI_MAX_BYTES {
            return false;
        }
        // Where what came so far may end.
        let mut ends = vec![false; text.len() + 1];
        if let Some(begin) = ends.first_mut() {
            *begin = true;
        }
        for (number, piece) in self.0.iter().enumerate() {
            // The next literal, if any, says where a gap may end; without one it takes all it can.
            let is_free = matches!(self.0.get(number + 1), Some(Piece::Literal(_)));
            ends = match piece {
                Piece::Literal(literal) => after_literal(&ends, text, literal.as_bytes()),
                Piece::Segment => after_segment(&ends, text, is_free),
                Piece::Rest => after_rest(&ends, is_free),
            };
            if !ends.contains(&true) {
                return false;
            }
        }
        ends.last() == Some(&true)
    }
}

fn after_literal(begins: &[bool], text: &[u8], literal: &[u8]) -> Vec<bool> {
    let mut ends = vec![false; begins.len()];
    for (begin, _) in begins.iter().enumerate().filter(|(_, begins)| **begins) {
        if text.get(begin..).is_some_and(|rest| rest.starts_with(literal))
            && let Some(end) = ends.get_mut(begin + literal.len())
        {
            *end = true;
        }
    }
    ends
}

fn after_segment(begins: &[bool], text: &[u8], is_free: bool) -> Vec<bool> {
    let mut ends = vec![false; begins.len()];
    let mut has_begun = false;
    for (at, (end, begins)) in ends.iter_mut().zip(begins).enumerate() {
        // It takes all that it can where nothing says that it may end before: up to a slash, or the end.
        let is_last = text.get(at).is_none_or(|byte| *byte == b'/');
        *end = has_begun && (is_free || is_last);
        has_begun = !is_last && (has_begun || *begins);
    }
    ends
}

fn after_rest(begins: &[bool], is_free: bool) -> Vec<bool> {
    let mut has_begun = false;
    let last = begins.len().saturating_sub(1);
    let end = |(at, begins): (usize, &bool)| {
        has_begun |= *begins;
        has_begun && (is_free || at == last)
    };
    begins.iter().enumerate().map(end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_one_segment_and_a_reserved_one_is_anything() {
        let covers = |template: &str, uri: &str| Template::parse(template).unwrap().covers(uri);
        assert!(covers("test://template/{id}/data", "test://template/123/data"));
        assert!(!covers("test://template/{id}/data", "test://template//data"));
        assert!(!covers("test://template/{id}/data", "test://template/1/2/data"));
        assert!(covers("files://{root}/{+path}", "files://docs/a/b.txt"));
        assert!(!covers("files://docs/{+path}", "files://other/a"));
        assert!(covers("a{x}b{y}", "a1bb2"));
        assert!(!covers("a{x}", "aé/"));
        assert!(!covers("a{x}{y}", "a1"), "the first takes all");
        assert!(covers("{+a}/raw", "x/y/raw") && !covers("{+a}/raw", "x/y/raw/z"));
        assert!(covers("ä{x}ö", "äüö") && !covers("ä{x}ö", "äö"));
        assert!(Template::parse("a{x").is_err() && Template::parse(&"a{x}".repeat(200)).is_err());
    }

    #[test]
    fn a_template_with_many_ways_to_be_filled_in_is_judged_at_once() {
        let template: String = ('a'..='z').map(|name| format!("{{+{name}}}a")).collect();
        let template = Template::parse(&format!("x:{template}b")).unwrap();
        // Tried one way after the other, this does not end before the sun does.
        assert!(!template.covers(&format!("x:{}", "a".repeat(4000))));
        assert!(template.covers(&format!("x:{}b", "a".repeat(4000))));
        assert!(!template.covers(&format!("x:{}b", "a".repeat(5000))), "it is too long to be looked at");
    }
}
