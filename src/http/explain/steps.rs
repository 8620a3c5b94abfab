//! The steps of a call, in their order, each asked of the very function that the request path asks. The first one that refuses
//! decides; those behind it are not reached.
//!
//! Must not know who asks, but for whether they may know of everything.

use std::sync::Arc;

use serde_json::{Value, json};

use super::absent::{self, Absence, file_of};
use super::by::By;
use super::{Case, Subject};
use crate::access::Caller;
use crate::access::keys::About;
use crate::access::limits::{Excess, Of};
use crate::actors::executor::limited;
use crate::catalog::{Seat, ToolEntry, ViewName};
use crate::config::Quota;
use crate::error::{ErrorCode, Fault};
use crate::http::quotas::{self, Owner, Payer};
use crate::http::{call, caller, mcp, route};

/// THE TABLE of steps.
const STEPS: [&str; 11] = [
    "auth", "scope", "server", "bundle", "filter", "limit", "cache", "state", "breaker", "queue", "deadline",
];

/// How a step ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passes,
    Refuses,
    NotReached,
}

/// One step.
pub struct Step {
    /// Its name.
    pub name: &'static str,
    verdict: Verdict,
    why: String,
    by: Vec<By>,
    advice: Option<String>,
}

impl Step {
    /// Whether the call ends here.
    pub fn is_refusal(&self) -> bool {
        self.verdict == Verdict::Refuses
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let verdict = match self.verdict {
            Verdict::Passes => "passes",
            Verdict::Refuses => "refuses",
            Verdict::NotReached => "not_reached",
        };
        json!({
            "step": self.name,
            "verdict": verdict,
            "why": self.why,
            "by": self.by.iter().map(By::to_json).collect::<Vec<_>>(),
            "advice": self.advice,
        })
    }
}

/// What was found so far; the steps stand in their order.
#[derive(Default)]
struct Trail(Vec<Step>);

/// A step refused; its answer.
type Refused = Fault;

impl Trail {
    fn pass(&mut self, name: &'static str, why: impl Into<String>, by: Vec<By>) {
        self.0.push(Step { name, verdict: Verdict::Passes, why: why.into(), by, advice: None });
    }

    /// Notes what a step found; `advice` is for the operator, and what the caller hears where there is none.
    fn settle<T>(
        &mut self,
        name: &'static str,
        found: Result<T, Fault>,
        passes: impl Into<String>,
        by: Vec<By>,
        advice: Option<String>,
    ) -> Result<T, Refused> {
        match &found {
            Ok(_) => self.pass(name, passes, by),
            Err(fault) => {
                let advice = Some(advice.unwrap_or_else(|| fault.advice.to_string()));
                let why = fault.message.to_string();
                self.0.push(Step { name, verdict: Verdict::Refuses, why, by, advice });
            }
        }
        found
    }
}

/// Walks through all steps; with what the call would be answered where one refuses it.
pub fn walk(case: &Case<'_>) -> (Vec<Step>, Option<Fault>) {
    let mut trail = Trail::default();
    let refusal = enter(case, &mut trail).err();
    let mut steps = trail.0;
    for name in STEPS.into_iter().skip(steps.len()) {
        let (verdict, why) = (Verdict::NotReached, String::new());
        steps.push(Step { name, verdict, why, by: Vec::new(), advice: None });
    }
    (steps, refusal)
}

