//! Reading and writing the offsets of any consumer group without a consumer in it: the two admin requests that rdkafka
//! has no safe call for. `groups` calls it.
//!
//! The only `unsafe` code of the engine's Kafka endpoint. Every request carries a number as librdkafka's opaque; one
//! thread takes the results off one queue and answers whoever waits under that number.
//!
//! A request that times out inside librdkafka (2.12) while it waits for the group's coordinator leaves a dangling
//! reference, and the process is aborted when the coordinator comes back (librdkafka #4605, #5397). So requests get the
//! longest limit there is, whoever waits does so as long as it likes, and `groups` replaces a client whose requests
//! hang long before that limit: destroying it ends them properly.
#![allow(unsafe_code, reason = "AlterConsumerGroupOffsets and ListConsumerGroupOffsets are only bound in rdkafka-sys")]

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{IsError as _, RDKafkaErrorCode as Code};
use rdkafka::types::{RDKafka, RDKafkaRespErr};
use tokio::sync::oneshot;

use super::context::Context;
use super::pool::Pool;

/// The longest that librdkafka takes.
const REQUEST_LIMIT_MS: c_int = 3_600_000;

/// A position of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupOffset {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// What a request brought: the group's positions (those written, or those that are there).
pub(super) type Answer = Result<Vec<GroupOffset>, Code>;

/// See the module.
pub(super) struct Admin {
    /// None only while it is dropped.
    shared: Option<Arc<Shared>>,
    closing: Arc<Pool>,
}

struct Shared {
    queue: Queue,
    stop: AtomicBool,
    waiting: Mutex<HashMap<usize, Waiting>>,
    number: AtomicUsize,
    // Behind the queue: fields drop in order, and a queue must go before its client.
    client: BaseConsumer<Context>,
}

struct Waiting {
    since: Instant,
    answer: oneshot::Sender<Answer>,
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
    fn new(pointer: *mut T, free: unsafe extern "C" fn(*mut T)) -> Result<Self, Code> {
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
    /// On a client of its own; starts the thread that takes the answers and serves the client's log lines and errors.
    pub(super) fn new(client: BaseConsumer<Context>, closing: Arc<Pool>) -> Result<Self, String> {
        // SAFETY: the client is alive; the queue is destroyed before it (see `Shared`).
        let queue = unsafe { sys::rd_kafka_queue_new(native(&client)) };
        let queue = Queue(NonNull::new(queue).ok_or("librdkafka has no memory for a queue")?);
        let shared = Arc::new(Shared {
            queue,
            stop: AtomicBool::new(false),
            waiting: Mutex::default(),
            number: AtomicUsize::new(1),
            client,
        });
        let own = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("kafka-admin".to_owned())
            .spawn(move || own.serve())
            .map_err(|error| format!("no thread for Kafka's admin requests: {error}"))?;
        Ok(Self { shared: Some(shared), closing })
    }

    /// For how long the oldest request has been without an answer.
    pub(super) fn oldest(&self) -> Option<Duration> {
        let since = self.shared.as_ref()?.waiting().values().map(|waiting| waiting.since).min()?;
        Some(since.elapsed())
    }

    /// Writes positions of a group, which needs to have no members; it need not exist.
    pub(super) fn write(&self, group: &str, offsets: &[GroupOffset]) -> oneshot::Receiver<Answer> {
        let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS;
        self.request(operation, |client, queue, options| {
            if offsets.is_empty() {
                // librdkafka's own refusal of this would run into the fault that the module's header tells of.
                return Err(Code::InvalidArgument);
            }
            let group = CString::new(group).map_err(|_| Code::InvalidGroupId)?;
            let list = list(offsets)?;
            // SAFETY: both are valid for the call, which copies them.
            let request = unsafe { sys::rd_kafka_AlterConsumerGroupOffsets_new(group.as_ptr(), list.as_ptr()) };
            let request = Owned::new(request, sys::rd_kafka_AlterConsumerGroupOffsets_destroy)?;
            let mut requests = [request.as_ptr()];
            // SAFETY: an array of one valid request, valid options and queue; the call copies what it keeps.
            unsafe { sys::rd_kafka_AlterConsumerGroupOffsets(client, requests.as_mut_ptr(), 1, options, queue) };
            Ok(())
        })
    }

    /// Reads all positions of a group; none where it has none or does not exist.
    pub(super) fn read(&self, group: &str) -> oneshot::Receiver<Answer> {
        let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
        self.request(operation, |client, queue, options| {
            let group = CString::new(group).map_err(|_| Code::InvalidGroupId)?;
            // SAFETY: the name is valid for the call, which copies it; a null list asks for all partitions.
            let request = unsafe { sys::rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), ptr::null()) };
            let request = Owned::new(request, sys::rd_kafka_ListConsumerGroupOffsets_destroy)?;
            let mut requests = [request.as_ptr()];
            // SAFETY: as in `write`.
            unsafe { sys::rd_kafka_ListConsumerGroupOffsets(client, requests.as_mut_ptr(), 1, options, queue) };
            Ok(())
        })
    }

    /// `submit` either gives the request to librdkafka, which answers under its number, or fails. A client that is
    /// dropped drops the answers with it.
    fn request(
        &self,
        operation: sys::rd_kafka_admin_op_t,
        submit: impl FnOnce(
            *mut RDKafka,
            *mut sys::rd_kafka_queue_t,
            *const sys::rd_kafka_AdminOptions_t,
        ) -> Result<(), Code>,
    ) -> oneshot::Receiver<Answer> {
        let (sender, answer) = oneshot::channel::<Answer>();
        let Some(shared) = &self.shared else { return answer };
        let number = shared.number.fetch_add(1, Ordering::Relaxed);
        shared.waiting().insert(number, Waiting { since: Instant::now(), answer: sender });
        let sent = options(native(&shared.client), operation, number)
            .and_then(|options| submit(native(&shared.client), shared.queue.0.as_ptr(), options.as_ptr()));
        if let Err(code) = sent {
            shared.answer(number, Err(code));
        }
        answer
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.stop.store(true, Ordering::Release);
            shared.waiting().clear();
            // SAFETY: the queue is alive; this wakes its thread.
            unsafe { sys::rd_kafka_queue_yield(shared.queue.0.as_ptr()) }
            // The last share destroys the client, which blocks.
            self.closing.submit(move || drop(shared));
        }
    }
}

