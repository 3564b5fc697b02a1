//! Answers, when the payload starts with `BOMB`, in a MiB of its own with what is a terabyte to whoever copies it out:
//! 64 outputs share one list of 10,000 pairs, all of whose texts are the same MiB. Else passes. Written against the
//! binary interface, since no generator would do that.

#![allow(unsafe_code, reason = "the binary interface by hand")]
#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "a component only"))]

#[allow(missing_docs, dead_code, reason = "generated, for the component's type")]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "event-mapper-plugin" });
}

#[cfg(target_arch = "wasm32")]
mod exports {
    use super::bindings::mediation::plugin::types::Event;
    use std::ptr;

    /// Text or list: where and how many.
    #[derive(Clone, Copy)]
    #[repr(C)]
    struct Slice(*const u8, usize);

    /// `output`: body `same` (its case and room for the other cases), `set`, `remove`, no address, no key.
    #[derive(Clone, Copy)]
    #[repr(C)]
    struct RawOutput(u32, Slice, Slice, Slice, [u32; 3], [u32; 3]);

    /// `mapping`: its case, and the largest of their contents.
    #[repr(C)]
    struct RawMapping(u32, Slice, Slice, u32);

    fn leak<T>(all: Vec<T>) -> Slice {
        let all = all.leak();
        Slice(all.as_ptr().cast(), all.len())
    }

    #[unsafe(export_name = "mediation:plugin/lifecycle@0.1.0#describe")]
    extern "C" fn describe() -> *const u8 {
        let text = |text: &str| leak(text.as_bytes().to_vec());
        leak(vec![text("alias-bomb"), text("0.1.0"), Slice(ptr::dangling::<u32>().cast(), 0)]).0
    }

    #[unsafe(export_name = "mediation:plugin/lifecycle@0.1.0#init")]
    extern "C" fn init(_config: *const u8, _size: usize) -> *const u8 {
        leak(vec![[0_u32; 3]]).0
    }

    #[unsafe(export_name = "mediation:plugin/event-mapper@0.1.0#transform")]
    extern "C" fn transform(event: i32) -> *const u8 {
        // Dropping it gives the loan back.
        let event = unsafe { Event::from_handle(event as u32) };
        let none = Slice(ptr::dangling::<u32>().cast(), 0);
        if event.payload_range(0, 4) != b"BOMB" {
            return leak(vec![RawMapping(0, none, none, 0)]).0;
        }
        let text = leak(vec![b'x'; 1 << 20]);
        let pairs = leak(vec![[text, text]; 10_000]);
        let outputs = leak(vec![RawOutput(0, none, pairs, none, [0; 3], [0; 3]); 64]);
        leak(vec![RawMapping(2, outputs, none, 0)]).0
    }
}
