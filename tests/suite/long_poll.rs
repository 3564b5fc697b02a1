//! Long polling: what a poll brings, how long it waits, acknowledgement and what comes again.

use std::time::{Duration, Instant};

use mediation_tests::broker::Reachable;
use mediation_tests::{Memory, OnKafka, Spec, World, http, run};
use reqwest::Response;
use serde_json::{Value, json};

struct Poller<'a, B: Reachable = Memory> {
    world: &'a World<B>,
    session: String,
}

impl<'a, B: Reachable> Poller<'a, B> {
    async fn subscribe(world: &'a World<B>, query: &str) -> Self {
        let request =
            http().post(world.engine.url("poll", &format!("/subscribe{query}"))).header("x-client-id", "poller");
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 201);
        let body: Value = answer.json().await.expect("JSON");
        assert_eq!(body["client_id"], "poller", "{body}");
        Self { world, session: body["session_id"].as_str().expect("an id").to_owned() }
    }

    async fn poll(&self, query: &str) -> Response {
        let request = http().get(self.world.engine.url("poll", &format!("/poll{query}")));
        request.header("x-session-id", &self.session).send().await.expect("an answer")
    }

    async fn items(&self, query: &str) -> Vec<Value> {
        let request =
            http().get(self.world.engine.url("poll", &format!("/poll{query}"))).header("accept", "application/json");
        let answer = request.header("x-session-id", &self.session).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let body: Value = answer.json().await.expect("JSON");
        body["items"].as_array().expect("items").clone()
    }

    async fn unsubscribe(self) {
        let request = http().delete(self.world.engine.url("poll", "/unsubscribe"));
        let answer = request.header("x-session-id", &self.session).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
    }

    async fn ack(&self, body: Value) -> u16 {
        let request = http().post(self.world.engine.url("poll", "/ack")).header("x-session-id", &self.session);
        request.json(&body).send().await.expect("an answer").status().as_u16()
    }
}

#[test]
fn a_poll_gives_one_event_raw_with_its_id_and_metadata() {
    run(async {
        let world = World::<Memory>::start(Spec::default()).await;
        let poller = Poller::subscribe(&world, "").await;
        world.publish_records(&[mediation_tests::Record::new("raw \u{fc}").header("x-one", "1")]).await;
        let answer = poller.poll("").await;
        assert_eq!(answer.status(), 200);
        let header = |name: &str| answer.headers().get(name).map(|v| v.to_str().expect("text").to_owned());
        assert!(header("x-event-id").expect("an id").ends_with("-0-0"));
        assert!(header("x-resume-token").is_some_and(|t| !t.is_empty()));
        assert_eq!(header("x-meta-protocol").as_deref(), Some("memory"));
        assert_eq!(header("x-meta-header.x-one").as_deref(), Some("1"), "{:?}", answer.headers());
        assert_eq!(answer.text().await.expect("a body"), "raw \u{fc}");
    });
}

#[test]
fn a_poll_waits_for_an_event_and_not_longer_than_asked() {
    run(async {
        let world = World::<Memory>::start(Spec::default()).await;
        let poller = Poller::subscribe(&world, "").await;
        let start = Instant::now();
        assert_eq!(poller.poll("?wait=1s").await.status(), 204);
        assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
        let (answer, ()) = tokio::join!(poller.poll("?wait=30s"), world.publish(["comes"]));
        assert_eq!(answer.text().await.expect("a body"), "comes");
    });
}

#[test]
fn a_second_poll_beside_a_waiting_one_is_409() {
    run(async {
        let world = World::<Memory>::start(Spec::default()).await;
        let poller = Poller::subscribe(&world, "").await;
        let waiting = poller.poll("?wait=30s");
        let second = async {
            // Whichever of the two arrives first waits; the other is refused at once.
            poller.poll("?wait=30s").await
        };
        let refused = async {
            let mut waiting = std::pin::pin!(waiting);
            let mut second = std::pin::pin!(second);
            tokio::select! { a = &mut waiting => (a.status(), second.as_mut().await), b = &mut second => (b.status(), waiting.as_mut().await) }
        };
        let publish = async {
            world.engine.session_when("poller", "it is polled", |_| true).await;
            // The refusal needs no event; the event ends the poll that waits.
            tokio::time::sleep(Duration::from_secs(1)).await;
            world.publish(["x"]).await;
        };
        let ((status, winner), ()) = tokio::join!(refused, publish);
        assert_eq!(status, 409);
        assert_eq!(winner.text().await.expect("a body"), "x");
    });
}

