//! Which URIs an RFC 6570 template covers. Must not know resources.

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
    /// Cuts a template; none when a brace is not closed.
    pub fn parse(template: &str) -> Option<Self> {
        let mut pieces = Vec::new();
        let mut rest = template;
        while let Some((literal, after)) = rest.split_once('{') {
            let (expression, after) = after.split_once('}')?;
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
        Some(Self(pieces))
    }

    /// Whether `uri` is one of its expansions.
    pub fn covers(&self, uri: &str) -> bool {
        covers(&self.0, uri)
    }
}

fn covers(pieces: &[Piece], text: &str) -> bool {
    let Some((piece, after)) = pieces.split_first() else { return text.is_empty() };
    let gap = match piece {
        Piece::Literal(literal) => {
            return text.strip_prefix(literal.as_str()).is_some_and(|rest| covers(after, rest));
        }
        Piece::Segment => text.find('/').unwrap_or(text.len()),
        Piece::Rest => text.len(),
    };
    let least = usize::from(*piece == Piece::Segment);
    // The next literal, if any, says where the gap may end; without one it takes all it can.
    let Some(Piece::Literal(next)) = after.first() else {
        return gap >= least && text.get(gap..).is_some_and(|rest| covers(after, rest));
    };
    let window = text.get(..(gap + next.len()).min(text.len())).unwrap_or(text);
    window
        .match_indices(next.as_str())
        .any(|(at, _)| at >= least && at <= gap && text.get(at..).is_some_and(|rest| covers(after, rest)))
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
        assert!(Template::parse("a{x").is_none());
    }
}
