//! Subscriptions that name their topic: none of the endpoint's own, positions of their own, partitions that grow.

use super::reading::committed;
use super::*;

fn at(topic: &str, durable: Option<&str>) -> Subscribe {
    Subscribe { address: Some(topic.into()), durable: durable.map(Into::into), ..request() }
}

async fn publish_to(kafka: &Kafka, topic: &str, texts: &[&str]) {
    for text in texts {
        let event = Arc::new(sample(text.as_bytes()));
        kafka.publish(Some(topic.into()), event, PUBLISH).await.unwrap().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_read_also_where_the_endpoint_has_no_topic() {
    let live = live!();
    let topic = live.topic(1, &[]).await;
    let kafka = live.open(&[], |_| ());
    let mut subscription = subscribe(&kafka, at(&topic, None)).await;
    publish_to(&kafka, &topic, &["0", "1"]).await;
    assert_eq!(texts(&pull(&mut subscription, 2).await), ["0", "1"]);
    assert_eq!(subscription.scope(), Some(Scope::new("main", [topic.as_str()], 0)));
    assert!(matches!(refused(&kafka, request()).await, SubscribeError::NoSource(_)));

    let foreign = ResumeToken { scope: Scope::new("main", ["other"], 0), positions: Vec::new() };
    let error = refused(&kafka, Subscribe { resume: Some(foreign), ..at(&topic, None) }).await;
    assert!(matches!(error, SubscribeError::BadToken(_)), "{error}");
    let error = refused(&kafka, at("not-there", None)).await;
    assert!(matches!(error, SubscribeError::AddressNotFound(_)), "{error}");
    let error = refused(&kafka, at("not/a/topic", None)).await;
    assert!(matches!(error, SubscribeError::AddressNotFound(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_keeps_a_position_in_each_address() {
    let live = live!();
    let (own, other) = (live.topic(1, &[]).await, live.topic(1, &[]).await);
    let kafka = live.open(&[&own], |c| c.start = Start::Earliest);
    publish_to(&kafka, &own, &["0", "1", "2"]).await;
    publish_to(&kafka, &other, &["0", "1", "2"]).await;
    let id = format!("c-{}", uuid::Uuid::now_v7().simple());
    // Both live at once: neither takes the other's place.
    let mut first = subscribe(&kafka, durable(&id)).await;
    let mut second = subscribe(&kafka, at(&other, Some(&id))).await;
    pull(&mut first, 3).await;
    pull(&mut second, 3).await;
    first.settle(0, 1);
    second.settle(0, 2);
    flush(&mut first).await;
    flush(&mut second).await;
    assert_eq!((committed(&live, &id, &own), committed(&live, &id, &other)), (Some(1), Some(2)));
    drop((first, second));
    assert_eq!(subscribe(&kafka, durable(&id)).await.lanes()[0].start, 1);
    assert_eq!(subscribe(&kafka, at(&other, Some(&id))).await.lanes()[0].start, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_addresss_new_partitions_are_read_too() {
    let live = live!();
    let (own, other) = (live.topic(1, &[]).await, live.topic(1, &[]).await);
    let kafka = live.open(&[&own], |_| ());
    let mut subscription = subscribe(&kafka, at(&other, None)).await;
    let grown = live.admin.create_partitions([&NewPartitions::new(&other, 3)], &AdminOptions::new()).await;
    grown.unwrap().into_iter().for_each(|result| drop(result.unwrap()));
    let writer = live.open(&[], |_| ());
    for n in 0..100 {
        let mut event = sample(n.to_string().as_bytes());
        event.key = Some(Bytes::from(n.to_string()));
        writer.publish(Some(other.as_str().into()), Arc::new(event), PUBLISH).await.unwrap().await.unwrap();
    }
    assert_eq!(pull(&mut subscription, 100).await.len(), 100);
    assert_eq!(subscription.lanes().len(), 3);
}
