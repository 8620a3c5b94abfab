//! What the outbox keeps, loses and gives to whom.

use super::*;

const ROOM: usize = 100;

fn read(outbox: &Outbox, hold: Hold) -> Vec<String> {
    let cx = Context::from_waker(Waker::noop());
    std::iter::from_fn(|| match outbox.poll_next(hold, &cx) {
        Poll::Ready(Some(Said::Message { number, message })) => {
            Some(format!("{number}:{}", String::from_utf8_lossy(&message)))
        }
        Poll::Ready(Some(Said::Pause(retry))) => Some(format!("pause {}", retry.as_millis())),
        Poll::Ready(None) => None,
        Poll::Pending => None,
    })
    .collect()
}

fn is_over(outbox: &Outbox, hold: Hold) -> bool {
    matches!(outbox.poll_next(hold, &Context::from_waker(Waker::noop())), Poll::Ready(None))
}

#[test]
fn a_broken_stream_is_taken_up_where_it_broke_and_only_that_one() {
    let outbox = Outbox::new(ROOM);
    let (one, other) = (outbox.open(LaneKind::Reply), outbox.open(LaneKind::Reply));
    for (lane, text) in [(one, "a"), (other, "x"), (one, "b"), (one, "c")] {
        outbox.put(lane.lane, text, false);
    }
    assert_eq!(read(&outbox, one), ["1:a", "2:b", "3:c"]);
    outbox.release(one);
    outbox.put(one.lane, "d", false);
    outbox.end(one.lane);
    let again = outbox.resume(one.lane, 1).unwrap();
    assert_eq!(read(&outbox, again), ["2:b", "3:c", "4:d"]);
    assert!(is_over(&outbox, again) && !is_over(&outbox, other));
}

#[test]
fn whoever_takes_a_lane_up_ends_the_connection_that_held_it() {
    let outbox = Outbox::new(ROOM);
    let first = outbox.open(LaneKind::Standing);
    let second = outbox.resume(first.lane, 0).unwrap();
    outbox.put(first.lane, "a", false);
    assert!(is_over(&outbox, first));
    // A late release of the first must not let go of the second.
    outbox.release(first);
    assert_eq!(read(&outbox, second), ["1:a"]);
    assert_eq!(outbox.is_held(), (true, true));
}

#[test]
fn an_event_that_was_never_sent_or_is_no_longer_kept_cannot_be_resumed_from() {
    let outbox = Outbox::new(10);
    let lane = outbox.open(LaneKind::Reply);
    assert_eq!(outbox.resume(99, 0), Err(ResumeError::Unknown));
    assert_eq!(outbox.resume(lane.lane, 1), Err(ResumeError::Unknown));
    for text in ["aaaaa", "bbbbb", "ccccc"] {
        outbox.put(lane.lane, text, false);
        read(&outbox, lane);
    }
    assert_eq!(outbox.resume(lane.lane, 0), Err(ResumeError::Gone));
    let again = outbox.resume(lane.lane, 1).unwrap();
    assert_eq!(read(&outbox, again), ["2:bbbbb", "3:ccccc"]);
}

fn kept(outbox: &Outbox) -> usize {
    outbox.lock().lanes.values().map(|lane| lane.room() + lane.owed()).sum()
}

#[test]
fn what_nobody_reads_has_its_bounds_and_the_reader_learns_that_something_is_lost() {
    let outbox = Outbox::new(10);
    let lane = outbox.open(LaneKind::Reply);
    outbox.put(lane.lane, "a notice too many", true);
    for _ in 0..10 * OWED_TIMES {
        outbox.put(lane.lane, "bbbbbbb", false);
    }
    assert!(kept(&outbox) <= 10 * OWED_TIMES && is_over(&outbox, lane));
    assert_eq!(outbox.resume(lane.lane, 0), Err(ResumeError::Gone));
}

#[test]
fn answers_that_are_on_their_way_need_no_room_of_those_who_come_back() {
    let outbox = Outbox::new(10);
    let lane = outbox.open(LaneKind::Reply);
    for text in ["first answer", "second answer", "third answer"] {
        outbox.put(lane.lane, text, false);
    }
    outbox.end(lane.lane);
    assert_eq!(read(&outbox, lane), ["1:first answer", "2:second answer", "3:third answer"]);
}

#[test]
fn a_large_answer_on_one_stream_does_not_end_another() {
    let outbox = Outbox::new(20);
    let (lost, other) = (outbox.open(LaneKind::Reply), outbox.open(LaneKind::Reply));
    outbox.put(lost.lane, "notice", true);
    assert_eq!(read(&outbox, lost), ["1:notice"]);
    outbox.release(lost);
    outbox.put(lost.lane, "another", true);
    outbox.put(other.lane, "an answer that takes all of the room there is", false);
    outbox.put(lost.lane, "result", false);
    outbox.end(lost.lane);
    let again = outbox.resume(lost.lane, 1).unwrap();
    assert!(read(&outbox, again).last().unwrap().ends_with(":result"));
}

