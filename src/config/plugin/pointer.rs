//! Where in a tool's arguments something stands: JSON pointers (RFC 6901), in which `*` is every element or member.
//!
//! Must not know what is done there.

/// One step of a pointer, downwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To all elements of an array, or all members of an object.
    Each,
    /// To the member of this name, or the element of this number.
    Named(String),
}

/// The steps of a pointer; the empty one leads nowhere else.
///
/// # Errors
/// Why the text is no pointer, as `it begins with no /`.
pub fn steps_of(pointer: &str) -> Result<Vec<Step>, &'static str> {
    if pointer.is_empty() {
        return Ok(Vec::new());
    }
    let steps = pointer.strip_prefix('/').ok_or("it begins with no /")?.split('/');
    steps.map(step_of).collect()
}

fn step_of(word: &str) -> Result<Step, &'static str> {
    if word == "*" {
        return Ok(Step::Each);
    }
    let mut parts = word.split('~');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (char, rest) = match (part.strip_prefix('0'), part.strip_prefix('1')) {
            (Some(rest), _) => ('~', rest),
            (_, Some(rest)) => ('/', rest),
            _ => return Err("it has a ~ before neither 0 nor 1; ~ itself is written as ~0, and / as ~1"),
        };
        name.push(char);
        name.push_str(rest);
    }
    Ok(Step::Named(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_taken_apart_with_its_escapes_and_a_text_that_is_none_is_refused() {
        let named = |name: &str| Step::Named(name.to_owned());
        assert_eq!(steps_of(""), Ok(Vec::new()));
        assert_eq!(steps_of("/"), Ok(vec![named("")]));
        assert_eq!(steps_of("/items/*/0/**"), Ok(vec![named("items"), Step::Each, named("0"), named("**")]));
        assert_eq!(steps_of("/a~1b/~01/~0~1"), Ok(vec![named("a/b"), named("~1"), named("~/")]));
        for wrong in ["card", "card/number", "$.card", "#/card", "*", "/a~", "/a~2b", "/~/x"] {
            assert!(steps_of(wrong).is_err(), "{wrong}");
        }
    }
}