impl Shared {
    fn serve(&self) {
        while !self.stop.load(Ordering::Acquire) {
            // SAFETY: the queue is alive; the event, if any, is ours until it is destroyed.
            let event = unsafe { sys::rd_kafka_queue_poll(self.queue.0.as_ptr(), 500) };
            if let Ok(event) = Owned::new(event, sys::rd_kafka_event_destroy) {
                self.take(&event);
            }
            // Log lines and errors of the client; it has no messages.
            while self.client.poll(Duration::ZERO).is_some() {}
        }
    }

    fn take(&self, event: &Owned<sys::rd_kafka_event_t>) {
        let event = event.as_ptr();
        // SAFETY: a valid event; each of the two casts below is to the type that the event says it is.
        let kind = unsafe { sys::rd_kafka_event_type(event) };
        if kind != sys::RD_KAFKA_EVENT_ALTERCONSUMERGROUPOFFSETS_RESULT
            && kind != sys::RD_KAFKA_EVENT_LISTCONSUMERGROUPOFFSETS_RESULT
        {
            return;
        }
        // SAFETY: a valid event; its opaque is a number, never followed.
        let (number, error) = unsafe { (sys::rd_kafka_event_opaque(event).addr(), sys::rd_kafka_event_error(event)) };
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
        self.answer(
            number,
            if error.is_error() {
                Err(error.into())
            } else if count == 0 || groups.is_null() {
                Err(Code::Fail)
            } else {
                // SAFETY: an array of `count` groups, at least one.
                read_group(unsafe { *groups })
            },
        );
    }

    fn answer(&self, number: usize, answer: Answer) {
        let waiting = self.waiting().remove(&number);
        if let Some(waiting) = waiting {
            // Whoever asked may have gone.
            waiting.answer.send(answer).ok();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<usize, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn options(
    client: *mut RDKafka,
    operation: sys::rd_kafka_admin_op_t,
    number: usize,
) -> Result<Owned<sys::rd_kafka_AdminOptions_t>, Code> {
    // SAFETY: the callers' client is alive.
    let options = unsafe { sys::rd_kafka_AdminOptions_new(client, operation) };
    let options = Owned::new(options, sys::rd_kafka_AdminOptions_destroy)?;
    let mut text = [0 as c_char; 128];
    let (buffer, size) = (text.as_mut_ptr(), text.len());
    // SAFETY: valid options, and a buffer with its size.
    let set =
        unsafe { sys::rd_kafka_AdminOptions_set_request_timeout(options.as_ptr(), REQUEST_LIMIT_MS, buffer, size) };
    if set.is_error() {
        return Err(set.into());
    }
    // SAFETY: valid options; the opaque is a number in the shape of a pointer, which nobody follows.
    unsafe {
        sys::rd_kafka_AdminOptions_set_opaque(options.as_ptr(), ptr::without_provenance_mut::<c_void>(number));
    }
    Ok(options)
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

fn list(offsets: &[GroupOffset]) -> Result<Owned<sys::rd_kafka_topic_partition_list_t>, Code> {
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
