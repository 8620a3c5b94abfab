//! THE TABLE of revisions: every released one, and what each of them knows.
//!
//! MCP's changelogs from 2024-11-05 to 2026-07-28. Must not know how a difference is bridged.

/// A released revision of the protocol, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revision {
    /// HTTP+SSE on two URLs.
    V20241105,
    /// Streamable HTTP with sessions, and batches.
    V20250326,
    /// Elicitation, structured results, the version header.
    V20250618,
    /// URL elicitation, polling of event streams.
    V20251125,
    /// Stateless.
    V20260728,
}

/// Every revision with its name, oldest first.
const NAMES: [(Revision, &str); 5] = [
    (Revision::V20241105, "2024-11-05"),
    (Revision::V20250326, "2025-03-26"),
    (Revision::V20250618, "2025-06-18"),
    (Revision::V20251125, "2025-11-25"),
    (Revision::V20260728, "2026-07-28"),
];

/// How many revisions have sessions; these come first.
pub const LEGACY_COUNT: usize = NAMES.len() - 1;

impl Revision {
    /// The newest one that has sessions.
    pub const NEWEST_LEGACY: Self = Self::V20251125;

    /// The revision of this name.
    pub fn parse(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(revision, _)| *revision)
    }

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        NAMES.get(self as usize).map_or("", |(_, name)| name)
    }

    /// What a session speaks whose client asked for `requested`: that, if it is one with sessions, else the newest such.
    pub fn negotiate(requested: &str) -> Self {
        Self::parse(requested).filter(|revision| revision.has_sessions()).unwrap_or(Self::NEWEST_LEGACY)
    }

    /// The names of those that have sessions, newest first.
    pub fn with_sessions() -> impl Iterator<Item = &'static str> {
        NAMES.iter().rev().filter(|(revision, _)| revision.has_sessions()).map(|(_, name)| *name)
    }

    /// `initialize`, sessions, requests from server to client.
    pub const fn has_sessions(self) -> bool {
        (self as u8) < Self::V20260728 as u8
    }

    /// Arrays of messages. HTTP+SSE clients never send any.
    pub const fn has_batches(self) -> bool {
        self as u8 == Self::V20250326 as u8
    }

    /// Audio blocks, annotations of tools, messages in progress, the capability `completions`.
    pub const fn has_audio_and_annotations(self) -> bool {
        self as u8 >= Self::V20250326 as u8
    }

    /// The header `MCP-Protocol-Version` on every request after the handshake.
    pub const fn has_version_header(self) -> bool {
        self as u8 >= Self::V20250618 as u8
    }

    /// `elicitation/create` with a form.
    pub const fn has_elicitation(self) -> bool {
        self as u8 >= Self::V20250618 as u8
    }

    /// `structuredContent` and `outputSchema`, resource links, titles, `_meta` on more types.
    pub const fn has_structured_results(self) -> bool {
        self as u8 >= Self::V20250618 as u8
    }

    /// `elicitation/create` with a URL and -32042, titled and multiple choices, sampling with tools, icons.
    pub const fn has_url_elicitation(self) -> bool {
        self as u8 >= Self::V20251125 as u8
    }

    /// A first event without data and `retry`, so that a stream may be closed and taken up again.
    pub const fn has_polling(self) -> bool {
        self as u8 >= Self::V20251125 as u8
    }

    /// Arguments that break a tool's schema are a result with `isError`; before they were -32602.
    pub const fn tells_models_of_bad_arguments(self) -> bool {
        self as u8 >= Self::V20251125 as u8
    }

    /// `structuredContent` may be any JSON; before it was an object.
    pub const fn has_any_structured_content(self) -> bool {
        self as u8 >= Self::V20260728 as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_stand_in_the_order_of_the_variants() {
        for (row, (revision, name)) in NAMES.iter().enumerate() {
            assert_eq!((*revision as usize, revision.name()), (row, *name));
            assert_eq!(Revision::parse(name), Some(*revision));
        }
        assert_eq!(Revision::with_sessions().count(), LEGACY_COUNT);
        assert_eq!(Revision::V20260728.name(), super::super::MODERN);
    }

    #[test]
    fn only_revisions_with_sessions_are_negotiated_and_an_unknown_one_gets_the_newest() {
        for name in Revision::with_sessions() {
            assert_eq!(Revision::negotiate(name).name(), name);
        }
        for other in ["2026-07-28", "2099-01-01", "", "1.0"] {
            assert_eq!(Revision::negotiate(other), Revision::V20251125);
        }
    }
}
