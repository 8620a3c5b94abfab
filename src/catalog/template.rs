//! Which URIs an RFC 6570 template covers. Must not know resources.

/// A longer template, or one of more pieces, is refused: what it covers is asked for with each URI that no list names.
const TEMPLATE_MAX_BYTES: usize = 2_048;
const PIECES_MAX: usize = 32;
/// No template covers a longer URI.
const URI_MAX_BYTES: usize = 8_192;

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
    /// What is wrong with it: it is too long, or a brace is not closed.
    pub fn parse(template: &str) -> Result<Self, String> {
        if template.len() > TEMPLATE_MAX_BYTES {
            return Err(format!("its template has more than {TEMPLATE_MAX_BYTES} bytes"));
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
        if pieces.len() > PIECES_MAX {
            return Err(format!("its template has more than {PIECES_MAX} pieces"));
        }
        Ok(Self(pieces))
    }

    /// Whether `uri` is one of its expansions. Each piece is held against the whole URI once, whatever the server wrote:
    /// trying one way after the other would take for ever where there are many.
    pub fn covers(&self, uri: &str) -> bool {
        uri.len() <= URI_MAX_BYTES && covers(&self.0, uri)
    }
}

/// Whether `text` can be cut so that each piece has its part: keeps, piece by piece, all places where the pieces before may
/// end, so that no cut is tried twice.
fn covers(pieces: &[Piece], text: &str) -> bool {
    // A set of places: whether a piece may begin at this byte.
    let mut begins = vec![false; text.len() + 1];
    if let Some(first) = begins.first_mut() {
        *first = true;
    }
    for piece in pieces {
        begins = match piece {
            Piece::Literal(literal) => after_literal(&begins, text, literal),
            Piece::Segment => after_segment(&begins, text),
            Piece::Rest => {
                let mut reached = false;
                begins
                    .iter()
                    .map(|begins| {
                        reached |= *begins;
                        reached
                    })
                    .collect()
            }
        };
        if !begins.contains(&true) {
            return false;
        }
    }
    begins.last() == Some(&true)
}

fn after_literal(begins: &[bool], text: &str, literal: &str) -> Vec<bool> {
    let mut ends = vec![false; begins.len()];
    let found =
        |at: &usize| text.as_bytes().get(*at..).is_some_and(|rest| rest.starts_with(literal.as_bytes()));
    for at in begins.iter().enumerate().filter_map(|(at, begins)| begins.then_some(at)).filter(found) {
        if let Some(end) = ends.get_mut(at + literal.len()) {
            *end = true;
        }
    }
    ends
}

fn after_segment(begins: &[bool], text: &str) -> Vec<bool> {
    let mut ends = vec![false; begins.len()];
    let mut reached = false;
    for ((begins, end), byte) in begins.iter().zip(ends.iter_mut().skip(1)).zip(text.bytes()) {
        reached = (reached || *begins) && byte != b'/';
        *end = reached;
    }
    ends
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
        assert!(Template::parse("a{x").is_err());
    }

    #[test]
    fn many_gaps_cost_no_more_than_their_number() {
        let gaps: String = ('a'..='o').map(|name| format!("{{+{name}}}a")).collect();
        let uri = format!("x:{}", "a".repeat(8_000));
        assert!(!Template::parse(&format!("x:{gaps}b")).unwrap().covers(&uri));
        assert!(Template::parse(&format!("x:{gaps}")).unwrap().covers(&uri));
        assert!(Template::parse("x:{a}/{b}a/{c}").unwrap().covers("x:1/aa/2"));
        assert!(!Template::parse("x:{+rest}").unwrap().covers(&"x:".repeat(URI_MAX_BYTES)));
        assert!(Template::parse(&"{a}x".repeat(40)).is_err());
        assert!(Template::parse(&format!("x:{}", "y".repeat(TEMPLATE_MAX_BYTES))).is_err());
    }
}
