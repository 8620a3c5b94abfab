//! The shelf as a whole: orders, collisions, views, what is kept over a change and who hears of it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::time::{Duration, Instant};

use super::*;
use crate::config::plugin::{BundleFile, Curation, PluginLimits, ToolCuration};
use crate::config::{Quota, Selection};
use crate::plugins::{Context, Inventory, Outcome, Plugin, PluginError, Request};
use crate::protocol::Definition;
use crate::telemetry::metrics::METRICS;

struct Idle;

impl Plugin for Idle {
    fn inventory(&self) -> Inventory {
        Inventory::default()
    }
    fn handle(self: Arc<Self>, _: Request, _: Context) -> BoxFuture<'static, Result<Outcome, PluginError>> {
        Box::pin(std::future::ready(Err(PluginError::Unknown("anything".to_owned()))))
    }
}

fn limits() -> SeatLimits {
    SeatLimits {
        concurrency: 1,
        queue_max: 1,
        queue_timeout: None,
        blocking_threads: 1,
        lost_threads_max: 1,
        timeout_seconds: 1,
        breaker: None,
        start_timeout: None,
        own: PluginLimits::default(),
    }
}

fn seat_with(name: &str, curation: Curation) -> Seat {
    let seat = Seat::new(name, Arc::new(curation), Arc::new(Idle), limits());
    seat.turn(PluginState::Ready, None, None);
    seat
}

fn seat(name: &str) -> Arc<Seat> {
    Arc::new(seat_with(name, Curation { front: true, ..Curation::default() }))
}

fn plain(name: &str) -> Arc<Seat> {
    Arc::new(seat_with(name, Curation { front: true, plain: true, ..Curation::default() }))
}

fn shelf() -> Shelf {
    Shelf::new(Manner { page_size: 2, ttl_ms: 0, info: ServerInfo::new("s", "1") })
}

fn offers(tools: &[&str]) -> Inventory {
    described("A tool", tools)
}

fn described(says: &str, tools: &[&str]) -> Inventory {
    let schema = || json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let tool = |name: &&str| Definition::tool(name, says, schema());
    Inventory { tools: tools.iter().map(tool).collect(), ..Inventory::default() }
}

fn names(catalog: &Snapshot) -> Vec<&str> {
    catalog.tools().map(|tool| &*tool.name).collect()
}

fn bundle(plugins: &[&str], tools: &[&str], plain: bool) -> BundleFile {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    BundleFile { plugins: words(plugins), tools: words(tools), plain, ..BundleFile::default() }
}

fn look(shelf: &Shelf, name: &str) -> Arc<Snapshot> {
    Arc::clone(&shelf.view(&ViewName::of(name)).unwrap())
}

#[test]
fn the_order_is_that_of_registration_and_then_of_names_whoever_was_first() {
    let shelf = shelf();
    let own = |name: &str, n: usize| Arc::new(seat_with(name, Curation::default()).registered(n));
    for seat in [seat("m"), own("z", 0), seat("b"), own("a", 1)] {
        shelf.publish(&seat, offers(&["y", "x"]));
    }
    let wanted = ["z__y", "z__x", "a__y", "a__x", "b__y", "b__x", "m__y", "m__x"];
    assert_eq!(names(&shelf.keep()), wanted);
    shelf.publish(&seat("b"), offers(&["y", "x", "w"]));
    assert_eq!(names(&shelf.keep())[4..7], ["b__y", "b__x", "b__w"]);
}

