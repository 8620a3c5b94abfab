//! The runbook works: its commands are run in their order as they stand there, against a real server, and do what is shown.
//!
//! What stands after `sh` at the fence of a block says what becomes of it; a reader does not see it:
//!
//! | after `sh` | |
//! |---|---|
//! | `run` | it is run, and each of its commands ends with 0; the block after it, if that is no command, is what they write |
//! | `run exits 69` | it is run, and the first command that fails ends with this |
//! | `run again` | what it shows may come a moment later: it is run until it does |
//! | `left out: why` | it cannot be run in a test; its commands are read all the same |

use std::time::Instant;

use waygate_mcp::cli;

use crate::blocks::{Block, agrees, blocks, compare, read, shown};
use crate::commands;
use crate::machine::Machine;
use crate::reference::ctl_commands;
use crate::support::PATIENCE;

pub const PAGE: &str = "docs/runbook.md";

/// What becomes of a block of commands.
#[derive(Debug, PartialEq)]
enum Fate<'a> {
    Run { exits: i32, again: bool },
    LeftOut { why: &'a str },
}

fn fate(block: &Block) -> Fate<'_> {
    let after = block.kind.strip_prefix("sh ").unwrap_or_default();
    if let Some(why) = after.strip_prefix("left out: ") {
        return Fate::LeftOut { why };
    }
    let number = after.strip_prefix("run exits ").map(str::parse);
    match (after, number) {
        ("run", _) => Fate::Run { exits: 0, again: false },
        ("run again", _) => Fate::Run { exits: 0, again: true },
        (_, Some(Ok(exits))) => Fate::Run { exits, again: false },
        _ => panic!("{PAGE}:{} does not say what becomes of it: {:?}", block.line, block.kind),
    }
}

/// Verbs that no block runs as they are, each with its reason.
const NOT_TYPED: [(&str, &str); 1] =
    [("waygate-mcp serve", "`waygate-ctl start` runs it, and stays beside it")];

#[test]
fn every_command_of_its_reference_is_run_in_a_chapter() {
    let text = read(PAGE);
    let is_run = |block: &Block| block.is_command() && matches!(fate(block), Fate::Run { .. });
    let run: String = blocks(&text).into_iter().filter(is_run).map(|block| block.text).collect();
    // As its verb is typed, up to what varies.
    let is_verb = |word: &&str| {
        !word.starts_with('-') && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    };
    let bare = |usage: &str| usage.split(' ').take_while(is_verb).map(str::to_owned).collect::<Vec<_>>();
    let of_ctl = ctl_commands().into_iter().map(|(command, _)| format!("waygate-ctl {command}"));
    let all: Vec<Vec<String>> =
        cli::verbs().into_iter().map(|(usage, _)| usage).chain(of_ctl).map(|usage| bare(&usage)).collect();
    assert!(all.len() > 60, "{all:?}");
    let typed = ["waygate-mcp", "waygate-ctl"].map(|program| commands::of_program(&run, program)).concat();
    for verb in &all {
        let is_run = typed.iter().any(|words| words.starts_with(verb));
        let reason = NOT_TYPED.iter().find(|(named, _)| *named == verb.join(" ")).map(|(_, reason)| reason);
        match reason {
            Some(reason) => assert!(!is_run, "{verb:?} is run, and need not be left out: {reason}"),
            None => {
                assert!(is_run, "{PAGE} runs {verb:?} nowhere: show it where an operator would look for it")
            }
        }
    }
}

#[test]
fn its_commands_do_what_it_shows() {
    let blocks = blocks(&read(PAGE));
    let mut machine = Machine::new();
    let (mut ran, mut compared, mut left_out) = (0, 0, 0);
    for (at, block) in blocks.iter().enumerate().filter(|(_, block)| block.is_command()) {
        let (exits, again) = match fate(block) {
            Fate::Run { exits, again } => (exits, again),
            Fate::LeftOut { why } => {
                println!("{PAGE}:{} is left out: {why}", block.line);
                left_out += 1;
                continue;
            }
        };
        let shown = shown(&blocks, at);
        let until = Instant::now() + PATIENCE;
        let (mut code, mut wrote) = machine.run(&block.text);
        while again
            && !(code == exits && shown.is_none_or(|shown| agrees(shown, &wrote)))
            && Instant::now() < until
        {
            (code, wrote) = machine.run(&block.text);
        }
        assert!(code == exits, "{PAGE}:{} ends with {code}, not with {exits}:\n{wrote}", block.line);
        ran += 1;
        if let Some(shown) = shown {
            compare(PAGE, block, shown, &wrote);
            compared += 1;
        }
    }
    println!("{ran} blocks were run, the results of {compared} compared, {left_out} left out");
    assert!(ran >= 40 && compared >= 25, "only {ran} blocks are run, {compared} compared");
    assert!(left_out * 5 <= ran, "{left_out} blocks are left out, of {}", ran + left_out);
}
