//! What a server was told to watch: told again in each session that takes the place of another, once, in order, and beside the calls.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_was_subscribed_is_subscribed_again_when_the_server_forgot_its_session() {
    let house = House::new(Isolation::PerClient, |_| ok()).await;
    let (changes, mut told) = mpsc::channel(16);
    let attending = tokio::spawn(Arc::clone(&house.legacy).attend(changes));
    let subscribe = |uri: &str, begins| {
        house.perform(Request::Subscribe { uri: uri.to_owned(), begins }, Client::default().context())
    };
    subscribe("a:1", true).await.unwrap();
    subscribe("a:2", true).await.unwrap();
    subscribe("a:2", false).await.unwrap();
    let main = house.newest();
    for _ in 0..50 {
        main.stray(&json!({"method": "notifications/tools/list_changed"}));
    }
    assert_eq!(told.recv().await, Some(Change::Tools));
    main.stray(&json!({"method": "notifications/resources/updated", "params": {"uri": "a:1"}}));
    while told.recv().await != Some(Change::Updated("a:1".to_owned())) {}
    main.end(Some(LinkError::SessionLost));
    let mut after = Vec::new();
    while after.len() < 4 {
        after.push(told.recv().await.unwrap());
    }
    let all = [Change::Tools, Change::Prompts, Change::Resources, Change::Updated("a:1".to_owned())];
    assert_eq!(after, all);
    let subscribed = house.newest().asked_of("resources/subscribe");
    assert_eq!((house.links().len(), subscribed.len()), (2, 1));
    assert_eq!(subscribed[0].params, json!({"uri": "a:1"}));
    house.newest().end(Some(LinkError::Broken("gone".to_owned())));
    assert!(attending.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_forgets_each_session_at_once_is_asked_ever_more_seldom_and_then_taken_for_broken() {
    let house = House::new(Isolation::PerClient, |_| ok()).await;
    let (changes, _told) = mpsc::channel(64);
    let began = Instant::now();
    let attending = tokio::spawn(Arc::clone(&house.legacy).attend(changes));
    let mut forgotten = 0;
    while !attending.is_finished() {
        let links = house.links();
        links[forgotten..].iter().for_each(|link| link.end(Some(LinkError::SessionLost)));
        forgotten = links.len();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let why = attending.await.unwrap().unwrap_err().to_string();
    assert!(why.contains("in a row"), "{why}");
    assert!(forgotten == 7 && began.elapsed() > Duration::from_secs(60), "{forgotten} {:?}", began.elapsed());
}

fn subscribe(uri: &str, begins: bool) -> Request {
    Request::Subscribe { uri: uri.to_owned(), begins }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_made_again_for_a_call_is_made_whole_though_the_call_is_dropped() {
    let slow = std::sync::atomic::AtomicBool::new(false);
    let house = House::new(Isolation::Shared, move |asked| match asked.method {
        "resources/subscribe" if slow.swap(true, Ordering::SeqCst) => Reply::Open(vec![]),
        _ => ok(),
    })
    .await;
    for uri in ["a!slow", "b:1"] {
        house.perform(subscribe(uri, true), Client::default().context()).await.unwrap();
    }
    house.newest().end(Some(LinkError::SessionLost));
    tokio::time::sleep(Duration::from_millis(10)).await;
    let calling = house.spawn(call("t"), Client::default().context());
    until("the new session", || house.links().len() == 2).await;
    calling.abort();
    let (changes, mut told) = mpsc::channel(16);
    let _attending = tokio::spawn(Arc::clone(&house.legacy).attend(changes));
    let first = tokio::time::timeout(Duration::from_secs(60), told.recv()).await;
    assert_eq!(first.unwrap(), Some(Change::Tools));
    assert_eq!(house.newest().asked_of("resources/subscribe").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_does_not_wait_until_all_is_subscribed_again() {
    let slow = std::sync::atomic::AtomicBool::new(false);
    let house = House::new(Isolation::Shared, move |asked| match asked.method {
        "resources/subscribe" if slow.swap(true, Ordering::SeqCst) => Reply::Open(vec![]),
        _ => ok(),
    })
    .await;
    house.perform(subscribe("a!slow", true), Client::default().context()).await.unwrap();
    house.newest().end(Some(LinkError::SessionLost));
    tokio::time::sleep(Duration::from_millis(10)).await;
    let began = Instant::now();
    result(house.perform(call("t"), Client::default().context()).await);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_was_refused_or_given_up_is_not_made_again() {
    let house =
        House::new(Isolation::PerClient, |asked| match (asked.method, asked.params["uri"].as_str()) {
            ("resources/subscribe", Some("a!no")) => Reply::error(-32002, "no such resource"),
            ("resources/subscribe", _) => Reply::Open(vec![]),
            _ => ok(),
        })
        .await;
    let main = house.newest();
    assert!(house.perform(subscribe("a!no", true), Client::default().context()).await.is_err());
    let late = house.spawn(subscribe("a!late", true), Client::default().context());
    until("the subscription", || main.asked_of("resources/subscribe").len() == 2).await;
    late.abort();
    until("its end", || !main.asked_of("resources/unsubscribe").is_empty()).await;
    let (changes, mut told) = mpsc::channel(16);
    let _attending = tokio::spawn(Arc::clone(&house.legacy).attend(changes));
    main.end(Some(LinkError::SessionLost));
    assert_eq!(told.recv().await, Some(Change::Tools));
    assert_eq!(house.links().len(), 2);
    assert!(house.newest().asked_of("resources/subscribe").is_empty());
    let ended = main.asked_of("resources/unsubscribe");
    assert!(ended.len() == 1 && ended[0].params["uri"] == "a!late", "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_server_is_told_of_one_resource_does_not_overtake() {
    let house = House::new(Isolation::PerClient, |asked| match asked.method {
        "resources/unsubscribe" => Reply::Open(vec![]),
        _ => ok(),
    })
    .await;
    let main = house.newest();
    house.perform(subscribe("a!1", true), Client::default().context()).await.unwrap();
    let ending = house.spawn(subscribe("a!1", false), Client::default().context());
    until("the end", || !main.asked_of("resources/unsubscribe").is_empty()).await;
    let beginning = house.spawn(subscribe("a!1", true), Client::default().context());
    house.perform(subscribe("b:1", true), Client::default().context()).await.unwrap();
    assert_eq!(main.asked_of("resources/subscribe").len(), 2, "another resource is not held up, this one is");
    main.say(main.asked_of("resources/unsubscribe")[0].id, &json!({"id": "$id", "result": {}}));
    assert!(ending.await.unwrap().is_ok() && beginning.await.unwrap().is_ok());
    assert_eq!(main.asked_of("resources/subscribe").last().unwrap().params["uri"], "a!1");
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_missed_is_told_as_if_everything_had_changed() {
    let house = House::new(Isolation::PerClient, |_| ok()).await;
    house.perform(subscribe("a:1", true), Client::default().context()).await.unwrap();
    let (changes, mut told) = mpsc::channel(16);
    let _attending = tokio::spawn(Arc::clone(&house.legacy).attend(changes));
    house.newest().missed.notify_one();
    for change in [Change::Tools, Change::Prompts, Change::Resources, Change::Updated("a:1".to_owned())] {
        assert_eq!(told.recv().await, Some(change));
    }
    assert_eq!(house.links().len(), 1);
}