/// From the key to the tool.
fn enter(case: &Case<'_>, trail: &mut Trail) -> Result<(), Refused> {
    let caller = auth(case.subject, trail, case)?;
    let house = &case.door.frame.house;
    let is_open = house.keys.ring().is_open();
    let may = caller::permit(&caller, mcp::MCP, is_open, || case.subject.is_local);
    let scopes = caller.scopes.names();
    let by = case.subject.about.as_ref().map(|about| By::key(about, "scopes", scopes.clone()));
    let advice = "make a key for MCP: `waygate-mcp keys create NAME --scope mcp`".to_owned();
    let opens = format!("it opens {}", scopes.join(", "));
    trail.settle("scope", may, opens, by.into_iter().collect(), Some(advice))?;
    server(case, trail)?;
    let view = call::view_at(case.bundle, &caller).and_then(|view| {
        drop(route::view(house, &view)?);
        Ok(view)
    });
    let shown = view.as_ref().map(ToString::to_string).unwrap_or_default();
    let view = trail.settle("bundle", view, format!("the path is {shown}"), of_bundles(case), None)?;
    let entry = filter(case, &view, trail)?;
    limit(case, &caller, &view, &entry, trail)?;
    cache(case, &entry, trail);
    work(case, &entry, trail)
}

fn auth(subject: &Subject, trail: &mut Trail, case: &Case<'_>) -> Result<Caller, Refused> {
    let settings = &case.door.frame.settings;
    let found = subject.admitted.clone().map_err(caller::not_let_in);
    let (passes, by) = match (&subject.about, &found) {
        (Some(about), _) => {
            let standing = about.standing(std::time::SystemTime::now()).name();
            let shown = about.to_json(std::time::SystemTime::now());
            let times = ["expiresAt", "revokedAt", "replacedBy", "graceUntil"];
            let times = times.into_iter().filter_map(|time| Some((time, shown.get(time)?)));
            let times = times.filter(|(_, value)| !value.is_null());
            let by = times.map(|(time, value)| By::key(about, time, value.clone()));
            let by = std::iter::once(By::key(about, "standing", standing)).chain(by).collect();
            (format!("the key {} ({}) is {standing}", about.name, about.id), by)
        }
        (None, Ok(caller)) if *caller.principal == *Caller::LOCAL => (
            "over the socket in the data folder no key is asked for".to_owned(),
            vec![By::server("caller", Caller::LOCAL)],
        ),
        (None, Ok(caller)) if caller.is_anonymous() => {
            ("nobody is asked for a key, since there is none".to_owned(), vec![By::server("keys", 0)])
        }
        (None, Ok(_)) => {
            ("it is the operator's own key".to_owned(), vec![By::setting(settings, "access.api_key")])
        }
        (None, Err(_)) => {
            let taken = case.door.frame.house.keys.ring().count(std::time::SystemTime::now()).0;
            (String::new(), vec![By::server("keys", taken)])
        }
    };
    let advice = subject.about.as_ref().map(|about| {
        about.replaced_by.as_ref().map_or_else(
            || "make another key: `waygate-mcp keys create NAME`".to_owned(),
            |next| format!("send the key {next}, which took its place"),
        )
    });
    trail.settle("auth", found, passes, by, advice)
}

fn server(case: &Case<'_>, trail: &mut Trail) -> Result<(), Refused> {
    let frame = &case.door.frame;
    let phase = &frame.house.phase;
    let by = vec![
        By::server("phase", phase.name()),
        By::setting(&frame.settings, "limits.calls_max"),
        By::setting(&frame.settings, "limits.answers_max_bytes"),
    ];
    let found = phase.admits().and_then(|()| frame.quotas.has_room());
    let advice = "see what takes so long by `waygate-mcp status` and `waygate-mcp plugins list`".to_owned();
    trail.settle("server", found, format!("it is {}, and has room", phase.name()), by, Some(advice))
}

/// What decides who may use which path.
fn of_bundles(case: &Case<'_>) -> Vec<By> {
    let selection = |about: &About| about.bundles.clone();
    let of_key = case.subject.about.as_ref().and_then(|about| Some((about, selection(about)?)));
    let of_key = of_key.into_iter().flat_map(|(about, bundles)| {
        let lists = [("bundles.allow", bundles.allow().to_vec()), ("bundles.deny", bundles.deny().to_vec())];
        lists.map(|(field, globs)| By::key(about, field, globs))
    });
    let file = case.bundle.filter(|_| case.sees_all).map(|name| By::file(&file_of(name), "kind", "bundle"));
    let is_bundle = case.bundle.is_some_and(|name| {
        let views = case.door.frame.house.shelf.views();
        views.iter().any(|view| view.is_bundle && &*view.name == name)
    });
    of_key.chain(file.filter(|_| is_bundle)).collect()
}