#[test]
fn a_name_without_prefix_belongs_to_the_first_and_the_other_learns_whose_it_is() {
    let shelf = shelf();
    let (second, first) = (plain("beta"), plain("alpha"));
    shelf.publish(&second, offers(&["same", "other"]));
    assert_eq!(second.state(), PluginState::Ready);
    shelf.publish(&first, offers(&["same"]));
    let catalog = shelf.keep();
    assert_eq!(names(&catalog), ["same", "other"]);
    assert_eq!(&*catalog.tool("same").unwrap().seat.name, "alpha");
    let refused = &catalog.refused[0];
    assert_eq!(&*refused.plugin, "beta");
    assert!(refused.why.contains("\"alpha\"") && refused.why.contains("\"beta\""), "{}", refused.why);
    assert_eq!((first.state(), second.state()), (PluginState::Ready, PluginState::Degraded));
    // Alone it has it all the same.
    assert_eq!(names(&look(&shelf, "beta")), ["same", "other"]);
    shelf.rearrange(vec![Arrangement::Remove(Arc::clone(&first))]);
    assert_eq!(&*shelf.keep().tool("same").unwrap().seat.name, "beta");
    assert_eq!(second.state(), PluginState::Ready);
}

#[test]
fn a_uri_that_two_have_is_the_firsts_and_neither_is_the_worse_for_it() {
    let shelf = shelf();
    let note =
        || Inventory { resources: vec![Definition::resource("x:note", "note")], ..Inventory::default() };
    let (one, two) = (seat("one"), seat("two"));
    shelf.publish(&two, note());
    shelf.publish(&one, note());
    let catalog = shelf.keep();
    assert_eq!(&*catalog.resource("x:note").unwrap().seat.name, "one");
    assert!(catalog.refused.iter().any(|refused| &*refused.plugin == "two" && !refused.degrades));
    assert_eq!((one.state(), two.state()), (PluginState::Ready, PluginState::Ready));
}

#[test]
fn a_linked_uri_is_found_where_its_plugin_has_a_part_and_not_elsewhere() {
    let shelf = shelf();
    shelf.publish(&seat("one"), offers(&["t"]));
    shelf.publish(&seat("two"), offers(&["t"]));
    shelf.links().note("x:linked", &"two".into());
    let owner =
        |catalog: &Snapshot| shelf.owner(catalog, "x:linked").map(|entry| entry.seat.name.to_string());
    assert_eq!(owner(&shelf.keep()).as_deref(), Some("two"));
    assert_eq!(owner(&look(&shelf, "two")).as_deref(), Some("two"));
    assert_eq!(owner(&look(&shelf, "one")), None);
    // Another instance of the same server links to the same, and each front goes on with its own.
    shelf.links().note("x:linked", &"one".into());
    assert_eq!(owner(&shelf.keep()).as_deref(), Some("one"), "the last one");
    assert_eq!(owner(&look(&shelf, "one")).as_deref(), Some("one"));
    assert_eq!(owner(&look(&shelf, "two")).as_deref(), Some("two"));
}

#[test]
fn nothing_is_compiled_or_rendered_again_that_did_not_change() {
    let shelf = shelf();
    let (one, two) = (seat("one"), seat("two"));
    shelf.publish(&one, offers(&["a", "b"]));
    shelf.publish(&two, offers(&["c", "d"]));
    let (before, alone) = (shelf.keep(), look(&shelf, "one"));
    assert!(Arc::ptr_eq(&alone.tool("a").unwrap().input, &before.tool("one__a").unwrap().input));
    shelf.publish(&two, offers(&["c", "e"]));
    let after = shelf.keep();
    for kept in ["one__a", "one__b", "two__c"] {
        assert!(Arc::ptr_eq(before.tool(kept).unwrap(), after.tool(kept).unwrap()), "{kept}");
    }
    let page = |catalog: &Snapshot, cursor| Arc::clone(catalog.tools_list.page(cursor).unwrap());
    assert!(Arc::ptr_eq(&page(&before, None), &page(&after, None)));
    assert!(Arc::ptr_eq(&alone, &look(&shelf, "one")), "its view is the very same");
    shelf.publish(&one, offers(&["a", "f"]));
    assert!(Arc::ptr_eq(alone.tool("a").unwrap(), look(&shelf, "one").tool("a").unwrap()));
}

