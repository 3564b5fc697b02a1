//! What goes wrong: absent and deleted topics, limits, a frozen broker.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_took_is_a_gap_and_the_session_goes_on() {
    let live = live!();
    let topic = live.topic(1, &[]).await;
    let kafka = live.open(&[&topic], |_| ());
    publish_all(&kafka, &["0", "1", "2", "3"]).await;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Offset(3)).unwrap();
    live.admin.delete_records(&list, &AdminOptions::new()).await.expect("records are deleted");

    for offset in [1, 99] {
        let token = ResumeToken {
            scope: Scope::new("main", [topic.as_str()], 0),
            positions: vec![Position { topic: 0, partition: 0, offset }],
        };
        let mut subscription = subscribe(&kafka, Subscribe { resume: Some(token), ..request() }).await;
        let mut out = Vec::new();
        assert_eq!(pull_once(&mut subscription, &mut out).await, Ok(Pulled::Gap));
        assert!(out.is_empty());
        assert_eq!(texts(&pull(&mut subscription, 1).await), ["3"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absent_topic_is_named_in_both_directions() {
    let live = live!();
    let kafka = live.open(&["no-such-topic"], |_| ());
    let error = refused(&kafka, request()).await;
    assert!(
        matches!(&error, SubscribeError::AddressNotFound(text) if text.contains("no-such-topic") && text.contains("main")),
        "{error}"
    );
    let error = publish(&kafka, sample(b"x")).await.unwrap_err();
    assert!(matches!(&error, PublishError::AddressNotFound(text) if text.contains("no-such-topic")), "{error}");

    let nowhere = live.open(&[], |_| ());
    assert!(matches!(refused(&nowhere, request()).await, SubscribeError::NoSource(_)));
    let error = publish(&nowhere, sample(b"x")).await.unwrap_err();
    assert!(matches!(&error, PublishError::AddressNotFound(text) if text.contains("topic_out")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_deleted_ends_its_sessions() {
    let live = live!();
    let topic = live.topic(1, &[]).await;
    let kafka = live.open(&[&topic], |_| ());
    let mut subscription = subscribe(&kafka, request()).await;
    publish_all(&kafka, &["0"]).await;
    pull(&mut subscription, 1).await;
    live.admin.delete_topics(&[&topic], &AdminOptions::new()).await.unwrap();
    let lost = pull_once(&mut subscription, &mut Vec::new()).await.unwrap_err();
    assert!(lost.0.contains(&topic), "{lost}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_made_anew_is_read_from_its_start() {
    let live = live!();
    let topic = live.topic(1, &[]).await;
    let kafka = live.open(&[&topic], |_| ());
    publish_all(&kafka, &["0", "1", "2"]).await;
    let mut subscription = subscribe(&kafka, request()).await;
    live.admin.delete_topics(&[&topic], &AdminOptions::new()).await.unwrap();
    live.make(&topic, 1, &[]).await;
    let writer = live.open(&[&topic], |_| ());
    publish_all(&writer, &["a"]).await;
    assert_eq!(pull_once(&mut subscription, &mut Vec::new()).await, Ok(Pulled::Gap));
    assert_eq!(texts(&pull(&mut subscription, 1).await), ["a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_says_whose_limit_it_is() {
    let live = live!();
    let topic = live.topic(1, &[("max.message.bytes", "1048588")]).await;
    let kafka = live.open(&[&topic], |_| ());
    for size in [2 << 20, 17 << 20] {
        let error = publish(&kafka, sample(&vec![b'x'; size])).await.unwrap_err();
        assert!(matches!(&error, PublishError::TooLarge(text) if text.contains("message.max.bytes")), "{error}");
    }
    let large = live.topic(1, &[("max.message.bytes", "4194304")]).await;
    let kafka = live.open(&[&large], |_| ());
    let mut subscription = subscribe(&kafka, request()).await;
    publish(&kafka, sample(&vec![b'x'; 3 << 20])).await.unwrap();
    assert_eq!(pull(&mut subscription, 1).await[0].event.size(), 3 << 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cap_counts_and_a_dropped_session_gives_everything_back() {
    let Some(live) = Live::alone() else { return };
    let _alone = broker().write().await;
    let topic = live.topic(1, &[]).await;
    let kafka = live.open(&[&topic], |c| c.max_dedicated_consumers = Some(5));
    drop(subscribe(&kafka, request()).await);
    eventually(|| kafka.places.available_permits() == 5).await;
    let before = threads();
    for _ in 0..3 {
        let mut open = Vec::new();
        for _ in 0..5 {
            open.push(subscribe(&kafka, request()).await);
        }
        let error = refused(&kafka, request()).await;
        assert!(matches!(&error, SubscribeError::Full(text) if text.contains("max_dedicated_consumers")), "{error}");
        assert!(threads() >= before + 5);
        drop(open);
        eventually(|| kafka.places.available_permits() == 5).await;
    }
    eventually(|| threads() <= before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_holds_nobody() {
    let Some(live) = Live::alone() else { return };
    let Ok(pid) = std::env::var("MEDIATION_TEST_KAFKA_PID") else {
        eprintln!("SKIPPED: MEDIATION_TEST_KAFKA_PID names no process");
        return;
    };
    let pid = Pid::from_raw(pid.parse().expect("a process id"));
    let _alone = broker().write().await;
    let topic = live.topic(1, &[]).await;
    let kafka = live.open(&[&topic], |c| c.max_dedicated_consumers = Some(50));
    let mut open = Vec::new();
    for n in 0..40 {
        let request = if n % 2 == 0 { request() } else { durable(&format!("frozen-{n}")) };
        open.push(subscribe(&kafka, request).await);
    }
    publish_all(&kafka, &["0"]).await;

    kill(pid, Signal::SIGSTOP).unwrap();
    let thaw = Thaw(pid);
    let begun = Instant::now();
    drop(open);
    assert!(begun.elapsed() < Duration::from_secs(1), "dropping blocks: {:?}", begun.elapsed());
    let begun = Instant::now();
    let (checked, opened) = tokio::join!(kafka.check(), kafka.subscribe(request()));
    assert!(checked.is_err());
    assert!(matches!(opened.err(), Some(SubscribeError::Unavailable(_))));
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    let begun = Instant::now();
    eventually(|| kafka.places.available_permits() == 50).await;
    eprintln!("40 consumers of a frozen broker closed in {:?}", begun.elapsed());
    drop(thaw);

    let mut subscription = eventually_opens(&kafka).await;
    publish_all(&kafka, &["1"]).await;
    assert_eq!(texts(&pull(&mut subscription, 1).await), ["1"]);
}

struct Thaw(Pid);

impl Drop for Thaw {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).unwrap();
    }
}

async fn eventually_opens(kafka: &Kafka) -> Box<dyn Subscription> {
    let deadline = Instant::now() + LONG;
    loop {
        match kafka.subscribe(request()).await {
            Ok(subscription) => return subscription,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

async fn eventually(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "not in {LONG:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn threads() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|l| l.strip_prefix("Threads:")).expect("a count");
    line.trim().parse().expect("a number")
}
