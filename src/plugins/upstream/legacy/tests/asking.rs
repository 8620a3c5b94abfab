//! What a server asks in the middle of a call, and what becomes of the call.

use super::*;

/// A server that asks these things of each call and then waits.
async fn asking(messages: Vec<String>) -> House {
    House::new(Isolation::PerClient, move |_| Reply::Open(messages.clone())).await
}

fn accepted() -> Value {
    json!({"action": "accept", "content": {"a": 1}})
}

#[tokio::test(start_paused = true)]
async fn an_answer_goes_to_the_call_that_asked_and_the_call_goes_on() {
    let house = asking(vec![form("s1")]).await;
    let client = Client::default();
    let (requests, state) = asks(house.perform(call("t"), client.context()).await);
    let [(key, asked)] = requests.as_slice() else { panic!("{requests:?}") };
    assert_eq!(asked.params.read::<Value>().unwrap()["mode"], "form");
    let link = house.newest();
    let going_on = house.spawn(retry("t", &[(key, accepted())], Some(&state)), client.context());
    until("the answer", || answered(&link, "s1").is_some()).await;
    assert_eq!(answered(&link, "s1").unwrap()["result"], accepted());
    assert!(link.say(link.asked_of("tools/call")[0].id, &done("thanks")));
    assert_eq!(result(going_on.await.unwrap())["content"][0]["text"], "thanks");
    assert_eq!((house.calls(), cancelled(&link)), (1, vec![]));
    assert_eq!(house.legacy.report()["parked"], 0);
}

