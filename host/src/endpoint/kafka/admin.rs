//! Reading and writing the offsets of any consumer group without a consumer in it: the two admin requests that rdkafka
//! has no safe call for. `committer` and `open` call it.
//!
//! The only `unsafe` code of the engine's Kafka endpoint. Every request carries its answer's sender as librdkafka's
//! opaque; one thread takes the results off one queue and answers.
#![allow(unsafe_code, reason = "AlterConsumerGroupOffsets and ListConsumerGroupOffsets are only bound in rdkafka-sys")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{IsError as _, RDKafkaErrorCode};
use rdkafka::types::{RDKafka, RDKafkaErrorCode as Code, RDKafkaRespErr};
use tokio::sync::oneshot;

use super::context::Context;

/// A position of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupOffset {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// What a request brought: the group's positions (those written, or those that are there).
pub(super) type Answer = Result<Vec<GroupOffset>, RDKafkaErrorCode>;

/// See the module.
pub(super) struct Admin {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Queue,
    stop: AtomicBool,
    // Behind the queue: fields drop in order, and a queue must go before its client.
    client: Arc<BaseConsumer<Context>>,
}

struct Queue(NonNull<sys::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues may be used from any thread; each call takes the queue's own lock.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: made by rd_kafka_queue_new, destroyed once, and its client is still alive (see `Shared`).
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// Memory of librdkafka's with the function that frees it.
struct Owned<T>(NonNull<T>, unsafe extern "C" fn(*mut T));

impl<T> Owned<T> {
    fn new(pointer: *mut T, free: unsafe extern "C" fn(*mut T)) -> Result<Self, RDKafkaErrorCode> {
        NonNull::new(pointer).map(|p| Self(p, free)).ok_or(Code::CriticalSystemResource)
    }

    fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: every maker below pairs the pointer with its own destroy function, and hands it over once.
        unsafe { (self.1)(self.0.as_ptr()) }
    }
}

impl Admin {
    /// On that client, which stays alive as long as this does; starts the thread that takes the answers and serves the
    /// client's own log lines and errors.
    pub(super) fn new(client: Arc<BaseConsumer<Context>>) -> Result<Self, String> {
        // SAFETY: the client is alive; the queue is destroyed before it (see `Shared`).
        let queue = unsafe { sys::rd_kafka_queue_new(native(&client)) };
        let queue = Queue(NonNull::new(queue).ok_or("librdkafka has no memory for a queue")?);
        let shared = Arc::new(Shared { queue, stop: AtomicBool::new(false), client });
        let own = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("kafka-admin".to_owned())
            .spawn(move || own.serve())
            .map_err(|error| format!("no thread for Kafka's admin requests: {error}"))?;
        Ok(Self { shared })
    }

    /// Writes positions of a group, which needs to have no members; it need not exist.
    pub(super) fn write(&self, group: &str, offsets: &[GroupOffset], limit: Duration) -> oneshot::Receiver<Answer> {
        self.request(
            |client, queue, options| {
                let group = CString::new(group).map_err(|_| Code::InvalidGroupId)?;
                let list = list(offsets)?;
                // SAFETY: both are valid for the call, which copies them.
                let request = unsafe { sys::rd_kafka_AlterConsumerGroupOffsets_new(group.as_ptr(), list.as_ptr()) };
                let request = Owned::new(request, sys::rd_kafka_AlterConsumerGroupOffsets_destroy)?;
                let mut requests = [request.as_ptr()];
                // SAFETY: an array of one valid request, valid options and queue; the call copies what it keeps.
                unsafe { sys::rd_kafka_AlterConsumerGroupOffsets(client, requests.as_mut_ptr(), 1, options, queue) };
                Ok(())
            },
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS,
            limit,
        )
    }

    /// Reads all positions of a group; none where it has none or does not exist.
    pub(super) fn read(&self, group: &str, limit: Duration) -> oneshot::Receiver<Answer> {
        self.request(
            |client, queue, options| {
                let group = CString::new(group).map_err(|_| Code::InvalidGroupId)?;
                // SAFETY: the name is valid for the call, which copies it; a null list asks for all partitions.
                let request = unsafe { sys::rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), ptr::null()) };
                let request = Owned::new(request, sys::rd_kafka_ListConsumerGroupOffsets_destroy)?;
                let mut requests = [request.as_ptr()];
                // SAFETY: as in `write`.
                unsafe { sys::rd_kafka_ListConsumerGroupOffsets(client, requests.as_mut_ptr(), 1, options, queue) };
                Ok(())
            },
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS,
            limit,
        )
    }

    /// `submit` either gives the request to librdkafka, which then owns the opaque and always answers, or fails.
    fn request(
        &self,
        submit: impl FnOnce(
            *mut RDKafka,
            *mut sys::rd_kafka_queue_t,
            *const sys::rd_kafka_AdminOptions_t,
        ) -> Result<(), RDKafkaErrorCode>,
        operation: sys::rd_kafka_admin_op_t,
        limit: Duration,
    ) -> oneshot::Receiver<Answer> {
        let (sender, answer) = oneshot::channel::<Answer>();
        let client = native(&self.shared.client);
        // SAFETY: the client is alive.
        let options = unsafe { sys::rd_kafka_AdminOptions_new(client, operation) };
        let options = match Owned::new(options, sys::rd_kafka_AdminOptions_destroy) {
            Ok(options) => options,
            Err(code) => {
                drop(sender.send(Err(code)));
                return answer;
            }
        };
        let mut text = [0 as c_char; 128];
        let millis = c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: valid options, and a buffer with its size.
        let set = unsafe {
            sys::rd_kafka_AdminOptions_set_request_timeout(options.as_ptr(), millis, text.as_mut_ptr(), text.len())
        };
        if set.is_error() {
            drop(sender.send(Err(set.into())));
            return answer;
        }
        let opaque = Box::into_raw(Box::new(sender));
        // SAFETY: valid options; the opaque is taken back exactly once, in `answer`, or below where nothing was sent.
        unsafe { sys::rd_kafka_AdminOptions_set_opaque(options.as_ptr(), opaque.cast::<c_void>()) };
        if let Err(code) = submit(client, self.shared.queue.0.as_ptr(), options.as_ptr()) {
            // SAFETY: made by Box::into_raw above, and librdkafka did not get the request.
            let sender = unsafe { Box::from_raw(opaque) };
            drop(sender.send(Err(code)));
        }
        answer
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // SAFETY: the queue is alive; this wakes its thread, which drops the last share of queue and client.
        unsafe { sys::rd_kafka_queue_yield(self.shared.queue.0.as_ptr()) }
    }
}