#[test]
fn a_view_is_built_when_somebody_looks_and_who_looked_hears_of_its_changes() {
    let shelf = shelf();
    let (one, two) = (seat("one"), seat("two"));
    shelf.publish(&one, offers(&["a", "b"]));
    shelf.publish(&two, offers(&["c"]));
    shelf.set_bundles(vec![("few".to_owned(), bundle(&["one"], &["one__a"], false))]);
    assert!(shelf.keep().views.values().all(|view| view.built().is_none()));
    let few = ViewName::of("few");
    let unseen = shelf.publish(&one, offers(&["a"]));
    assert_eq!((unseen.main.tools, unseen.of(&few)), (true, Kinds::default()));
    assert_eq!(names(&look(&shelf, "few")), ["one__a"]);
    let elsewhere = shelf.publish(&two, offers(&["c", "d"]));
    assert_eq!((elsewhere.main.tools, elsewhere.of(&few).tools), (true, false));
    // A tool that the bundle does not take.
    assert_eq!(shelf.publish(&one, offers(&["a", "z"])).of(&few), Kinds::default());
    let seen = shelf.publish(&one, described("Another", &["a", "z"]));
    assert_eq!(seen.of(&few), Kinds { tools: true, ..Kinds::default() });
    // It goes, and comes back as something else.
    assert_eq!(shelf.set_bundles(Vec::new()).of(&few), Kinds::ALL);
    assert!(shelf.view(&few).is_none());
}

#[test]
fn many_changes_at_once_are_one_snapshot() {
    let shelf = shelf();
    let old = seat("old");
    shelf.publish(&old, offers(&["a"]));
    look(&shelf, "old");
    let changed = shelf.rearrange(vec![
        Arrangement::Put(seat("new"), offers(&["b"])),
        Arrangement::Remove(old),
        Arrangement::Bundles(vec![("some".to_owned(), bundle(&[], &["new__*"], false))]),
    ]);
    assert_eq!(names(&shelf.keep()), ["new__b"]);
    assert_eq!(names(&look(&shelf, "some")), ["new__b"]);
    assert!(shelf.view(&ViewName::of("old")).is_none());
    assert!(changed.main.tools && changed.of(&ViewName::of("old")) == Kinds::ALL);
}

#[test]
fn a_bundle_of_a_plugins_name_or_with_a_glob_that_is_none_is_refused_with_a_reason() {
    let shelf = shelf();
    shelf.publish(&Arc::new(seat_with("taken", Curation::default())), offers(&["a"]));
    shelf.set_bundles(vec![
        ("taken".to_owned(), bundle(&["taken"], &[], false)),
        ("broken".to_owned(), bundle(&[], &["[x"], false)),
    ]);
    let catalog = shelf.keep();
    let why = |name: &str| {
        catalog
            .refused_bundles
            .iter()
            .find(|refused| &*refused.plugin == name)
            .map(|refused| refused.why.clone())
    };
    assert!(why("taken").is_some_and(|why| why.contains("a plugin has its name")));
    assert!(why("broken").is_some_and(|why| why.contains("[x")));
    // Without a front of its own the plugin is not there either.
    assert!(shelf.view(&ViewName::of("taken")).is_none() && shelf.view(&ViewName::of("broken")).is_none());
    assert!(shelf.views().is_empty());
}

#[test]
fn a_definition_that_changed_is_counted_once_also_over_a_quarantine_and_a_new_seat() {
    let shelf = shelf();
    let counted = || METRICS.tool_definition_changes.with_label_values(&["counted"]).get();
    shelf.remember([sighting("counted", "old", "another")]);
    shelf.publish(&seat("counted"), offers(&["a", "b", "old"]));
    assert_eq!(counted(), 1, "what was known from before this process counts");
    let old = shelf.sightings("counted").remove("old").unwrap();
    assert_eq!(old.previous.as_deref(), Some("another"));
    assert!(old.changed_at > Some(old.first_seen_at));
    shelf.publish(&seat("counted"), offers(&["b", "a", "old"]));
    assert_eq!(counted(), 1, "another order is no other definition");
    shelf.publish(&seat("counted"), Inventory::default());
    shelf.publish(&seat("counted"), described("Changed", &["a", "b"]));
    assert_eq!(counted(), 3);
    shelf.publish(&seat("counted"), offers(&["a"]));
    shelf.publish(&seat("counted"), described("Changed", &["a", "b"]));
    assert_eq!(
        counted(),
        5,
        "a tool that went and came back the same has not changed, one that changed twice has"
    );
    let catalog = shelf.keep();
    let digests: Vec<_> = catalog.digests().collect();
    assert_eq!(digests.len(), 2);
    assert_eq!((&**digests[0].0, &**digests[0].1, digests[0].2.len()), ("counted", "a", 64));
    assert_eq!(catalog.tokens(), catalog.tools().map(|tool| tool.tokens()).sum::<usize>());
}

