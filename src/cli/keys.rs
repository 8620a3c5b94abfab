//! `keys create | list | show | rotate | limit | revoke | delete`: who may come in, changed in the database itself; a running server
//! notices within a second.
//!
//! Must not know what a key looks like.

mod table;

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use jiff::Zoned;
use serde_json::{Value, json};

use super::{Exit, output, serve};
use crate::app::keys::{
    Act, Acted, BookError, Form, FormLimits, GRACE_DEFAULT, KeyBook, KeyError, Renewal, end, until,
};
use crate::config::Config;

pub const EXAMPLES: &str = "\
Examples:
  waygate-mcp keys create laptop                                 a key that may use every tool
  waygate-mcp keys create ci --expires 90d --allow 'files__read_*' --rate 60/min
  waygate-mcp keys create prometheus --scope ops:read            reads /metrics and the other operations URLs
  waygate-mcp keys create ada --scope admin --owner ada@example.org
  waygate-mcp keys list
  waygate-mcp keys rotate ci --grace 24h                         a new key; the old one is taken for a day
  waygate-mcp keys limit ci --rate 60/min --burst 10            from now on; without any option, no limit
  waygate-mcp keys revoke ci                                     not taken any more, within a second

The key itself is written to stdout, once: only its hash is kept. Globs name tools and prompts as `tools list` shows them;
quote them, or the shell takes `*` for file names.
";

/// What can be done to keys.
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum KeysCommand {
    /// Make a key, and write it to stdout
    Create(Box<CreateArgs>),
    /// List all keys, the oldest first
    List,
    /// Show everything about one key but the key itself
    Show {
        /// Its id, or its name if no other has it
        which: String,
    },
    /// Make a key in the place of another, which is taken beside it for a while
    Rotate(RotateArgs),
    /// Let a key use up this much from now on; what is not said has no limit
    Limit(LimitArgs),
    /// Take a key back, with those that it took the place of
    Revoke {
        /// Its id, or its name if no other has it
        which: String,
    },
    /// Take a key back and forget it
    Delete {
        /// Its id, or its name if no other has it
        which: String,
    },
}

/// A key to be made.
#[derive(Debug, Clone, Args)]
pub struct CreateArgs {
    /// What to call it
    name: String,
    /// Who gets it
    #[arg(long, value_name = "WHO")]
    owner: Option<String>,
    /// When it ends: 90d, 2027-01-31, 2027-01-31T18:00Z, or never
    #[arg(long, value_name = "TIME", default_value = "never")]
    expires: String,
    /// What it opens: mcp, ops:read or admin; may be given several times
    #[arg(long = "scope", value_name = "SCOPE", default_value = "mcp")]
    scopes: Vec<String>,
    /// Only tools and prompts that match; may be given several times
    #[arg(long, value_name = "GLOB")]
    allow: Vec<String>,
    /// No tools and prompts that match, whatever else is allowed
    #[arg(long, value_name = "GLOB")]
    deny: Vec<String>,
    /// Only bundles that match, at their paths; /mcp itself is then closed
    #[arg(long = "bundle", value_name = "GLOB")]
    bundles: Vec<String>,
    /// No bundles that match
    #[arg(long = "deny-bundle", value_name = "GLOB")]
    deny_bundles: Vec<String>,
    /// Requests a minute, as 60/min
    #[arg(long, value_name = "N/min", value_parser = rate)]
    rate: Option<u32>,
    #[command(flatten)]
    more: BurstArgs,
}

/// What goes with a rate, and without one.
#[derive(Debug, Clone, Copy, Args)]
pub struct BurstArgs {
    /// Requests at once; without it, as many as a minute gives
    #[arg(long, value_name = "N")]
    burst: Option<u32>,
    /// Calls that run at once
    #[arg(long, value_name = "N")]
    concurrent: Option<u32>,
}

/// What a key may use up.
#[derive(Debug, Clone, Args)]
pub struct LimitArgs {
    /// Its id, or its name if no other has it
    which: String,
    /// Requests a minute, as 60/min
    #[arg(long, value_name = "N/min", value_parser = rate)]
    rate: Option<u32>,
    #[command(flatten)]
    more: BurstArgs,
}

/// A key to be rotated.
#[derive(Debug, Clone, Args)]
pub struct RotateArgs {
    /// Its id, or its name if no other has it
    which: String,
    /// How long the old key is taken beside the new one: 24h, 7d, or 0
    #[arg(long, value_name = "DURATION", default_value = GRACE_DEFAULT)]
    grace: String,
    /// When the new key ends, as with `create`; without it, it lives as long as the old one was made to
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
}

/// Reads `60/min`.
fn rate(text: &str) -> Result<u32, String> {
    let number = ["/min", "/m", ""].iter().find_map(|unit| text.strip_suffix(unit)?.parse().ok());
    number.ok_or_else(|| "write requests a minute, as 60/min".to_owned())
}

/// Runs one of them. 0 means that it was done, 1 that there is no such key.
///
/// # Errors
/// What makes no sense in a wish; what the database says, with what to do.
pub fn run(command: KeysCommand, config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    match attempt(command, config, json) {
        Ok(()) => Ok(Exit::Ok.into()),
        Err(error) => {
            let exit = match error.downcast_ref() {
                Some(BookError::Storage(error)) => serve::exit_of_storage(error),
                Some(BookError::Old(_)) => Exit::Storage,
                Some(BookError::Key(KeyError::Chance(_))) => Exit::Internal,
                Some(BookError::Key(_)) => Exit::Failure,
                Some(BookError::Seal(_)) => Exit::CannotCreate,
                None => Exit::Usage,
            };
            output::say(&format!("waygate-mcp: {error:#}"));
            Ok(exit.into())
        }
    }
}