impl Shared {
    fn serve(&self) {
        while !self.stop.load(Ordering::Acquire) {
            // SAFETY: the queue is alive; the event, if any, is ours until it is destroyed.
            let event = unsafe { sys::rd_kafka_queue_poll(self.queue.0.as_ptr(), 500) };
            if let Ok(event) = Owned::new(event, sys::rd_kafka_event_destroy) {
                answer(&event);
            }
            // Log lines and errors of the client, which nobody else polls; it has no messages.
            while let Some(result) = self.client.poll(Duration::ZERO) {
                if let Err(error) = result {
                    tracing::trace!(target: "kafka", %error, "told to the context");
                }
            }
        }
    }
}

/// Takes the opaque back and answers.
fn answer(event: &Owned<sys::rd_kafka_event_t>) {
    let event = event.as_ptr();
    // SAFETY: a valid event; each of the two casts below is to the type that the event says it is.
    let kind = unsafe { sys::rd_kafka_event_type(event) };
    if kind != sys::RD_KAFKA_EVENT_ALTERCONSUMERGROUPOFFSETS_RESULT
        && kind != sys::RD_KAFKA_EVENT_LISTCONSUMERGROUPOFFSETS_RESULT
    {
        return;
    }
    // SAFETY: results of our requests carry the pointer that `request` made, and come once.
    let sender = unsafe { Box::from_raw(sys::rd_kafka_event_opaque(event).cast::<oneshot::Sender<Answer>>()) };
    // SAFETY: a valid event.
    let error = unsafe { sys::rd_kafka_event_error(event) };
    let result = if error.is_error() {
        Err(error.into())
    } else {
        let mut count = 0;
        // SAFETY: the event is of that kind; the groups live as long as the event.
        let groups = unsafe {
            if kind == sys::RD_KAFKA_EVENT_ALTERCONSUMERGROUPOFFSETS_RESULT {
                let result = sys::rd_kafka_event_AlterConsumerGroupOffsets_result(event);
                sys::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, &raw mut count)
            } else {
                let result = sys::rd_kafka_event_ListConsumerGroupOffsets_result(event);
                sys::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count)
            }
        };
        if count == 0 || groups.is_null() {
            Err(RDKafkaErrorCode::Fail)
        } else {
            // SAFETY: an array of `count` groups, at least one.
            read_group(unsafe { *groups })
        }
    };
    // Whoever asked may have gone.
    drop(sender.send(result));
}

fn read_group(group: *const sys::rd_kafka_group_result_t) -> Answer {
    // SAFETY: the group is valid as long as its event; a null error is no error.
    let error: RDKafkaRespErr = unsafe {
        let error = sys::rd_kafka_group_result_error(group);
        if error.is_null() { RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR } else { sys::rd_kafka_error_code(error) }
    };
    if error.is_error() {
        return Err(error.into());
    }
    // SAFETY: as above; the list is an array of `cnt` elements, or null where there is none.
    let elements = unsafe {
        let list = sys::rd_kafka_group_result_partitions(group);
        match list.as_ref() {
            Some(list) if !list.elems.is_null() => {
                std::slice::from_raw_parts(list.elems, usize::try_from(list.cnt).unwrap_or(0))
            }
            _ => &[],
        }
    };
    elements
        .iter()
        .map(|element| {
            if element.err.is_error() {
                return Err(element.err.into());
            }
            // SAFETY: topics are strings that end in NUL and live as long as the event.
            let topic = unsafe { CStr::from_ptr(element.topic) }.to_string_lossy();
            Ok(GroupOffset { topic: topic.into(), partition: element.partition, offset: element.offset })
        })
        .collect()
}

fn list(offsets: &[GroupOffset]) -> Result<Owned<sys::rd_kafka_topic_partition_list_t>, RDKafkaErrorCode> {
    let size = c_int::try_from(offsets.len()).map_err(|_| Code::InvalidArgument)?;
    // SAFETY: makes a list, which `Owned` frees.
    let list = unsafe { sys::rd_kafka_topic_partition_list_new(size) };
    let list = Owned::new(list, sys::rd_kafka_topic_partition_list_destroy)?;
    for offset in offsets {
        let topic = CString::new(&*offset.topic).map_err(|_| Code::InvalidTopic)?;
        // SAFETY: a valid list; the topic is copied; the element returned is valid until the list changes.
        let element =
            unsafe { sys::rd_kafka_topic_partition_list_add(list.as_ptr(), topic.as_ptr(), offset.partition) };
        // SAFETY: as above.
        unsafe { element.as_mut() }.ok_or(Code::CriticalSystemResource)?.offset = offset.offset;
    }
    Ok(list)
}

fn native(client: &BaseConsumer<Context>) -> *mut RDKafka {
    client.client().native_ptr()
}