fn sighting(plugin: &str, tool: &str, digest: &str) -> Sighting {
    Sighting {
        plugin: plugin.into(),
        tool: tool.into(),
        digest: digest.into(),
        previous: None,
        first_seen_at: std::time::SystemTime::UNIX_EPOCH,
        changed_at: None,
    }
}

#[test]
fn what_comes_with_the_program_changes_with_it_and_is_warned_about_only_while_it_runs() {
    let shelf = shelf();
    let counted = || METRICS.tool_definition_changes.with_label_values(&["brought"]).get();
    let seat = Arc::new(Seat::new("brought", Arc::default(), Arc::new(Idle), limits()).registered(0));
    shelf.remember([sighting("brought", "a", "of the last version")]);
    shelf.publish(&seat, offers(&["a"]));
    assert_eq!(counted(), 0);
    assert!(shelf.sightings("brought")["a"].changed_at.is_some());
    shelf.publish(&seat, described("Changed", &["a"]));
    assert_eq!(counted(), 1);
}

#[test]
fn each_new_sighting_is_given_out_once_and_once_more_when_it_is_given_back() {
    let shelf = shelf();
    shelf.publish(&seat("given"), offers(&["a", "b", "c"]));
    let tools = |some: &[Sighting]| some.iter().map(|one| one.tool.to_string()).collect::<Vec<_>>();
    let some = shelf.take_unsaved(2);
    assert_eq!(tools(&some), ["a", "b"]);
    shelf.give_back(some);
    assert_eq!(tools(&shelf.take_unsaved(9)), ["a", "b", "c"]);
    shelf.publish(&seat("given"), offers(&["c", "b", "a"]));
    assert!(shelf.take_unsaved(9).is_empty());
    shelf.publish(&seat("given"), described("Changed", &["b"]));
    assert_eq!(tools(&shelf.take_unsaved(9)), ["b"]);
}

#[test]
fn a_plain_name_takes_no_name_from_behind_another_plugins_prefix() {
    let shelf = shelf();
    drop(shelf.publish(&plain("a"), offers(&["github__create", "own"])));
    drop(shelf.publish(&seat("github"), offers(&["create"])));
    let catalog = shelf.keep();
    let owner = |name: &str| catalog.tool(name).map(|tool| tool.seat.name.to_string());
    assert_eq!(owner("github__create").as_deref(), Some("github"));
    assert_eq!(owner("own").as_deref(), Some("a"));
    let refused: Vec<_> = catalog.refused.iter().map(|refused| &*refused.plugin).collect();
    assert_eq!(refused, ["a"]);
}

#[test]
fn of_templates_without_end_only_so_many_are_published() {
    let shelf = shelf();
    let template = |n: usize| Definition::template(&format!("x{n}:{{+a}}"), "A template");
    let templates = (0..1_200).map(template).collect();
    drop(shelf.publish(&seat("a"), Inventory { templates, ..Inventory::default() }));
    let catalog = shelf.keep();
    assert!(catalog.resource("x999:b").is_some() && catalog.resource("x1000:b").is_none());
    assert_eq!(catalog.refused.len(), 200);
}

