//! Watching: what is told, what is not.

use std::time::Duration;

use serde_json::json;
use tokio::sync::broadcast::{Receiver, error::TryRecvError};
use tokio::time::timeout;

use super::super::testing::Bed;
use super::super::watch::WATCHES_MAX;
use crate::plugins::{Change, Plugin, PluginError, Request};

const PATIENCE: Duration = Duration::from_secs(20);

async fn watch(bed: &Bed, path: &str, begins: bool) -> Result<(), PluginError> {
    let uri = format!("files://files/{path}");
    bed.ask(Request::Subscribe { uri, begins }).await.map(|_| ())
}

/// Waits until the change of this path is told, and of nothing else before it.
async fn told(changes: &mut Receiver<Change>, path: &str) {
    let change = timeout(PATIENCE, changes.recv()).await.expect("told in time").unwrap();
    assert_eq!(change, Change::Updated(format!("files://files/{path}")));
}

/// Does something to another watched file and waits for that, so that what was told before it is there to see. Twice,
/// because changes that are told together have no order.
async fn nothing_but_the_marker(bed: &Bed, changes: &mut Receiver<Change>) {
    for says in ["again", "and again"] {
        bed.put("marker", says);
        told(changes, "marker").await;
    }
}

/// Throws away what is told while nothing more is done.
async fn settle(bed: &Bed, changes: &mut Receiver<Change>) {
    bed.put("marker", "settled");
    loop {
        let change = timeout(PATIENCE, changes.recv()).await.expect("told in time").unwrap();
        if change == Change::Updated("files://files/marker".to_owned()) {
            break;
        }
    }
}

#[tokio::test]
async fn a_change_in_place_a_replacement_and_a_new_start_are_told() {
    let bed = Bed::new();
    bed.put("a", "1");
    let mut changes = bed.files.changes();
    watch(&bed, "a", true).await.unwrap();
    bed.put("a", "2");
    told(&mut changes, "a").await;
    bed.done("write_file", json!({"path": "a", "content": "3", "mode": "overwrite"})).await;
    told(&mut changes, "a").await;
    std::fs::remove_file(bed.path("a")).unwrap();
    told(&mut changes, "a").await;
    bed.put("a", "4");
    told(&mut changes, "a").await;
    // The replacing file is watched as the first one was.
    bed.put("a", "5");
    told(&mut changes, "a").await;
}

#[tokio::test]
async fn other_files_and_mere_reading_are_not_told() {
    let bed = Bed::new();
    bed.put("a", "1");
    bed.put("marker", "");
    let mut changes = bed.files.changes();
    watch(&bed, "a", true).await.unwrap();
    watch(&bed, "marker", true).await.unwrap();
    bed.put("b", "x");
    bed.get("a");
    bed.done("read_file", json!({"path": "a"})).await;
    nothing_but_the_marker(&bed, &mut changes).await;
}

#[tokio::test]
async fn many_changes_at_once_are_told_as_few() {
    let bed = Bed::new();
    bed.put("a", "1");
    bed.put("marker", "");
    let mut changes = bed.files.changes();
    watch(&bed, "a", true).await.unwrap();
    for number in 0..200 {
        bed.put("a", format!("{number}"));
    }
    watch(&bed, "marker", true).await.unwrap();
    bed.put("marker", "x");
    let mut count = 0;
    while timeout(PATIENCE, changes.recv()).await.unwrap().unwrap()
        == Change::Updated("files://files/a".to_owned())
    {
        count += 1;
    }
    assert!(count < 50, "{count} for 400 events");
}

#[tokio::test]
async fn a_watched_folder_tells_of_what_comes_and_goes() {
    let bed = Bed::new();
    bed.put("sub/x", "1");
    let mut changes = bed.files.changes();
    watch(&bed, "sub", true).await.unwrap();
    bed.put("sub/new", "1");
    told(&mut changes, "sub").await;
    std::fs::remove_file(bed.path("sub/x")).unwrap();
    told(&mut changes, "sub").await;
}

#[tokio::test]
async fn a_whole_folder_that_is_exchanged_is_noticed_and_followed() {
    let bed = Bed::new();
    bed.put("sub/a", "1");
    bed.put("next/a", "22");
    bed.put("marker", "");
    let mut changes = bed.files.changes();
    watch(&bed, "sub/a", true).await.unwrap();
    std::fs::rename(bed.path("sub"), bed.path("old")).unwrap();
    std::fs::rename(bed.path("next"), bed.path("sub")).unwrap();
    told(&mut changes, "sub/a").await;
    watch(&bed, "marker", true).await.unwrap();
    settle(&bed, &mut changes).await;
    bed.put("sub/a", "333");
    told(&mut changes, "sub/a").await;
    settle(&bed, &mut changes).await;
    bed.put("old/a", "4444");
    nothing_but_the_marker(&bed, &mut changes).await;
}

#[tokio::test]
async fn a_link_that_then_leads_out_tells_nothing_of_what_is_outside() {
    let bed = Bed::new();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("a"), "1").unwrap();
    bed.put("sub/a", "1");
    bed.put("marker", "");
    let mut changes = bed.files.changes();
    watch(&bed, "sub/a", true).await.unwrap();
    std::fs::rename(bed.path("sub"), bed.path("old")).unwrap();
    bed.link(outside.path().to_str().unwrap(), "sub");
    told(&mut changes, "sub/a").await;
    watch(&bed, "marker", true).await.unwrap();
    settle(&bed, &mut changes).await;
    std::fs::write(outside.path().join("a"), "22").unwrap();
    nothing_but_the_marker(&bed, &mut changes).await;
}

#[tokio::test]
async fn what_is_no_longer_watched_is_not_told() {
    let bed = Bed::new();
    bed.put("a", "1");
    bed.put("marker", "");
    let mut changes = bed.files.changes();
    watch(&bed, "a", true).await.unwrap();
    watch(&bed, "marker", true).await.unwrap();
    watch(&bed, "a", false).await.unwrap();
    bed.put("a", "2");
    nothing_but_the_marker(&bed, &mut changes).await;
    watch(&bed, "marker", false).await.unwrap();
    assert_eq!(changes.try_recv(), Err(TryRecvError::Empty));
    // After the last one ended, watching begins anew.
    watch(&bed, "a", true).await.unwrap();
    bed.put("a", "3");
    told(&mut changes, "a").await;
}

#[tokio::test]
async fn what_is_not_there_cannot_be_watched_and_the_number_is_bounded() {
    let bed = Bed::new();
    assert!(matches!(watch(&bed, "none", true).await, Err(PluginError::Unknown(_))));
    for number in 0..=WATCHES_MAX {
        bed.put(&format!("f{number}"), "");
    }
    for number in 0..WATCHES_MAX {
        watch(&bed, &format!("f{number}"), true).await.unwrap();
    }
    watch(&bed, "f0", true).await.unwrap();
    let more = watch(&bed, &format!("f{WATCHES_MAX}"), true).await;
    assert!(matches!(more, Err(PluginError::Unavailable(_))));
    watch(&bed, "f0", false).await.unwrap();
    watch(&bed, &format!("f{WATCHES_MAX}"), true).await.unwrap();
}
