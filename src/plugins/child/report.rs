//! What a guard tells Waygate of the program it runs: one line each, over the socket between the two. Pure.

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Exited(i32),
    /// By the signal of this number.
    Signaled(i32),
}

impl Ended {
    /// What a shell would say: 128 and the number for a signal.
    pub fn status(self) -> u8 {
        let status = match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => signal.saturating_add(128),
        };
        u8::try_from(status).unwrap_or(u8::MAX)
    }
}

/// How far a program is walled in by Landlock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confined {
    /// Nobody asked for it.
    Unasked,
    /// In all that was asked for.
    Enforced,
    /// In what this kernel's Landlock can do.
    Partly,
    /// This kernel has no Landlock, or it was not switched on.
    NotAvailable,
}

impl Confined {
    const ALL: [Self; 4] = [Self::Unasked, Self::Enforced, Self::Partly, Self::NotAvailable];

    /// As an operator reads it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unasked => "not asked for",
            Self::Enforced => "enforced",
            Self::Partly => "partly",
            Self::NotAvailable => "not available",
        }
    }
}

/// One word of a guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Report {
    /// The program runs, as the process of this number.
    Started(i32),
    /// How far it is walled in, and why no further; comes before it is known whether it could be started.
    Confined(Confined, Option<String>),
    /// The program could not be started.
    Failed(String),
    /// The program ended; what it left behind is ended next.
    Ended(Ended),
    /// Nothing that the program started is left; the guard ends now. One that was killed does not say so.
    Gone,
}

impl Report {
    /// As it is sent, with its line feed.
    pub(super) fn line(&self) -> String {
        match self {
            Self::Started(pid) => format!("started {pid}\n"),
            Self::Confined(confined, why) => {
                let why = why.as_ref().map(|why| format!(": {}", why.replace('\n', " ")));
                format!("confined {}{}\n", confined.as_str(), why.unwrap_or_default())
            }
            Self::Failed(why) => format!("failed {}\n", why.replace('\n', " ")),
            Self::Ended(Ended::Exited(code)) => format!("exited {code}\n"),
            Self::Ended(Ended::Signaled(signal)) => format!("signaled {signal}\n"),
            Self::Gone => "gone\n".to_owned(),
        }
    }

    /// Reads a line without its line feed; nothing when no guard would say so.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "gone" => Some(Self::Gone),
            "started" => rest.parse().ok().map(Self::Started),
            "confined" => {
                let (how, why) = match rest.split_once(": ") {
                    Some((how, why)) => (how, Some(why.to_owned())),
                    None => (rest, None),
                };
                let confined = Confined::ALL.into_iter().find(|confined| confined.as_str() == how);
                confined.map(|confined| Self::Confined(confined, why))
            }
            "failed" => Some(Self::Failed(rest.to_owned())),
            "exited" => rest.parse().ok().map(|code| Self::Ended(Ended::Exited(code))),
            "signaled" => rest.parse().ok().map(|signal| Self::Ended(Ended::Signaled(signal))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_report_is_read_as_it_was_sent() {
        let all = [
            Report::Started(7),
            Report::Confined(Confined::Enforced, None),
            Report::Confined(Confined::NotAvailable, Some("it is off: ask: why".to_owned())),
            Report::Failed("no such file".to_owned()),
            Report::Ended(Ended::Exited(3)),
            Report::Ended(Ended::Signaled(9)),
            Report::Gone,
        ];
        for report in all {
            assert_eq!(Report::parse(report.line().trim_end()), Some(report));
        }
        assert_eq!(Report::parse("exited soon"), None);
        assert_eq!(Report::parse("hello 1"), None);
        assert_eq!(Report::parse("failed"), Some(Report::Failed(String::new())));
        assert_eq!(Report::parse(""), None);
    }

    #[test]
    fn the_status_is_the_one_a_shell_would_give() {
        assert_eq!((Ended::Exited(7).status(), Ended::Signaled(9).status()), (7, 137));
    }
}