#[test]
fn a_tool_whose_schema_is_not_compiled_in_time_is_refused_and_what_was_compiled_stays() {
    use super::offer::{COMPILE_WITHIN, Offer};
    use std::time::Instant;
    let seat = seat("a");
    let first = Offer::make(&seat, offers(&["one"]), None, Instant::now() + COMPILE_WITHIN);
    let then = Offer::make(&seat, offers(&["one", "two"]), Some(&first), Instant::now());
    assert_eq!(then.tools.iter().map(|tool| &*tool.local).collect::<Vec<_>>(), ["one"]);
    assert!(then.refused.iter().any(|refused| refused.why.contains("\"two\"")));
}

fn selection(allow: &[&str], deny: &[&str]) -> Arc<Selection> {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    Arc::new(Selection::parse(words(allow), words(deny)).unwrap())
}

#[test]
fn through_globs_is_seen_what_they_mean_in_every_view_and_of_other_plugins_nothing() {
    let shelf = shelf();
    let mut inventory = offers(&["read", "write"]);
    inventory.prompts = vec![Definition::prompt("help", "Helps")];
    inventory.resources = vec![Definition::resource("a://note", "A note")];
    inventory.instructions = Some("How a works.".to_owned());
    shelf.publish(&seat("a"), inventory.clone());
    inventory.resources = vec![Definition::resource("b://note", "A note")];
    shelf.publish(&seat("b"), inventory);
    shelf.set_bundles(vec![("all".to_owned(), bundle(&["a", "b"], &[], false))]);
    let reading = selection(&["a__*"], &["*__write"]);
    for (view, wanted) in
        [(ViewName::MAIN, "a__read"), (ViewName::of("all"), "a__read"), (ViewName::of("a"), "read")]
    {
        let seen = shelf.view(&view.clone().through(Some(&reading))).unwrap();
        assert_eq!(names(&seen), [wanted], "{view}");
        assert!(
            seen.tool("a__write").is_none() && seen.tool("write").is_none() && seen.tool("b__read").is_none()
        );
        assert!(seen.resource("a://note").is_some() && seen.resource("b://note").is_none());
        assert!(seen.seat("b").is_none() && !seen.instructions.as_deref().unwrap().contains("b:"), "{view}");
        assert_eq!(seen.prompts().count(), 1);
        let page = seen.tools_list.page(None).unwrap().finished().bytes();
        assert!(!String::from_utf8_lossy(page).contains("write"));
    }
    let nothing = shelf.view(&ViewName::MAIN.through(Some(&selection(&["c__*"], &[])))).unwrap();
    assert!(
        names(&nothing).is_empty()
            && nothing.resource("a://note").is_none()
            && nothing.instructions.is_none()
    );
    assert!(shelf.view(&ViewName::of("nobody").through(Some(&reading))).is_none());
    assert_eq!(names(&shelf.keep()).len(), 4, "the whole is as it was");
}

#[test]
fn what_globs_show_is_built_once_and_hears_only_of_its_own_changes() {
    let shelf = shelf();
    let seat = seat("a");
    shelf.publish(&seat, offers(&["read", "write"]));
    let reading = ViewName::MAIN.through(Some(&selection(&["*__read"], &[])));
    let unseen = ViewName::MAIN.through(Some(&selection(&["*__write"], &[])));
    let first = Arc::clone(&shelf.view(&reading).unwrap());
    let again = ViewName::MAIN.through(Some(&selection(&["*__read"], &[])));
    assert!(Arc::ptr_eq(&first, &shelf.view(&again).unwrap()), "the same globs, the same view");
    let hidden = shelf.publish(&seat, offers(&["read", "write", "more"]));
    assert_eq!((hidden.main.tools, hidden.of(&reading)), (true, Kinds::default()));
    assert!(hidden.of(&unseen).tools, "who was never looked at may have changed");
    let shown = shelf.publish(&seat, described("Another", &["read", "write", "more"]));
    assert!(shown.of(&reading).tools && !shown.of(&reading).prompts);
    assert_eq!(names(&shelf.view(&reading).unwrap()), ["a__read"]);
}