#[test]
fn items_are_limited_and_acknowledged_by_the_client() {
    run(async {
        let world = World::<Memory>::start(Spec { down: json!({ "durable": true }), ..Spec::default() }).await;
        let poller = Poller::subscribe(&world, "?ack=client").await;
        world.publish((0..5).map(|i| i.to_string())).await;
        let mut items = poller.items("?limit=3").await;
        assert_eq!(items.len(), 3, "{items:?}");
        while items.len() < 5 {
            items.extend(poller.items("?limit=3").await);
        }
        let payloads: Vec<_> = items.iter().map(|i| i["payload"].as_str().unwrap_or_default()).collect();
        assert_eq!(payloads, ["0", "1", "2", "3", "4"]);
        assert_eq!(world.acknowledged("poller").await, Some(0));
        assert_eq!(poller.ack(json!({ "ids": [items[0]["id"], items[2]["id"]] })).await, 204);
        world.acknowledged_is("poller", 1).await;
        assert_eq!(poller.ack(json!({ "ids": [items[1]["id"]] })).await, 204);
        world.acknowledged_is("poller", 3).await;
    });
}

#[test]
fn the_committed_offset_on_kafka_moves_with_the_clients_acks_only() {
    run(async {
        let world = World::<OnKafka>::start(Spec { down: json!({ "durable": true }), ..Spec::default() }).await;
        let all = async |poller: &Poller<'_, OnKafka<'static>>| {
            let mut items = Vec::new();
            while items.len() < 5 {
                items.extend(poller.items("?wait=30s").await);
            }
            items.into_iter().map(|item| item["id"].clone()).collect::<Vec<_>>()
        };
        let poller = Poller::subscribe(&world, "?ack=client").await;
        world.acknowledged_is("poller", 0).await;
        world.publish((0..5).map(|n| n.to_string())).await;
        let ids = all(&poller).await;
        // The next poll says nothing about the one before; the end of a session commits what it has.
        assert_eq!(poller.poll("?wait=1s").await.status(), 204);
        poller.unsubscribe().await;
        assert_eq!(world.acknowledged("poller").await, Some(0), "given, and not acknowledged");

        let poller = Poller::subscribe(&world, "?ack=client").await;
        assert_eq!(all(&poller).await, ids, "all come again");
        assert_eq!(poller.ack(json!({ "ids": [ids[0], ids[1], ids[3]] })).await, 204);
        world.acknowledged_is("poller", 2).await;
        assert_eq!(poller.poll("?wait=1s").await.status(), 204);
        poller.unsubscribe().await;
        assert_eq!(world.acknowledged("poller").await, Some(2), "up to the first that is not acknowledged");

        let poller = Poller::subscribe(&world, "?ack=client").await;
        let first = poller.items("?wait=30s").await.remove(0);
        assert_eq!(first["id"], ids[2]);
        assert_eq!(poller.ack(json!({ "ids": ids[2..] })).await, 204);
        world.acknowledged_is("poller", 5).await;
    });
}

#[test]
fn what_is_not_acknowledged_in_ack_timeout_is_given_again() {
    run(async {
        let listeners = json!({ "poll": { "ack_timeout": "3s" } });
        let world = World::<Memory>::start(Spec { listeners, ..Spec::default() }).await;
        let poller = Poller::subscribe(&world, "?ack=client").await;
        world.publish(["one"]).await;
        let first = poller.items("").await.remove(0);
        let again = poller.items("?wait=30s").await.remove(0);
        assert_eq!((&first["id"], &first["payload"]), (&again["id"], &again["payload"]));
        assert_eq!(poller.ack(json!({ "ids": [first["id"]] })).await, 204);
        world.publish(["two"]).await;
        assert_eq!(poller.items("?wait=30s").await[0]["payload"], "two", "it does not come a third time");
    });
}

