//! What goes right: round trips, positions, order.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_comes_back_as_it_went() {
    let live = live!();
    let topic = live.topic(1, &[]).await;
    let kafka = live.open(&[&topic], |_| ());
    kafka.check().await.expect("it is there");
    let mut subscription = subscribe(&kafka, request()).await;

    let mut event = sample(&[0xff, 0, 7]);
    event.key = Some(Bytes::from_static(b"k"));
    for (name, value) in [("a", Some(&b"1"[..])), ("a", Some(&[0xfe][..])), ("n", None), ("e", Some(&b""[..]))] {
        event.headers.push(Header { name: name.into(), value: value.map(Bytes::copy_from_slice) });
    }
    let mut tombstone = sample(b"");
    tombstone.payload = None;
    publish(&kafka, event.clone()).await.unwrap();
    publish(&kafka, tombstone).await.unwrap();
    publish(&kafka, sample(b"")).await.unwrap();

    let got = pull(&mut subscription, 3).await;
    let first = &got[0].event;
    assert_eq!(first.payload, Some(Bytes::from_static(&[0xff, 0, 7]).into()));
    assert_eq!(first.key, event.key);
    assert_eq!(first.timestamp_ms, event.timestamp_ms);
    assert_eq!(first.headers, event.headers);
    assert_eq!(first.id.to_string(), format!("{topic}-0-0"));
    assert_eq!(&*first.source, "main");
    assert_eq!((got[0].lane, got[0].next), (0, 1));
    assert_eq!(got[1].event.payload, None);
    assert_eq!(got[1].event.key, None);
    assert_eq!(got[2].event.payload, Some(Bytes::new().into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latest_misses_nothing_that_is_published_after_it() {
    let live = live!();
    let topics = [live.topic(3, &[]).await, live.topic(1, &[]).await];
    let kafka = live.open(&[&topics[0], &topics[1]], |_| ());
    publish_all(&kafka, &["before"; 5]).await;
    let mut subscription = subscribe(&kafka, request()).await;
    assert_eq!(subscription.lanes().len(), 4);
    publish(&kafka, sample(b"after")).await.unwrap();
    kafka.publish(Some(topics[1].as_str().into()), Arc::new(sample(b"other")), PUBLISH).await.unwrap().await.unwrap();
    let mut got = texts(&pull(&mut subscription, 2).await);
    got.sort();
    assert_eq!(got, ["after", "other"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_token_goes_on_where_it_says() {
    let live = live!();
    let topic = live.topic(1, &[]).await;
    let kafka = live.open(&[&topic], |_| ());
    publish_all(&kafka, &["0", "1", "2", "3"]).await;
    let scope = Scope::new("main", [topic.as_str()], 0);
    let token = ResumeToken { scope, positions: vec![Position { topic: 0, partition: 0, offset: 2 }] };
    let mut subscription = subscribe(&kafka, Subscribe { resume: Some(token.clone()), ..request() }).await;
    assert_eq!(subscription.scope(), Some(scope));
    assert_eq!(subscription.lanes()[0].start, 2);
    assert_eq!(texts(&pull(&mut subscription, 2).await), ["2", "3"]);

    let foreign = ResumeToken { scope: Scope { hash: 1, epoch: 0 }, ..token };
    let error = refused(&kafka, Subscribe { resume: Some(foreign), ..request() }).await;
    assert!(matches!(error, SubscribeError::BadToken(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_session_goes_on_where_it_settled() {
    let live = live!();
    let topic = live.topic(1, &[]).await;
    let kafka = live.open(&[&topic], |_| ());
    publish_all(&kafka, &["0", "1"]).await;
    let id = format!("c-{}", uuid::Uuid::now_v7().simple());

    // The start is committed at connect: a client that leaves before any event loses nothing.
    drop(subscribe(&kafka, durable(&id)).await);
    publish_all(&kafka, &["2", "3", "4"]).await;
    let mut subscription = subscribe(&kafka, durable(&id)).await;
    assert_eq!(texts(&pull(&mut subscription, 3).await), ["2", "3", "4"]);
    subscription.settle(0, 3);
    flush(&mut subscription).await;
    assert_eq!(committed(&live, &id, &topic), Some(3));

    // Settled, dropped without a flush: taken over at once.
    subscription.settle(0, 4);
    drop(subscription);
    let mut subscription = subscribe(&kafka, durable(&id)).await;
    assert_eq!(texts(&pull(&mut subscription, 1).await), ["4"]);

    // Another engine; and the earlier of token and commit counts, yet the commit never goes back.
    drop(subscription);
    kafka.close(LONG).await;
    let other = live.open(&[&topic], |_| ());
    let token = ResumeToken {
        scope: Scope::new("main", [topic.as_str()], 0),
        positions: vec![Position { topic: 0, partition: 0, offset: 1 }],
    };
    let subscription = subscribe(&other, Subscribe { resume: Some(token), ..durable(&id) }).await;
    assert_eq!(subscription.lanes()[0].start, 1);
    assert_eq!(committed(&live, &id, &topic), Some(4));
}

/// As any Kafka client sees it.
pub(super) fn committed(live: &Live, id: &str, topic: &str) -> Option<i64> {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &live.brokers)
        .set("group.id", format!("mediation.main.{id}"))
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    let found = consumer.committed_offsets(list, LONG).expect("an answer");
    match found.find_partition(topic, 0).expect("the partition").offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_partitions_are_read_from_their_start() {
    let live = live!();
    let topic = live.topic(1, &[]).await;
    let kafka = live.open(&[&topic], |_| ());
    let id = format!("c-{}", uuid::Uuid::now_v7().simple());
    let mut subscription = subscribe(&kafka, durable(&id)).await;
    let grown = live.admin.create_partitions([&NewPartitions::new(&topic, 3)], &AdminOptions::new()).await;
    grown.unwrap().into_iter().for_each(|result| drop(result.unwrap()));
    let writer = live.open(&[&topic], |_| ());
    for n in 0..200 {
        let mut event = sample(n.to_string().as_bytes());
        event.key = Some(Bytes::from(n.to_string()));
        publish(&writer, event).await.unwrap();
        if n % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let got = pull(&mut subscription, 200).await;
    assert_eq!(got.len(), 200);
    assert_eq!(subscription.lanes().len(), 3);
    assert!(subscription.lanes()[1..].iter().all(|lane| lane.start == 0));
    flush(&mut subscription).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_holds_and_budgets_are_kept() {
    let live = live!();
    let topic = live.topic(1, &[]).await;
    let kafka = live.open(&[&topic], |c| c.start = Start::Earliest);
    let mut confirms = Vec::new();
    for n in 0..10_000_u32 {
        let event = Arc::new(sample(n.to_string().as_bytes()));
        confirms.push(kafka.publish(None, event, PUBLISH).await.unwrap());
    }
    for confirm in confirms {
        confirm.await.unwrap();
    }
    let mut subscription = subscribe(&kafka, request()).await;
    let mut out = Vec::new();
    while out.len() < 10_000 {
        let before = out.len();
        let budget = Budget { events: 7, bytes: 1000 };
        let pulled = timeout(LONG, poll_fn(|cx| subscription.poll_pull(cx, budget, &mut out))).await;
        assert_eq!(pulled.expect("in time"), Ok(Pulled::Events));
        assert!(out.len() - before <= 7);
    }
    assert!(texts(&out).iter().enumerate().all(|(n, text)| *text == n.to_string()));
    let none = poll_fn(|cx| Poll::Ready(subscription.poll_pull(cx, Budget { events: 1, bytes: 1 }, &mut out))).await;
    assert!(none.is_pending());
}