fn attempt(command: KeysCommand, config: &Config, json: bool) -> anyhow::Result<()> {
    let now = Zoned::now();
    // What makes no sense is refused before anything is opened or made.
    let act = match command {
        KeysCommand::List => return list(config, json),
        KeysCommand::Show { which } => return show(&which, config, json),
        KeysCommand::Create(args) => Act::Create(args.form().check(&now).map_err(|why| anyhow!(why))?),
        KeysCommand::Rotate(args) => args.act(&now).map_err(|why| anyhow!(why))?,
        KeysCommand::Limit(args) => args.act().map_err(|why| anyhow!(why))?,
        KeysCommand::Revoke { which } => Act::Revoke { which },
        KeysCommand::Delete { which } => Act::Delete { which },
    };
    let book = KeyBook::open(config, matches!(act, Act::Create(_)))?;
    let acted = book.act(config, &act)?;
    tell(&acted, &act, config, json)
}

impl CreateArgs {
    fn form(self) -> Form {
        Form {
            name: self.name,
            owner: self.owner,
            expires: Some(self.expires),
            scopes: self.scopes,
            allow: self.allow,
            deny: self.deny,
            bundles: self.bundles,
            deny_bundles: self.deny_bundles,
            limits: self.more.limits(self.rate),
        }
    }
}

impl BurstArgs {
    fn limits(self, requests_per_minute: Option<u32>) -> FormLimits {
        FormLimits { requests_per_minute, burst: self.burst, concurrent: self.concurrent }
    }
}

impl LimitArgs {
    fn act(self) -> Result<Act, String> {
        let quota = self.more.limits(self.rate).check()?;
        Ok(Act::Limit { which: self.which, quota })
    }
}

impl RotateArgs {
    fn act(self, now: &Zoned) -> Result<Act, String> {
        let renewal = match &self.expires {
            None => Renewal::AsBefore,
            Some(text) => Renewal::Until(end(text, now)?),
        };
        Ok(Act::Rotate { which: self.which, grace_until: until(&self.grace, now)?, renewal })
    }
}

fn list(config: &Config, json: bool) -> anyhow::Result<()> {
    let all: Vec<Value> =
        KeyBook::open(config, false)?.all()?.iter().map(|key| key.to_json(SystemTime::now())).collect();
    if json {
        output::print_json(&json!({"keys": all}))
    } else if all.is_empty() {
        output::say("there are no keys; make one by `waygate-mcp keys create NAME`");
        Ok(())
    } else {
        output::print(&table::of(&all))
    }
}

fn show(which: &str, config: &Config, json: bool) -> anyhow::Result<()> {
    let all = KeyBook::open(config, false)?.all()?;
    let id = which.strip_prefix("key-").unwrap_or(which);
    let mut found: Vec<_> = all.iter().filter(|key| &*key.id == id).collect();
    if found.is_empty() {
        found = all.iter().filter(|key| key.name == which).collect();
    }
    if found.is_empty() {
        return Err(BookError::from(KeyError::Unknown(which.to_owned())).into());
    }
    let shown: Vec<Value> = found.iter().map(|key| key.to_json(SystemTime::now())).collect();
    if json {
        return output::print_json(&json!({"keys": shown}));
    }
    output::print(&shown.iter().map(table::sheet).collect::<Vec<_>>().join("\n"))
}

/// Says what was done: the key alone to stdout, all else to stderr.
fn tell(acted: &Acted, act: &Act, config: &Config, json: bool) -> anyhow::Result<()> {
    let key = acted.key.to_json(SystemTime::now());
    if json {
        let secret = acted.secret.as_ref().map(crate::config::Secret::expose);
        output::print_json(&json!({"key": key, "secret": secret, "others": acted.others}))?;
    } else if let Some(secret) = &acted.secret {
        output::print(secret.expose())?;
    }
    let (id, name) = (&acted.key.id, table::on_one_line(&acted.key.name));
    let others = acted.others.join(", ");
    match act {
        Act::Create(_) => {
            output::say(&format!("made key {id} ({name}); it is shown this once, and only its hash is kept"));
        }
        Act::Rotate { .. } => output::say(&format!(
            "made key {id} ({name}) in the place of {others}; it is shown this once, and `keys show {others}` says until when the \
             old one is taken"
        )),
        Act::Limit { .. } => output::say(&format!(
            "key {id} ({name}) has these limits and no others; servers hold it to them within a second"
        )),
        Act::Revoke { .. } if others.is_empty() => {
            output::say(&format!("revoked key {id} ({name}); servers refuse it within a second"));
        }
        Act::Revoke { .. } => output::say(&format!(
            "revoked key {id} ({name}), and {others} that it took the place of; servers refuse them within a second"
        )),
        Act::Delete { .. } => {
            output::say(&format!("deleted key {id} ({name}); servers refuse it within a second"));
        }
    }
    if acted.is_first && config.access.api_key.is_none() {
        output::say("this is the first key: a server that was open to everybody asks for a key from now on");
    }
    if acted.is_last && config.access.api_key.is_none() {
        output::say(
            "this was the last key: a server that runs stays closed, and one that starts anew is open where it may be without keys",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_of_requests_a_minute() {
        assert_eq!((rate("60/min"), rate("5"), rate("7/m")), (Ok(60), Ok(5), Ok(7)));
        for bad in ["", "/min", "60/s", "-1", "x"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