#[test]
fn a_nack_brings_the_event_again() {
    run(async {
        let down = json!({ "redelivery_backoff": "100ms" });
        let world = World::<Memory>::start(Spec { down, ..Spec::default() }).await;
        let poller = Poller::subscribe(&world, "?ack=client").await;
        world.publish(["one"]).await;
        let first = poller.items("").await.remove(0);
        assert_eq!(poller.ack(json!({ "nack": [first["id"]], "requeue": true })).await, 204);
        let again = poller.items("?wait=30s").await.remove(0);
        assert_eq!(first["id"], again["id"]);
    });
}

#[test]
fn a_session_that_nobody_polls_is_closed() {
    run(async {
        let listeners = json!({ "poll": { "idle_timeout": "3s" } });
        let world = World::<Memory>::start(Spec { listeners, ..Spec::default() }).await;
        let poller = Poller::subscribe(&world, "").await;
        world.engine.session_gone("poller").await;
        assert_eq!(poller.poll("").await.status(), 410);
    });
}

#[test]
fn an_event_that_was_given_again_has_its_whole_ack_timeout_to_be_acknowledged() {
    run(async {
        let listeners = json!({ "poll": { "ack_timeout": "6s" } });
        let world = World::<Memory>::start(Spec { listeners, ..Spec::default() }).await;
        let poller = Poller::subscribe(&world, "?ack=client").await;
        world.publish(["one"]).await;
        let first = poller.items("").await.remove(0);
        let again = poller.items("?wait=30s").await.remove(0);
        assert_eq!(first["id"], again["id"]);
        // Time must pass here: the engine looks for what has expired each second.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert_eq!(poller.ack(json!({ "ids": [again["id"]] })).await, 204);
        world.engine.session_when("poller", "the ack counts", |s| s["settled"] == 1 && s["unsettled"] == 0).await;
    });
}

#[test]
fn a_gap_is_told_with_the_first_poll_behind_it() {
    run(async {
        let world = World::<Memory>::start(Spec { endpoint: json!({ "retain": 3 }), ..Spec::default() }).await;
        let subscribe = http().post(world.engine.url("poll", "/subscribe")).send().await.expect("an answer");
        let token = subscribe.json::<Value>().await.expect("JSON")["resume"].as_str().expect("a token").to_owned();
        world.publish((0..10).map(|n| n.to_string())).await;
        let poller = Poller::subscribe(&world, &format!("?last_event_id={token}")).await;
        let first = poller.poll("").await;
        assert_eq!(first.headers().get("x-notice").map(|v| v.as_bytes()), Some(&b"gap"[..]));
        assert_eq!(first.text().await.expect("a body"), "7", "what is still there");
        assert_eq!(poller.poll("").await.headers().get("x-notice"), None, "told once");
    });
}

#[test]
fn what_comes_again_is_marked_as_redelivered() {
    run(async {
        let down = json!({ "redelivery_backoff": "100ms" });
        let world = World::<Memory>::start(Spec { down, ..Spec::default() }).await;
        let poller = Poller::subscribe(&world, "?ack=client").await;
        world.publish(["one"]).await;
        let marked = |answer: &Response| answer.headers().contains_key("x-meta-mediation.redelivered");
        let first = poller.poll("").await;
        assert!(!marked(&first), "{:?}", first.headers());
        let id = first.headers()["x-event-id"].to_str().expect("text").to_owned();
        assert_eq!(poller.ack(json!({ "nack": [id] })).await, 204);
        let again = poller.poll("?wait=30s").await;
        assert!(marked(&again), "{:?}", again.headers());
        assert_eq!(poller.ack(json!({ "nack": [id] })).await, 204);
        let item = poller.items("?wait=30s").await.remove(0);
        assert_eq!(item["metadata"]["mediation.redelivered"], "true", "{item}");
    });
}

#[test]
fn a_poller_never_holds_more_than_the_channel_size() {
    run(async {
        let world = World::<Memory>::start(Spec { channel_size: 3, ..Spec::default() }).await;
        let poller = Poller::subscribe(&world, "?ack=client").await;
        world.publish((0..10).map(|i| i.to_string())).await;
        let items = poller.items("").await;
        assert_eq!(items.len(), 3, "{items:?}");
        assert_eq!(poller.poll("?wait=0s").await.status(), 204, "no permit is free");
        assert_eq!(poller.ack(json!({ "ids": [items[0]["id"]] })).await, 204);
        let next = poller.items("").await;
        assert_eq!((next.len(), next[0]["payload"].as_str()), (1, Some("3")), "{next:?}");
    });
}
