//! The tree of verbs for those who hold documents to it: what can be typed, and whether a line is that. Must not run anything.

use clap::{Command, CommandFactory as _, Parser as _};

use super::Line;

/// Each verb with what must follow it, and its sentence, in the order of `--help`.
pub fn verbs() -> Vec<(String, String)> {
    let mut line = Line::command();
    line.build();
    let mut found = Vec::new();
    gather(&line, &mut found);
    found
}

fn gather(command: &Command, found: &mut Vec<(String, String)>) {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        if verb.has_subcommands() {
            gather(verb, found);
        } else {
            let usage = verb.clone().render_usage().to_string();
            let usage = usage.trim_start_matches("Usage: ").replace(" [OPTIONS]", "");
            found.push((usage, verb.get_about().map(ToString::to_string).unwrap_or_default()));
        }
    }
}

/// Reads a command line, the program's own name first, and says what is wrong with it. Help counts as right.
pub fn read(words: &[String]) -> Result<(), String> {
    match Line::try_parse_from(words) {
        Err(error) if error.use_stderr() => Err(error.to_string()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_told_with_what_must_follow_them_and_lines_are_read_as_they_would_be() {
        let verbs = verbs();
        let usages: Vec<&str> = verbs.iter().map(|(usage, _)| usage.as_str()).collect();
        assert!(usages.contains(&"waygate-mcp keys revoke <WHICH>"), "{usages:?}");
        assert!(!usages.iter().any(|usage| usage.contains("guard")), "{usages:?}");
        assert!(verbs.iter().all(|(_, about)| !about.is_empty()), "{verbs:?}");
        let line = |text: &str| read(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(line("waygate-mcp backup prune --keep-days 3"), Ok(()));
        assert_eq!(line("waygate-mcp backup --help"), Ok(()));
        assert!(line("waygate-mcp backup prune --keep-day 3").is_err_and(|why| why.contains("--keep-days")));
    }
}