#[test]
fn what_was_not_sent_outlives_what_was() {
    let outbox = Outbox::new(10_000);
    let waiting: Vec<Hold> = (0..ENDED_MAX * 2).map(|_| outbox.open(LaneKind::Reply)).collect();
    for lane in &waiting {
        outbox.put(lane.lane, "a", false);
        outbox.end(lane.lane);
        outbox.release(*lane);
    }
    outbox.release(outbox.open(LaneKind::Reply));
    for lane in waiting {
        let again = outbox.resume(lane.lane, 0).unwrap();
        assert_eq!(read(&outbox, again), ["1:a"]);
    }
}

#[test]
fn one_message_larger_than_the_room_still_arrives() {
    let outbox = Outbox::new(3);
    let lane = outbox.open(LaneKind::Reply);
    outbox.put(lane.lane, "a long answer", false);
    outbox.end(lane.lane);
    assert_eq!(read(&outbox, lane), ["1:a long answer"]);
}

#[test]
fn what_belongs_to_no_request_is_told_on_one_standing_lane_and_once_while_it_waits() {
    let outbox = Outbox::new(ROOM);
    outbox.tell("nobody hears");
    let (one, other) = (outbox.open(LaneKind::Standing), outbox.open(LaneKind::Standing));
    outbox.tell("news");
    outbox.tell("news");
    let heard = [read(&outbox, one), read(&outbox, other)].concat();
    assert_eq!(heard, ["1:news"]);
    outbox.tell("news");
    assert_eq!([read(&outbox, one), read(&outbox, other)].concat().len(), 1);
}

#[test]
fn news_that_wait_for_a_client_between_two_connections_go_to_the_next_one() {
    let outbox = Outbox::new(ROOM);
    let first = outbox.open(LaneKind::Standing);
    outbox.release(first);
    outbox.tell("news");
    let next = outbox.open(LaneKind::Standing);
    assert_eq!(read(&outbox, next), ["1:news"]);
    assert_eq!(outbox.resume(first.lane, 0), Err(ResumeError::Unknown));
}

#[test]
fn the_oldest_of_too_many_standing_streams_ends() {
    let outbox = Outbox::new(ROOM);
    let all: Vec<Hold> = (0..=STANDING_MAX).map(|_| outbox.open(LaneKind::Standing)).collect();
    assert!(is_over(&outbox, all[0]));
    assert!(all[1..].iter().all(|hold| !is_over(&outbox, *hold)));
}

#[test]
fn a_pause_ends_the_connection_and_not_the_lane() {
    let outbox = Outbox::new(ROOM);
    let lane = outbox.open(LaneKind::Reply);
    outbox.put(lane.lane, "a", false);
    outbox.pause(lane.lane, Duration::from_millis(7));
    assert_eq!(read(&outbox, lane), ["1:a", "pause 7"]);
    assert!(is_over(&outbox, lane));
    outbox.put(lane.lane, "b", false);
    let again = outbox.resume(lane.lane, 1).unwrap();
    assert_eq!(read(&outbox, again), ["2:b"]);
}

#[test]
fn lanes_that_ended_are_kept_for_a_while_and_not_for_ever() {
    let outbox = Outbox::new(10_000);
    for _ in 0..ENDED_MAX * 2 {
        let lane = outbox.open(LaneKind::Reply);
        outbox.put(lane.lane, "a", false);
        outbox.end(lane.lane);
        read(&outbox, lane);
        outbox.release(lane);
    }
    let lanes = outbox.lock();
    assert!(lanes.lanes.len() <= ENDED_MAX + 1 && lanes.room() <= ENDED_MAX + 1);
}

#[test]
fn what_may_be_lost_is_no_reason_to_refuse_whoever_comes_back() {
    let outbox = Outbox::new(20);
    let lane = outbox.open(LaneKind::Reply);
    outbox.release(lane);
    for notice in ["noticeA", "noticeB", "noticeC"] {
        outbox.put(lane.lane, notice, true);
    }
    outbox.put(lane.lane, "the long result", false);
    outbox.end(lane.lane);
    let again = outbox.resume(lane.lane, 0).unwrap();
    let read = read(&outbox, again);
    assert_eq!(read.last().unwrap(), "3:the long result");
    assert!(read.len() < 3 && is_over(&outbox, again));
}
