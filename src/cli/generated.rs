//! What is made from the command line: `docs/cli.md`. Must not run anything.
//!
//! A test holds the checked-in page equal to this text; `WAYGATE_BLESS=1 cargo test --test docs` writes it anew.

use std::fmt::Write as _;

use clap::builder::StyledStr;
use clap::{Arg, Command, CommandFactory as _};

use super::{Line, exit};

/// Whatever stands twice in the tree is told once, here.
const HEAD: &str = "\
# The command line

Made from the command line itself; `waygate-mcp help VERB` tells the same, and `waygate-mcp --help` what there is. When to type
what: [the runbook](runbook.md). What an operator does for a whole machine are scripts: [`waygate-ctl`](operations.md#without-a-service-manager), [`backup.sh`](backup.md).

Without a verb it is `serve`. The verbs find the server that runs on the data folder by themselves, over the socket in it, which
needs no key. Results go to stdout, all else to stderr; with `--json` results are for programs.
";

/// `docs/cli.md`.
pub fn cli_md() -> String {
    let mut line = Line::command();
    line.build();
    let mut text = String::from(HEAD);
    text.push_str("\n## Every verb\n\nThese may stand before a verb or after it.\n\n");
    text.push_str(&options(line.get_arguments().filter(|option| is_told(option))));
    text.push_str(&fenced(line.get_after_help()));
    for verb in verbs(&line) {
        write_verb(&mut text, verb, 2);
    }
    text.push_str("\n## Exit codes\n\n| Exit code | What it says |\n|---|---|\n");
    for (code, says) in exit::codes() {
        let _infallible = writeln!(text, "| {code} | {says} |");
    }
    text
}

/// Those that people type, in the order of `--help`.
fn verbs(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
}

fn is_told(argument: &Arg) -> bool {
    !argument.is_hide_set() && !matches!(argument.get_id().as_str(), "help" | "version")
}

fn write_verb(text: &mut String, verb: &Command, depth: usize) {
    let title = verb.get_bin_name().unwrap_or_else(|| verb.get_name());
    let _infallible = write!(text, "\n{} {title}\n\n", "#".repeat(depth));
    text.push_str(&about(verb));
    if verb.has_subcommands() {
        text.push_str(&fenced(verb.get_after_help()));
        verbs(verb).for_each(|verb| write_verb(text, verb, depth + 1));
        return;
    }
    let usage = verb.clone().render_usage().to_string();
    let _infallible = write!(text, "\n```\n{}\n```\n", usage.trim_start_matches("Usage: "));
    let own = || verb.get_arguments().filter(|argument| is_told(argument) && !argument.is_global_set());
    let (typed, flags): (Vec<&Arg>, Vec<&Arg>) = own().partition(|argument| argument.is_positional());
    let all = options(typed.into_iter().chain(flags));
    if !all.is_empty() {
        let _infallible = write!(text, "\n{all}");
    }
    text.push_str(&fenced(verb.get_after_long_help().or_else(|| verb.get_after_help())));
}

/// What it does, in full where there is more than its sentence.
fn about(verb: &Command) -> String {
    let about =
        verb.get_long_about().or_else(|| verb.get_about()).map(ToString::to_string).unwrap_or_default();
    let mut text = prose(about.trim());
    if !text.ends_with('.') {
        text.push('.');
    }
    text + "\n"
}

/// Examples and what stands with them, as the help has it.
fn fenced(help: Option<&StyledStr>) -> String {
    help.map(ToString::to_string)
        .filter(|help| !help.trim().is_empty())
        .map_or_else(String::new, |help| format!("\n```text\n{}\n```\n", help.trim_end()))
}

/// A table of arguments; empty when there are none.
fn options<'a>(all: impl Iterator<Item = &'a Arg>) -> String {
    let rows: String = all.map(row).collect();
    if rows.is_empty() {
        rows
    } else {
        format!("| What is typed | What it means | Default |\n|---|---|---|\n{rows}")
    }
}

fn row(argument: &Arg) -> String {
    let help =
        argument.get_long_help().or_else(|| argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let default: Vec<String> =
        argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
    // Of a flag the default is that it is not there.
    let default = if argument.get_action().takes_values() { default.join(", ") } else { String::new() };
    format!(
        "| `{}` | {}{} | {} |\n",
        typed(argument).replace('|', "\\|"),
        prose(&help).replace('|', "\\|"),
        words(argument).replace('|', "\\|"),
        default.replace('|', "\\|"),
    )
}

/// As it is typed: `-c, --connections <COUNT>`, or `<NAME>`.
fn typed(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    let values: Vec<String> = names.iter().map(|name| format!("<{name}>")).collect();
    let values = values.join(" ");
    if argument.is_positional() {
        return if argument.is_required_set() { values } else { values.replace('<', "[").replace('>', "]") };
    }
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let mut text = [short, long].into_iter().flatten().collect::<Vec<_>>().join(", ");
    if argument.get_action().takes_values() {
        let _infallible = write!(text, " {values}");
    }
    text
}

/// The words that it takes, where there are only some.
fn words(argument: &Arg) -> String {
    if !argument.get_action().takes_values() || argument.is_hide_possible_values_set() {
        return String::new();
    }
    let shown =
        argument.get_possible_values().into_iter().filter(|value| !value.is_hide_set()).map(|value| {
            let help =
                value.get_help().map(|help| format!(" ({})", prose(&help.to_string()))).unwrap_or_default();
            format!("`{}`{help}", value.get_name())
        });
    let shown = shown.collect::<Vec<_>>().join(", ");
    if shown.is_empty() { shown } else { format!(": {shown}") }
}

/// A text as Markdown takes it for nothing but text; what stands between backticks stays as it is.
fn prose(text: &str) -> String {
    let escape = |(at, part): (usize, &str)| {
        if at % 2 == 0 { part.replace('<', "&lt;").replace('*', "\\*") } else { part.to_owned() }
    };
    text.split('`').enumerate().map(escape).collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_every_option_and_every_example_stands_on_the_page() {
        let page = cli_md();
        let mut line = Line::command();
        line.build();
        let mut seen = 0;
        hold(&line, &page, &mut seen);
        assert!(seen > 100, "only {seen} options were looked for");
        // Hidden on purpose: how this program starts itself.
        assert!(!page.contains("waygate-mcp guard") && !page.contains("--measured"));
        assert!(page.contains("&lt;env>.toml") && page.contains("| 78 | the configuration is wrong |"));
    }

    fn hold(command: &Command, page: &str, seen: &mut usize) {
        for verb in verbs(command) {
            let name = verb.get_bin_name().unwrap();
            let head = format!("# {name}\n");
            let (_, chapter) = page.split_once(&head).unwrap_or_else(|| panic!("{name} is not told"));
            let chapter = chapter.split("\n## ").next().unwrap();
            for argument in
                verb.get_arguments().filter(|argument| is_told(argument) && !argument.is_global_set())
            {
                let typed = typed(argument).replace('|', "\\|");
                assert!(chapter.contains(&format!("| `{typed}` | ")), "{name} {typed} is not told");
                *seen += 1;
            }
            for help in [verb.get_after_help(), verb.get_after_long_help()].into_iter().flatten() {
                assert!(chapter.contains(help.to_string().trim_end()), "{name} has examples");
            }
            hold(verb, page, seen);
        }
    }
}