/// Whether the tool is there, for this caller at this path.
fn filter(case: &Case<'_>, view: &ViewName, trail: &mut Trail) -> Result<Arc<ToolEntry>, Refused> {
    let house = &case.door.frame.house;
    let found =
        route::view(house, view).and_then(|catalog| route::tool_named(house, view, &catalog, case.tool));
    match found {
        Ok(entry) => {
            let seat = &entry.seat;
            let why = format!("{} is the tool {} of the plugin {}", entry.name, entry.local, seat.name);
            trail.pass("filter", why, of_file(case, seat));
            Ok(entry)
        }
        // What a plugin offers that never came up is not known.
        Err(fault) if fault.code == ErrorCode::Unavailable => {
            trail.pass("filter", "what its plugin offers is not known while it is away", Vec::new());
            away(trail, fault)
        }
        Err(fault) if case.sees_all => {
            let Absence { why, by, advice } = absent::why(case, view);
            let verdict = Verdict::Refuses;
            trail.0.push(Step { name: "filter", verdict, why, by, advice: Some(advice) });
            Err(fault)
        }
        Err(fault) => trail.settle("filter", Err(fault), "", Vec::new(), None),
    }
}

fn away<T>(trail: &mut Trail, fault: Fault) -> Result<T, Refused> {
    for step in ["limit", "cache"] {
        trail.pass(step, "not looked at, since it is not known which tool it is", Vec::new());
    }
    let advice =
        "`waygate-mcp plugins list` says why, `waygate-mcp plugins reload` begins it anew".to_owned();
    trail.settle("state", Err(fault), "", Vec::new(), Some(advice))
}

/// What of its plugin's file lets the tool through.
fn of_file(case: &Case<'_>, seat: &Seat) -> Vec<By> {
    let said = seat.curator.curation();
    let Some(file) = origin(case, seat) else { return Vec::new() };
    let lists = [("allow", &said.allow), ("deny", &said.deny)];
    let lists = lists.into_iter().filter(|(_, globs)| !globs.is_empty() && case.sees_all);
    lists.map(|(field, globs)| By::file(&file, field, globs.clone())).collect()
}

/// The file that describes a plugin.
fn origin(case: &Case<'_>, seat: &Seat) -> Option<String> {
    let member = case.door.frame.house.plugins.get(&seat.name)?;
    member.origin.as_ref().map(|path| path.display().to_string())
}

fn limit(
    case: &Case<'_>,
    caller: &Caller,
    view: &ViewName,
    entry: &ToolEntry,
    trail: &mut Trail,
) -> Result<(), Refused> {
    let frame = &case.door.frame;
    let bundle = quotas::bundle(frame, view);
    let payer = Payer {
        caller,
        from: case.subject.from,
        view,
        request_id: &Arc::default(),
        session: None,
        span: None,
        is_free: false,
    };
    let found = frame.quotas.foresee(&payer, bundle.as_deref()).and_then(|()| limited::look(entry));
    let tool = entry.allowance.as_deref().map(Owner::Known);
    let owners = frame.quotas.owners(&payer, bundle.as_deref()).into_iter().chain([tool]).flatten();
    let all: Vec<(Of, String, Quota)> = owners.map(Owner::told).collect();
    let (by, advice) = match &found {
        Ok(()) => (all.iter().flat_map(|(of, _, quota)| of_limit(case, entry, *of, *quota)).collect(), None),
        Err(excess) => {
            // The cache is asked before the tool's limits.
            let kept = excess.of == Of::Tool && keeps_any(case) && entry.caching.is_looked_for();
            let still = if kept { "; answers that are kept are given all the same" } else { "" };
            (of_limit(case, entry, excess.of, excess.quota), Some(raise(case, excess) + still))
        }
    };
    let whose: Vec<&str> = all.iter().map(|(of, ..)| of.name()).collect();
    let passes = if whose.is_empty() {
        "nothing is limited".to_owned()
    } else {
        format!("something is left of the limits of: {}", whose.join(", "))
    };
    trail.settle("limit", found.map_err(Fault::from), passes, by, advice)
}