#[tokio::test(start_paused = true)]
async fn asks_that_come_together_are_one_round_and_what_is_left_out_is_asked_again() {
    let house = asking(vec![form("s1"), request("s2", "sampling/createMessage").to_string()]).await;
    let client = Client::default();
    let (requests, state) = asks(house.perform(call("t"), client.context()).await);
    assert_eq!(requests.len(), 2);
    let half = [(&*requests[0].0, accepted()), (&*requests[1].0, json!(7)), ("other", json!({}))];
    let (left, next) = asks(house.perform(retry("t", &half, Some(&state)), client.context()).await);
    assert_eq!(left.iter().map(|(key, _)| key).collect::<Vec<_>>(), [&requests[1].0]);
    assert_ne!(state, next);
    let link = house.newest();
    assert!(answered(&link, "s1").is_some() && answered(&link, "s2").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_state_is_used_once_and_by_whom_it_was_given_to() {
    let house = asking(vec![form("s1")]).await;
    let client = Client::default();
    let (requests, state) = asks(house.perform(call("t"), client.context()).await);
    let again = || retry("t", &[(&requests[0].0, accepted())], Some(&state));
    let of_other = Client { conversation: Some(9), ..Client::default() };
    for other in [Client::of(2), of_other] {
        let refused = house.perform(again(), other.context()).await;
        assert!(matches!(&refused, Err(PluginError::InvalidParams(_))), "{refused:?}");
    }
    let going_on = house.spawn(again(), client.context());
    let link = house.newest();
    until("the answer", || answered(&link, "s1").is_some()).await;
    let Err(PluginError::InvalidParams(says)) = house.perform(again(), client.context()).await else {
        panic!("the state was used twice")
    };
    assert!(says.contains("already answered"), "{says}");
    link.say(link.asked_of("tools/call")[0].id, &done("x"));
    result(going_on.await.unwrap());
    assert_eq!(house.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_comes_back_costs_the_server_no_more_than_the_input_timeout() {
    let house = asking(vec![form("s1"), request("s2", "roots/list").to_string()]).await;
    let client = Client::default();
    let (requests, state) = asks(house.perform(call("t"), client.context()).await);
    let link = house.newest();
    let id = link.asked_of("tools/call")[0].id;
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert!(link.listens(id) && cancelled(&link).is_empty());
    until("the end of the wait", || cancelled(&link) == [id] && !link.listens(id)).await;
    assert_eq!(answered(&link, "s1").unwrap()["result"], json!({"action": "cancel"}));
    assert!(answered(&link, "s2").unwrap()["error"].is_object());
    assert_eq!(house.legacy.report()["parked"], 0);
    let late = retry("t", &[(&requests[0].0, accepted())], Some(&state));
    let Err(PluginError::InvalidParams(says)) = house.perform(late, client.context()).await else {
        panic!("it was too late")
    };
    assert!(says.contains("30 s") && says.contains("not run again"), "{says}");
    assert_eq!(house.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_client_is_the_answer_to_what_the_server_asked_and_the_call_goes_on() {
    let house = asking(vec![request("s1", "sampling/createMessage").to_string()]).await;
    let client = Client { conversation: Some(1), ..Client::default() };
    let (requests, state) = asks(house.perform(call("t"), client.context()).await);
    let error = RpcError { code: -1, message: "not today".to_owned(), data: Value::Null };
    let answers = Answers::new(Object::default(), Some(Raw::value(&state)));
    let answers = answers.refusing(vec![(requests[0].0.clone(), error)]);
    let request = Request::Call { tool: "t".into(), arguments: Raw::empty_object(), answers };
    let going_on = house.spawn(request, client.context());
    let link = house.newest();
    until("the refusal", || answered(&link, "s1").is_some()).await;
    let told = &answered(&link, "s1").unwrap()["error"];
    assert_eq!((&told["code"], &told["message"]), (&json!(-1), &json!("not today")));
    link.say(link.asked_of("tools/call")[0].id, &done("without it"));
    assert_eq!(result(going_on.await.unwrap())["content"][0]["text"], "without it");
    assert_eq!((house.calls(), cancelled(&link)), (1, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_client_in_a_session_that_does_not_wait_any_more_frees_the_parked_call_at_once() {
    let house = asking(vec![form("s1"), request("s2", "roots/list").to_string()]).await;
    let client = Client { conversation: Some(1), ..Client::default() };
    let context = client.context();
    asks(house.perform(call("t"), context.clone()).await);
    let link = house.newest();
    let id = link.asked_of("tools/call")[0].id;
    let began = Instant::now();
    context.cancel().cancel();
    until("the end", || cancelled(&link) == [id] && !link.listens(id)).await;
    assert!(began.elapsed() < Duration::from_secs(20), "it did not wait for the input timeout");
    assert_eq!(answered(&link, "s1").unwrap()["result"], json!({"action": "cancel"}));
    assert!(answered(&link, "s2").unwrap()["error"].is_object());
    assert_eq!(house.legacy.report()["parked"], 0);
    // Whoever calls without a session hangs up between two rounds, and comes back.
    let (stateless, house) = (Client::default(), asking(vec![form("s1")]).await);
    let context = stateless.context();
    asks(house.perform(call("t"), context.clone()).await);
    context.cancel().cancel();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((house.legacy.report()["parked"].clone(), cancelled(&house.newest())), (json!(1), vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_parked_call_of_an_earlier_life_is_never_run_again() {
    let house = asking(vec![form("s1")]).await;
    let client = Client::default();
    let (_, state) = asks(house.perform(call("t"), client.context()).await);
    let next = asking(vec![]).await;
    for state in [state, json!({"parked": "x"}), json!({"other": 1})] {
        let gone = next.perform(retry("t", &[("ask-1", accepted())], Some(&state)), client.context()).await;
        assert!(matches!(&gone, Err(PluginError::InvalidParams(_))), "{gone:?}");
    }
    assert_eq!(next.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_plugin_gives_up_what_is_parked() {
    let house = asking(vec![form("s1")]).await;
    asks(house.perform(call("t"), Client::default().context()).await);
    let link = house.newest();
    Arc::clone(&house.legacy).close().await;
    assert_eq!(cancelled(&link), [link.asked_of("tools/call")[0].id]);
    assert!(house.links().iter().all(|link| link.is_closed()));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_without_waiting_is_heard_when_the_client_comes_back() {
    let house = asking(vec![form("s1")]).await;
    let client = Client::default();
    let (requests, state) = asks(house.perform(call("t"), client.context()).await);
    let link = house.newest();
    link.say(link.asked_of("tools/call")[0].id, &done("never mind"));
    let back = retry("t", &[(&requests[0].0, accepted())], Some(&state));
    assert_eq!(result(house.perform(back, client.context()).await)["content"][0]["text"], "never mind");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_has_its_call_cancelled_at_the_server() {
    let house = asking(vec![]).await;
    let calling = house.spawn(call("t"), Client::default().context());
    until("the call", || house.calls() == 1).await;
    let link = house.newest();
    let id = link.asked_of("tools/call")[0].id;
    assert!(link.listens(id) && cancelled(&link).is_empty());
    calling.abort();
    until("the cancellation", || cancelled(&link) == [id] && !link.listens(id)).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_client_cannot_be_asked_is_refused_to_the_server_at_once() {
    let house = asking(vec![request("s1", "sampling/createMessage").to_string(), form("s2")]).await;
    let client = Client { can: json!({"elicitation": {"form": {}}}), ..Client::default() };
    let (requests, _) = asks(house.perform(call("t"), client.context()).await);
    assert_eq!(requests.len(), 1);
    let link = house.newest();
    let declared = &link.asked_of("initialize")[0].params["capabilities"];
    assert_eq!(declared, &json!({"elicitation": {"form": {}}}));
    until("the refusal", || answered(&link, "s1").is_some()).await;
    assert_eq!(answered(&link, "s1").unwrap()["error"]["code"], -32601);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_failed_until_a_url_is_opened_is_made_again_once_it_was() {
    let house = House::new(Isolation::PerClient, |asked| {
        if asked.params["name"] == "opened" {
            return Reply::result(&json!({"content": []}));
        }
        let one = json!({"mode": "url", "message": "m", "url": "https://a.example", "elicitationId": "e"});
        let error = json!({"code": -32042, "message": "open", "data": {"elicitations": [one]}});
        Reply::Say(vec![format!(r#"{{"jsonrpc":"2.0","id":$id,"error":{error}}}"#)])
    })
    .await;
    let client = Client::default();
    let (requests, state) = asks(house.perform(call("t"), client.context()).await);
    let params: Value = requests[0].1.params.read().unwrap();
    assert_eq!(params, json!({"mode": "url", "message": "m", "url": "https://a.example"}));
    let declined = [(&*requests[0].0, json!({"action": "decline"}))];
    let said = result(house.perform(retry("t", &declined, Some(&state)), client.context()).await);
    assert_eq!((said["isError"].clone(), house.calls()), (json!(true), 1));
    // The word that it was opened wakes the call; the tool's other name makes the played server content.
    let accepted = [(&*requests[0].0, json!({"action": "accept"}))];
    let again = house.spawn(retry("opened", &accepted, Some(&state)), client.context());
    let complete = "notifications/elicitation/complete";
    house.newest().stray(&json!({"method": complete, "params": {"elicitationId": "e"}}));
    result(again.await.unwrap());
    assert_eq!(house.calls(), 2);
    let cannot = Client { can: json!({"elicitation": {"form": {}}}), ..Client::default() };
    let missing = house.perform(call("t"), cannot.context()).await;
    assert!(matches!(&missing, Err(PluginError::MissingCapability(_))), "{missing:?}");
}

#[tokio::test(start_paused = true)]
async fn an_ask_beside_the_call_goes_to_the_only_call_or_to_none() {
    let house = asking(vec![]).await;
    let calling = house.spawn(call("t"), Client::default().context());
    until("the call", || house.calls() == 1).await;
    house.newest().stray(&serde_json::from_str(&form("s1")).unwrap());
    assert_eq!(asks(calling.await.unwrap()).0.len(), 1);
    // The main session has no call in work.
    let main = house.links()[0].clone();
    main.stray(&request("s2", "roots/list"));
    main.stray(&request("s3", "tasks/list"));
    main.stray(&request("s4", "ping"));
    until("answers", || ["s2", "s3", "s4"].iter().all(|id| answered(&main, id).is_some())).await;
    assert_eq!(answered(&main, "s2").unwrap()["error"]["code"], -32603);
    assert_eq!(answered(&main, "s3").unwrap()["error"]["code"], -32601);
    assert_eq!(answered(&main, "s4").unwrap()["result"], json!({}));
}

#[tokio::test(start_paused = true)]
async fn an_ask_that_the_server_takes_back_is_not_asked() {
    let back = json!({"method": "notifications/cancelled", "params": {"requestId": "s1"}}).to_string();
    let house = asking(vec![form("s1"), back, form("s2")]).await;
    let (requests, _) = asks(house.perform(call("t"), Client::default().context()).await);
    let messages: Vec<Value> =
        requests.iter().map(|(_, asked)| asked.params.read::<Value>().unwrap()["message"].clone()).collect();
    assert_eq!(messages, ["s2"]);
}

#[tokio::test(start_paused = true)]
async fn answers_to_nothing_are_ignored_and_pings_answered() {
    let house = asking(vec![
        json!({"id": 4711, "result": {"content": []}}).to_string(),
        json!({"id": "7", "error": {"code": 1, "message": "m"}}).to_string(),
        json!({"id": "p", "method": "ping"}).to_string(),
        done("it").to_string().replace("\"$id\"", "$id"),
    ])
    .await;
    let said = result(house.perform(call("t"), Client::default().context()).await);
    assert_eq!(said["content"][0]["text"], "it");
    let link = house.newest();
    until("the pong", || answered(&link, "p").is_some()).await;
    link.stray(&json!({"id": 1, "result": {}}));
    until("the count", || house.legacy.report()["ignoredMessages"] == 3).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_program_said_before_it_died_is_not_told_to_the_client_whose_answer_it_did_not_take() {
    let house = asking(vec![form("s1")]).await;
    let client = Client::default();
    let (requests, state) = asks(house.perform(call("t"), client.context()).await);
    let died = LinkError::Broken("it exited with code 1; it last said on stderr: key=hunter22".to_owned());
    *house.newest().tell_trouble.lock().unwrap() = Some(died);
    let again = retry("t", &[(&*requests[0].0, accepted())], Some(&state));
    let Err(PluginError::Upstream(says)) = house.perform(again, client.context()).await else {
        panic!("it is taken for the client's mistake")
    };
    assert!(says.contains("not known: see what it did") && !says.contains("hunter22"), "{says}");
}