#[test]
fn no_number_of_globs_grows_the_catalog_without_end() {
    let shelf = shelf();
    let seat = seat("a");
    shelf.publish(&seat, offers(&["read"]));
    for n in 0..600 {
        let view = ViewName::MAIN.through(Some(&selection(&[&format!("x{n}"), "a__*"], &[])));
        assert_eq!(names(&shelf.view(&view).unwrap()), ["a__read"]);
    }
    let kept = shelf.keep().culled();
    assert!((1..=256).contains(&kept), "{kept}");
    for n in 0..40 {
        shelf.publish(&seat, described(&n.to_string(), &["read"]));
    }
    assert_eq!(shelf.keep().culled(), 0, "what nobody looks at is forgotten");
}

#[test]
fn a_list_holds_no_longer_than_the_shortest_that_it_is_made_of() {
    let shelf = Shelf::new(Manner { page_size: 2, ttl_ms: 60_000, info: ServerInfo::new("s", "1") });
    let ttl = |page: Option<&Arc<Page>>| -> serde_json::Value {
        let page: serde_json::Value = serde_json::from_slice(page.unwrap().finished().bytes()).unwrap();
        page["ttlMs"].clone()
    };
    let shown = || {
        let current = shelf.keep();
        (ttl(current.tools_list.page(None).ok()), ttl(current.discover.as_ref()))
    };
    shelf.publish(&seat("a"), offers(&["read"]));
    assert_eq!(shown(), (json!(60_000), json!(60_000)));
    let brief = seat("b");
    shelf.publish(&brief, Inventory { ttl_ms: Some(7), ..offers(&[]) });
    assert_eq!(shown(), (json!(7), json!(7)), "the same tools, rendered anew");
    shelf.rearrange(vec![Arrangement::Remove(brief)]);
    assert_eq!(shown(), (json!(60_000), json!(60_000)));
}

#[tokio::test]
async fn a_plugin_that_is_offered_otherwise_has_no_more_to_give_than_it_had() {
    let quota = Quota { requests_per_minute: Some(1), burst: Some(1), concurrent: None };
    let said = |description: &str| {
        let tool =
            ToolCuration { description: Some(description.to_owned()), quota, ..ToolCuration::default() };
        Curation { tools: [("t".to_owned(), tool)].into(), ..Curation::default() }
    };
    let old = seat_with("p", said("one"));
    old.allowance("t").unwrap().spend().unwrap();
    let mut place = old.enter(Instant::now() + Duration::from_secs(1)).await.unwrap();
    let new = Seat::anew(&old, Arc::new(said("two")), limits());
    assert!(new.allowance("t").unwrap().spend().is_err());
    assert_eq!(new.running(), 1, "the only place is taken");
    old.judge(&mut place, Verdict::Failed, || "it broke".to_owned());
    assert_eq!(new.failed().count, 1);
    let wider = Seat::anew(&new, Arc::new(said("two")), SeatLimits { concurrency: 2, ..limits() });
    assert_eq!((wider.limits.concurrency, wider.running(), wider.failed().count), (2, 0, 1));
    drop(place);
    assert_eq!(new.running(), 0);
}

#[tokio::test]
async fn one_that_leaves_begins_no_call_and_lets_those_end_that_came_before() {
    let seat = seat("only");
    let soon = Instant::now() + Duration::from_secs(5);
    let first = seat.enter(soon).await.unwrap();
    let waiting = tokio::spawn({
        let seat = Arc::clone(&seat);
        async move { seat.enter(soon).await.map(drop) }
    });
    while seat.queued() == 0 {
        tokio::task::yield_now().await;
    }
    seat.leave();
    let refused = seat.enter(soon).await.err().unwrap();
    assert!(refused.message.contains("another process takes its place"), "{}", refused.message);
    assert_eq!(refused.code, crate::error::ErrorCode::Unavailable);
    drop(first);
    assert!(waiting.await.unwrap().is_ok(), "it came before");
    assert!(!seat.has_left());
    seat.turn(PluginState::Stopped, None, None);
    assert!(seat.has_left() && seat.refusal().unwrap().message.contains("another process"));
}