/// Whether the call may end here, since its answer is kept. Which answer that is depends on what is asked.
fn cache(case: &Case<'_>, entry: &ToolEntry, trail: &mut Trail) {
    let settings = &case.door.frame.settings;
    let mut by = vec![By::setting(settings, "cache.type")];
    if let Some(lasts) = entry.caching.said() {
        let file = origin(case, &entry.seat).unwrap_or_else(|| file_of(&entry.seat.name));
        by.push(By::file(&file, &format!("tools.{}.cache_seconds", entry.local), lasts.as_secs()));
        by.push(By::setting(settings, "cache.ttl_seconds"));
    }
    let why = if !keeps_any(case) {
        "this server keeps no answers"
    } else if entry.caching.is_looked_for() {
        "if the answer to the same question is kept, it is given, and the call goes no further: its tool's limits, and what follows \
         here, are not asked"
    } else if entry.caching.heeds() {
        "no answer of it has said yet that it may be kept"
    } else {
        "its answers are not kept"
    };
    trail.pass("cache", why, by);
}

fn keeps_any(case: &Case<'_>) -> bool {
    case.door.frame.house.bench.cache.is_some()
}

/// Where the limits of an owner are set.
fn of_limit(case: &Case<'_>, entry: &ToolEntry, of: Of, quota: Quota) -> Vec<By> {
    let settings = &case.door.frame.settings;
    let set = |names: [&'static str; 3]| {
        let limits = [quota.requests_per_minute, quota.burst, quota.concurrent];
        names.into_iter().zip(limits).filter_map(|(name, limit)| Some((name, limit?))).collect::<Vec<_>>()
    };
    let of_settings = |names| {
        let set: Vec<(&'static str, u32)> = set(names);
        set.into_iter().map(|(name, _)| By::setting(settings, name)).collect()
    };
    let in_file = |file: &str, before: &str| {
        let set = set(["requests_per_minute", "burst", "concurrent"]);
        set.into_iter().map(|(name, limit)| By::file(file, &format!("{before}{name}"), limit)).collect()
    };
    match of {
        Of::Server => of_settings(["limits.requests_per_minute", "limits.burst", "limits.calls_max"]),
        Of::Address => of_settings([
            "limits.address_requests_per_minute",
            "limits.address_burst",
            "limits.address_concurrent",
        ]),
        Of::Key => case.subject.about.as_ref().map_or_else(Vec::new, |about| {
            let set = set(["limits.requestsPerMinute", "limits.burst", "limits.concurrent"]);
            set.into_iter().map(|(name, limit)| By::key(about, name, limit)).collect()
        }),
        Of::Bundle => in_file(&file_of(case.bundle.unwrap_or_default()), ""),
        Of::Tool => {
            let file = origin(case, &entry.seat).unwrap_or_else(|| file_of(&entry.seat.name));
            in_file(&file, &format!("tools.{}.", entry.local))
        }
    }
}

/// How the operator raises a limit.
fn raise(case: &Case<'_>, excess: &Excess) -> String {
    let wait = excess.wait.as_secs().max(1);
    let how = match excess.of {
        Of::Key => {
            let which = case.subject.about.as_ref().map_or("NAME", |about| &*about.id);
            format!("`waygate-mcp keys limit {which} --rate N/min`")
        }
        Of::Server | Of::Address => "the setting, with a restart".to_owned(),
        Of::Bundle | Of::Tool => "the field in that file, which is read at once".to_owned(),
    };
    format!("wait {wait} s, or raise it: {how}")
}

/// From the tool to its plugin.
fn work(case: &Case<'_>, entry: &ToolEntry, trail: &mut Trail) -> Result<(), Refused> {
    let seat = &entry.seat;
    let name = &seat.name;
    let why = seat.why().filter(|_| case.sees_all).map(|why| By::plugin(name, "why", why));
    let state = std::iter::once(By::plugin(name, "state", seat.state_name())).chain(why).collect();
    let show =
        format!("`waygate-mcp plugins show {name}` says more, `waygate-mcp plugins reload` begins it anew");
    let passes = format!("the plugin {name} is {}", seat.state_name());
    trail.settle("state", seat.admits(), passes, state, Some(show))?;
    let by = seat.limits.breaker.map_or_else(Vec::new, |rule| {
        let file = origin(case, seat).unwrap_or_else(|| file_of(name));
        let open_seconds = rule.open.as_secs();
        vec![
            By::plugin(name, "circuit", seat.circuit().name()),
            By::file(&file, "breaker.failures", rule.failures),
            By::file(&file, "breaker.open_seconds", open_seconds),
        ]
    });
    let passes = match seat.limits.breaker {
        None => "it has no breaker".to_owned(),
        Some(_) => format!("its breaker is {}", seat.circuit().name()),
    };
    let advice =
        format!("wait, or mend the server behind it; `waygate-mcp plugins show {name}` says how it failed");
    trail.settle("breaker", seat.look_at_breaker(), passes, by, Some(advice))?;
    queue(case, seat, trail)?;
    deadline(case, entry, trail);
    Ok(())
}

fn queue(case: &Case<'_>, seat: &Seat, trail: &mut Trail) -> Result<(), Refused> {
    let own = &seat.limits.own;
    let mut by = vec![
        of_plugin(
            case,
            seat,
            own.concurrency.is_some(),
            ("concurrency", "plugins.concurrency"),
            seat.limits.concurrency,
        ),
        of_plugin(
            case,
            seat,
            own.queue_max.is_some(),
            ("queue_max", "plugins.queue_max"),
            seat.limits.queue_max,
        ),
        By::plugin(&seat.name, "running", seat.running()),
        By::plugin(&seat.name, "queued", seat.queued()),
    ];
    if let (Some(timeout), Some(file)) = (own.queue_timeout, origin(case, seat)) {
        by.push(By::file(&file, "queue_timeout_seconds", timeout.as_secs()));
    }
    let found = seat.look_at_queue();
    let passes = match &found {
        Ok(Some(before)) => format!("all places are taken, and it would wait behind {before} others"),
        _ => "a place is free".to_owned(),
    };
    let advice = "wait, or raise concurrency or queue_max, or see which calls do not end".to_owned();
    trail.settle("queue", found.map(drop), passes, by, Some(advice))
}

fn deadline(case: &Case<'_>, entry: &ToolEntry, trail: &mut Trail) {
    let seat = &entry.seat;
    let by = match (entry.timeout_seconds, origin(case, seat)) {
        (Some(seconds), file) => {
            let file = file.unwrap_or_else(|| file_of(&seat.name));
            By::file(&file, &format!("tools.{}.timeout_seconds", entry.local), seconds)
        }
        (None, _) => {
            let is_own = seat.limits.own.timeout.is_some();
            let names = ("timeout_seconds", "server.timeout_seconds");
            of_plugin(case, seat, is_own, names, seat.limits.timeout_seconds)
        }
    };
    trail.pass("deadline", format!("it would be given up after {} s", entry.seconds()), vec![by]);
}

/// A limit of a plugin: its file's, where that says it, else the setting for all; a plugin of the binary may have one of its own.
fn of_plugin(
    case: &Case<'_>,
    seat: &Seat,
    is_own: bool,
    (field, setting): (&str, &str),
    value: impl Into<Value>,
) -> By {
    let value = value.into();
    if let Some(file) = origin(case, seat).filter(|_| is_own) {
        return By::file(&file, field, value);
    }
    let by = By::setting(&case.door.frame.settings, setting);
    if by.is(&value) { by } else { By::plugin(&seat.name, field, value) }
}
