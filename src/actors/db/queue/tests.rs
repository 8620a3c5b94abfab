//! What the buffer takes, drops, counts and tells.

use super::*;

fn limits(capacity: usize) -> Limits {
    Limits { capacity, room_wait: Duration::from_secs(60), arguments_max_bytes: 10 }
}

fn outcome(call: &str) -> Record {
    Record::new(Kind::Outcome, call.into(), "tools/call")
}

fn gathered(shared: &Shared) -> Vec<(i64, Kind)> {
    let mut hand = Batch::default();
    assert!(shared.gather(&mut hand, Duration::ZERO, Duration::ZERO));
    hand.rows.iter().map(|row| (row.seq, row.record.kind)).collect()
}

#[test]
fn a_full_buffer_lets_some_wait_and_tells_of_the_rest() {
    let shared = Shared::new(limits(2));
    for call in ["a", "b", "c", "d", "e", "f", "g"] {
        shared.push(SystemTime::now(), outcome(call));
    }
    // Two have room, two wait for it, three are gone.
    assert_eq!((shared.state().depth, shared.state().dropped), (4, 3));
    assert!(shared.state().degraded);
    let rows = gathered(&shared);
    let kinds: Vec<Kind> = rows.iter().map(|row| row.1).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == Kind::Gap).count(), 1);
    assert_eq!(kinds.last(), Some(&Kind::Gap));
    assert!(rows.iter().map(|row| row.0).eq(1..=rows.len() as i64), "{rows:?}");
    assert!(gathered(&shared).is_empty(), "one gap row a gap");
}

#[test]
fn one_who_waited_too_long_for_room_is_gone() {
    let long_ago = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
    let mut queue = Shared::new(limits(1)).queue.into_inner().unwrap();
    queue.late.push_back((long_ago, SystemTime::now(), outcome("a")));
    queue.late.push_back((Instant::now() + Duration::from_secs(60), SystemTime::now(), outcome("b")));
    assert_eq!(queue.take_late(), 1);
    assert_eq!((queue.rows.len(), queue.missing), (1, 1));
    queue.late.push_back((long_ago, SystemTime::now(), outcome("c")));
    assert_eq!(queue.push_late(SystemTime::now(), outcome("d"), limits(1)), 1);
    assert_eq!((queue.late.len(), queue.missing), (1, 2));
}

#[test]
fn arguments_beyond_the_budget_are_left_out_and_those_taken_or_dropped_make_room() {
    let shared = Shared::new(limits(3));
    let asked = |call: &str| Record { arguments: Some(Raw::trusted("12345")), ..outcome(call) };
    let kept = |shared: &Shared| {
        let mut hand = Batch::default();
        assert!(shared.gather(&mut hand, Duration::ZERO, Duration::ZERO));
        let kept = |row: &Queued| (row.record.arguments.is_some(), row.record.detail.is_some());
        hand.rows.iter().map(kept).collect::<Vec<_>>()
    };
    let (whole, left_out) = ((true, false), (false, true));
    for _ in 0..2 {
        shared.push(SystemTime::now(), asked("a"));
        assert!(shared.push_durable(SystemTime::now(), asked("b")).unwrap().is_ok());
        shared.push(SystemTime::now(), asked("c"));
        // One that waits for room counts, too.
        shared.push(SystemTime::now(), asked("d"));
        assert_eq!(kept(&shared), [whole, whole, left_out, left_out]);
    }
    let long_ago = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
    let mut queue = Shared::new(limits(1)).queue.into_inner().unwrap();
    for drop_them in [
        |queue: &mut Queue| queue.take_late(),
        |queue: &mut Queue| queue.push_late(SystemTime::now(), outcome("f"), limits(1)),
    ] {
        let mut record = asked("e");
        assert!(queue.admit(&mut record, limits(1)).is_none());
        queue.late.push_back((long_ago, SystemTime::now(), record));
        assert_eq!((queue.argument_bytes, drop_them(&mut queue), queue.argument_bytes), (5, 1, 0));
    }
}

#[test]
fn a_refused_intent_leaves_no_gap_but_an_outcome_does() {
    let shared = Shared::new(limits(1));
    shared.refuse(&Record::new(Kind::Intent, "a".into(), "tools/call"));
    assert_eq!(shared.state().dropped, 0);
    shared.refuse(&outcome("a"));
    assert_eq!(gathered(&shared), [(1, Kind::Gap)]);
}

#[test]
fn what_comes_after_the_end_is_refused_and_counted() {
    let shared = Shared::new(limits(1));
    let mut told = shared.close(Duration::ZERO).unwrap();
    shared.push(SystemTime::now(), outcome("a"));
    assert!(shared.push_durable(SystemTime::now(), outcome("a")).is_err());
    assert_eq!(shared.state().dropped, 1);
    assert!(!shared.gather(&mut Batch::default(), Duration::ZERO, Duration::ZERO));
    shared.end();
    assert_eq!(told.try_recv(), Ok(Ok(())));
}
