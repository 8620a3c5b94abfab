//! Whose session is whose, how many there are, and what becomes of them.

use super::*;

/// Where each call goes: sessions with a call that is open, by the link's place.
fn busy(house: &House) -> Vec<usize> {
    let links = house.links();
    let open = |link: &Arc<Scripted>| link.asked_of("tools/call").iter().any(|asked| link.listens(asked.id));
    (0..links.len()).filter(|at| open(&links[*at])).collect()
}

fn finish(link: &Scripted) {
    for asked in link.asked_of("tools/call") {
        link.say(asked.id, &done("x"));
    }
}

#[tokio::test(start_paused = true)]
async fn no_session_serves_two_callers_or_conversations_or_kinds_of_clients() {
    let house = House::new(Isolation::PerClient, |_| ok()).await;
    let clients = || {
        [
            Client::of(1),
            Client::of(2),
            Client { conversation: Some(1), ..Client::of(1) },
            Client { conversation: Some(2), ..Client::of(1) },
            Client { can: json!({}), ..Client::of(1) },
        ]
    };
    for client in clients().iter().chain(&clients()) {
        result(house.perform(call("t"), client.context()).await);
    }
    let calls: Vec<usize> = house.links().iter().map(|link| link.asked_of("tools/call").len()).collect();
    assert_eq!(calls, [0, 2, 2, 2, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn calls_of_one_client_that_come_at_once_share_the_session_that_is_made() {
    let house = House::new(Isolation::PerClient, |_| ok()).await;
    let calls: Vec<_> = (0..10).map(|_| house.spawn(call("t"), Client::default().context())).collect();
    for call in calls {
        result(call.await.unwrap());
    }
    assert_eq!((house.links().len(), house.calls()), (2, 10));
}

#[tokio::test(start_paused = true)]
async fn when_all_places_are_taken_whoever_came_first_waits_first() {
    let house = House::with(Isolation::PerClient, 1, |_| Reply::Open(vec![])).await;
    let first = house.spawn(call("t"), Client::of(1).context());
    until("the first call", || house.calls() == 1).await;
    let mut waiting = Vec::new();
    for caller in [2_u64, 3] {
        waiting.push(house.spawn(call("t"), Client::of(caller).context()));
        let so_many = json!(caller - 1);
        until("the queue", || house.legacy.report()["sessions"]["waiting"] == so_many).await;
    }
    let hasty = Client { within: Duration::from_secs(1), ..Client::of(4) };
    let refused = house.perform(call("t"), hasty.context()).await;
    assert!(
        matches!(&refused, Err(PluginError::Full { why, .. }) if why.contains("sessions_max")),
        "{refused:?}"
    );
    assert_eq!(house.links().len(), 2);
    finish(&house.links()[1]);
    result(first.await.unwrap());
    for (place, call) in waiting.into_iter().enumerate() {
        until("the next call", || busy(&house) == [place + 2]).await;
        assert!(house.links()[place + 1].is_closed());
        finish(&house.links()[place + 2]);
        result(call.await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn the_session_that_was_idle_longest_makes_room() {
    let house = House::with(Isolation::PerClient, 2, |_| ok()).await;
    for caller in [1, 2, 1, 3, 1] {
        result(house.perform(call("t"), Client::of(caller).context()).await);
        tokio::time::advance(Duration::from_millis(10)).await;
    }
    let closed: Vec<bool> = house.links().iter().map(|link| link.is_closed()).collect();
    assert_eq!(closed, [false, false, true, false]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_is_ended_and_one_with_a_parked_call_is_not() {
    let house = House::new(Isolation::PerClient, |asked| match asked.params["name"].as_str() {
        Some("asks") => Reply::Open(vec![form("s1")]),
        _ => ok(),
    })
    .await;
    result(house.perform(call("t"), Client::of(1).context()).await);
    asks(house.perform(call("asks"), Client::of(2).context()).await);
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert_eq!(house.legacy.report()["sessions"]["open"].as_array().unwrap().len(), 2);
    tokio::time::sleep(Duration::from_secs(40)).await;
    until("the end of the idle one", || house.links()[1].is_closed()).await;
    assert!(!house.links()[0].is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_broke_is_made_anew_for_the_next_call() {
    let house = House::new(Isolation::PerClient, |_| ok()).await;
    result(house.perform(call("t"), Client::default().context()).await);
    house.newest().end(Some(LinkError::Broken("the process ended".to_owned())));
    // The word of it must reach the session.
    tokio::time::sleep(Duration::from_millis(10)).await;
    result(house.perform(call("t"), Client::default().context()).await);
    assert_eq!(house.links().len(), 3);
    *house.doors.trouble.lock().unwrap() = Some(LinkError::Unreachable("no".to_owned()));
    assert!(house.perform(call("t"), Client::of(2).context()).await.is_err());
    result(house.perform(call("t"), Client::of(2).context()).await);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_made_again_only_when_the_server_did_nothing() {
    let lost = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let times = Arc::clone(&lost);
    let house = House::new(Isolation::PerClient, move |asked| {
        let nth = times.fetch_add(1, Ordering::SeqCst);
        match asked.params["name"].as_str() {
            Some("lost") if nth == 0 => Reply::Fail(LinkError::SessionLost),
            Some("always lost") => Reply::Fail(LinkError::SessionLost),
            Some("broken") => Reply::Fail(LinkError::Broken("reset".to_owned())),
            Some("begun") => Reply::Open(vec![]),
            _ => ok(),
        }
    })
    .await;
    let client = Client::default();
    let context = client.context();
    result(house.perform(call("lost"), context.clone()).await);
    assert_eq!((house.calls(), house.links().len()), (2, 3));
    let hop = context.hop().unwrap();
    let sent: usize =
        house.links().iter().flat_map(|link| link.asked_of("tools/call")).map(|asked| asked.text.len()).sum();
    assert_eq!(
        (hop.instance.as_deref(), hop.bytes_out),
        (Some("session-2"), sent as u64),
        "both are recorded"
    );
    assert!(house.perform(call("always lost"), client.context()).await.is_err());
    assert_eq!(house.calls(), 4);
    assert!(house.perform(call("broken"), client.context()).await.is_err());
    assert_eq!(house.calls(), 5);
    let begun = house.spawn(call("begun"), client.context());
    until("the call", || house.calls() == 6).await;
    let link = house.newest();
    let id = link.asked_of("tools/call").last().unwrap().id;
    let params = json!({"progressToken": id, "progress": 1});
    link.say(id, &json!({"method": "notifications/progress", "params": params}));
    link.hang_up(id, Some(LinkError::SessionLost));
    assert!(begun.await.unwrap().is_err());
    assert_eq!(house.calls(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_shared_session_asks_nobody_and_says_how_to_change_that() {
    let house = House::new(Isolation::Shared, |_| {
        let error = json!({"code": -32000, "message": "no answer"});
        Reply::Say(vec![form("s1"), format!(r#"{{"id":$id,"error":{error}}}"#)])
    })
    .await;
    let Err(failed) = house.perform(call("t"), Client::of(1).context()).await else { panic!("no error") };
    assert!(failed.to_string().contains("isolation = \"per_client\""), "{failed}");
    let main = house.newest();
    assert_eq!(main.asked_of("initialize")[0].params["capabilities"], json!({}));
    until("the refusal", || answered(&main, "s1").is_some()).await;
    let refusal = &answered(&main, "s1").unwrap()["error"];
    assert_eq!(
        (refusal["code"].clone(), refusal["message"].as_str().unwrap()),
        (json!(-32601), strays::SHARED)
    );
    assert_eq!(house.legacy.report()["hints"].as_array().unwrap().len(), 1);
    drop(house.perform(call("t"), Client::of(2).context()).await);
    assert_eq!(house.legacy.report()["hints"].as_array().unwrap().len(), 2);
    assert_eq!((house.links().len(), house.calls()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_server_is_told_the_lowest_level_once_and_each_client_hears_what_it_wants() {
    let house = House::new(Isolation::Shared, |_| {
        let log = |level: &str| {
            json!({"method": "notifications/message", "params": {"level": level, "data": level}}).to_string()
        };
        Reply::Say(vec![log("debug"), log("error"), done("x").to_string().replace("\"$id\"", "$id")])
    })
    .await;
    let mut told = Vec::new();
    for level in [None, Some(LogLevel::Warning), Some(LogLevel::Debug), Some(LogLevel::Error)] {
        let (context, mut heard) = Client { level, ..Client::default() }.heard();
        result(house.perform(call("t"), context).await);
        told.push(std::iter::from_fn(|| heard.try_recv().ok()).count());
    }
    assert_eq!(told, [0, 1, 2, 1]);
    let levels: Vec<Value> = house
        .newest()
        .asked_of("logging/setLevel")
        .into_iter()
        .map(|asked| asked.params["level"].clone())
        .collect();
    assert_eq!(levels, ["warning", "debug"]);
}

#[tokio::test(start_paused = true)]
async fn log_lines_beside_a_call_are_told_only_when_there_is_one_call_in_work() {
    let house = House::new(Isolation::Shared, |_| Reply::Open(vec![])).await;
    let client = Client { level: Some(LogLevel::Debug), ..Client::default() };
    let (context, mut heard) = client.heard();
    let first = house.spawn(call("t"), context);
    until("the call", || house.calls() == 1).await;
    let main = house.newest();
    let line =
        |text: &str| json!({"method": "notifications/message", "params": {"level": "info", "data": text}});
    main.stray(&line("alone"));
    let Some(Notice::Log { said: Some(said), .. }) = heard.recv().await else { panic!("no line") };
    assert_eq!(said.read::<Value>().unwrap()["data"], "alone");
    let (context, mut others) = client.heard();
    let second = house.spawn(call("t"), context);
    until("the other call", || house.calls() == 2).await;
    main.stray(&line("whose?"));
    main.stray(&request("p", "ping"));
    until("the pong", || answered(&main, "p").is_some()).await;
    finish(&main);
    for call in [first, second] {
        result(call.await.unwrap());
    }
    assert!(heard.try_recv().is_err() && others.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_over_is_ended_when_the_last_call_in_it_is() {
    let house = House::with(Isolation::PerClient, 1, |asked| match asked.params["name"].as_str() {
        Some("long") => Reply::Open(vec![]),
        _ => ok(),
    })
    .await;
    let long = house.spawn(call("long"), Client::default().context());
    until("the call", || house.calls() == 1).await;
    let old = house.newest();
    old.end(Some(LinkError::SessionLost));
    tokio::time::sleep(Duration::from_millis(10)).await;
    result(house.perform(call("t"), Client::default().context()).await);
    assert!(house.links().len() == 3 && !old.is_closed(), "the call in the old session is ended");
    finish(&old);
    result(long.await.unwrap());
    until("the end of the old session", || old.is_closed()).await;
}

#[tokio::test(start_paused = true)]
async fn the_place_of_a_session_that_is_over_goes_to_whoever_waits_first() {
    let house = House::with(Isolation::PerClient, 1, |asked| match asked.params["name"].as_str() {
        Some("long") => Reply::Open(vec![]),
        _ => ok(),
    })
    .await;
    let _long = house.spawn(call("long"), Client::of(1).context());
    until("the call", || house.calls() == 1).await;
    let waiting = house.spawn(call("t"), Client::of(2).context());
    until("the queue", || house.legacy.report()["sessions"]["waiting"] == 1).await;
    house.newest().end(Some(LinkError::SessionLost));
    tokio::time::sleep(Duration::from_millis(10)).await;
    let began = Instant::now();
    result(house.perform(call("t"), Client::of(1).context()).await);
    result(waiting.await.unwrap());
    // Not only when the pool is swept the next time.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_lost_a_clients_session_is_asked_whether_it_knows_the_main_one() {
    let redeployed = std::sync::atomic::AtomicBool::new(false);
    let house = House::new(Isolation::PerClient, move |asked| match asked.method {
        "tools/call" if !redeployed.swap(true, Ordering::SeqCst) => Reply::Fail(LinkError::SessionLost),
        "ping" => Reply::Fail(LinkError::SessionLost),
        _ => ok(),
    })
    .await;
    house.newest().end(None);
    let (changes, mut told) = mpsc::channel(16);
    let _attending = tokio::spawn(Arc::clone(&house.legacy).attend(changes));
    result(house.perform(call("t"), Client::default().context()).await);
    assert_eq!(told.recv().await, Some(Change::Resources), "of them nothing can be told any more");
    let first = tokio::time::timeout(Duration::from_secs(30), told.recv()).await;
    assert_eq!(first.unwrap(), Some(Change::Tools));
    assert!(house.links()[0].is_closed() && !house.newest().is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_of_another_era_now_ends_the_life() {
    let house = House::new(Isolation::PerClient, |asked| match asked.method {
        "tools/call" | "ping" => Reply::error(-32022, "I speak 2026-07-28"),
        _ => ok(),
    })
    .await;
    house.newest().end(None);
    let (changes, _told) = mpsc::channel(16);
    let attending = tokio::spawn(Arc::clone(&house.legacy).attend(changes));
    // A handshake that works says that it is of this era all the same.
    assert!(house.perform(call("t"), Client::default().context()).await.is_err());
    until("the new session", || house.links().len() == 3).await;
    *house.doors.trouble.lock().unwrap() = Some(LinkError::Unreachable("no handshake".to_owned()));
    assert!(house.perform(call("t"), Client::default().context()).await.is_err());
    assert!(attending.await.unwrap().unwrap_err().to_string().contains("no handshake"));
}

#[tokio::test(start_paused = true)]
async fn that_nobody_is_reached_once_ends_no_session_and_that_nobody_is_reached_any_more_does() {
    let away = Arc::new(std::sync::atomic::AtomicUsize::new(1));
    let left = Arc::clone(&away);
    let house = House::new(Isolation::Shared, move |_| {
        let is_away = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if is_away.is_ok() { Reply::Fail(LinkError::Unreachable("no route".to_owned())) } else { ok() }
    })
    .await;
    let main = house.newest();
    main.end(None);
    let (changes, _told) = mpsc::channel(16);
    let attending = tokio::spawn(Arc::clone(&house.legacy).attend(changes));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(house.perform(call("t"), Client::default().context()).await.is_err());
    until("the question", || main.asked_of("ping").len() == 1).await;
    result(house.perform(call("t"), Client::default().context()).await);
    assert!(house.links().len() == 1 && !attending.is_finished());
    away.store(usize::MAX, Ordering::SeqCst);
    assert!(house.perform(call("t"), Client::default().context()).await.is_err());
    assert_eq!(attending.await.unwrap().unwrap_err().to_string(), "no route");
    assert_eq!(main.asked_of("ping").len(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_told_beside_a_call_counts_where_the_main_session_has_no_stream() {
    let house = House::new(Isolation::PerClient, |_| {
        ok().after(&json!({"method": "notifications/tools/list_changed"}))
    })
    .await;
    let (changes, mut told) = mpsc::channel(16);
    let _attending = tokio::spawn(Arc::clone(&house.legacy).attend(changes));
    result(house.perform(call("t"), Client::default().context()).await);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(told.try_recv().is_err());
    house.links()[0].end(None);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(told.try_recv(), Ok(Change::Resources), "of them nothing can be told any more");
    result(house.perform(call("t"), Client::default().context()).await);
    assert_eq!(told.recv().await, Some(Change::Tools));
}
