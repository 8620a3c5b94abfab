//! Everything wrong with a configuration, collected so that it is reported at once. Must not know where values come from.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where: `file:line`, a variable, or a flag.
    pub place: String,
    /// What, and what to do about it.
    pub sentence: String,
}

/// All that is wrong; at least one thing when it is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Adds one.
    pub fn add(&mut self, place: impl Into<String>, sentence: impl Into<String>) {
        let fault = Fault { place: place.into(), sentence: sentence.into() };
        if !self.0.contains(&fault) {
            self.0.push(fault);
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order found: by layer, and within a file by line.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl Faults {
    /// All on one line, for logs and for a member of an answer.
    pub fn on_one_line(&self) -> String {
        let line = |fault: &Fault| format!("{}: {}", fault.place, fault.sentence);
        self.0.iter().map(line).collect::<Vec<_>>().join("; ")
    }

    /// A line each, set off by two spaces.
    pub fn on_lines(&self) -> String {
        self.0.iter().map(|fault| format!("  {}: {}\n", fault.place, fault.sentence)).collect()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "the configuration has {count} fault{}:", if count == 1 { "" } else { "s" })?;
        for Fault { place, sentence } in &self.0 {
            write!(f, "\n  {place}: {sentence}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// The known name nearest to `typed`, when one is near enough to be meant.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LIKENESS_MIN: f64 = 0.6;
    let typed = typed.to_ascii_lowercase();
    let likeness = |name: &str| strsim::normalized_damerau_levenshtein(&typed, &name.to_ascii_lowercase());
    let rated = known.into_iter().map(|name| (likeness(name), name));
    let best = rated.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= LIKENESS_MIN).then_some(best.1)
}

/// `"; did you mean X?"`, or nothing.
pub fn did_you_mean<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(typed, known).map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_only_when_it_is_near() {
        assert_eq!(nearest("server.prot", ["server.port", "server.host"]), Some("server.port"));
        assert_eq!(
            nearest("WAYGATE_TIMEOUT_SECONDS", ["WAYGATE_TIMEOUT", "WAYGATE_HOST"]),
            Some("WAYGATE_TIMEOUT")
        );
        assert_eq!(nearest("zebra", ["server.port", "server.host"]), None);
    }
}
