//! Sessions come and go: threads, descriptors and memory come back to where they were.

use futures_util::future::join_all;
use mediation_tests::run::soak;
use mediation_tests::{Broker, Memory, OnKafka, Spec, World, Ws, eventually, run, unique};

#[test]
fn a_thousand_sessions_on_memory_leave_nothing_behind() {
    run(waves::<Memory>(4, 250));
}

#[test]
fn waves_of_fifty_sessions_on_kafka_leave_nothing_behind() {
    run(waves::<OnKafka<'static>>(if soak() { 20 } else { 4 }, 50));
}

async fn waves<B: Broker>(waves: usize, size: usize) {
    let world = World::<B>::start(Spec::default()).await;
    wave(&world, size).await; // what is made once, is made now
    let before = world.engine.usage();
    for _ in 0..waves {
        wave(&world, size).await;
    }
    eventually("threads, descriptors and memory are back", async || {
        let now = world.engine.usage();
        let back = now.threads <= before.threads + 8
            && now.descriptors <= before.descriptors + 8
            && now.resident <= before.resident + before.resident / 4 + 16 * 1024;
        if back { Ok(()) } else { Err(format!("{now:?}, before: {before:?}")) }
    })
    .await;
}

async fn wave<B: Broker>(world: &World<B>, size: usize) {
    let idle = world.engine.usage();
    let opened = join_all((0..size).map(|_| Ws::open(world.engine.addr("ws"), "churn"))).await;
    let payload = unique("wave");
    let read = opened.into_iter().map(|mut ws| async {
        assert_eq!(ws.event().await, payload.as_bytes());
        ws.close().await;
    });
    world.publish([payload.clone()]).await;
    join_all(read).await;
    world.engine.session_gone("churn").await;
    eventually("the consumers of this wave are closed", async || {
        let now = world.engine.usage();
        if now.descriptors <= idle.descriptors + 8 { Ok(()) } else { Err(format!("{now:?}, before: {idle:?}")) }
    })
    .await;
}
