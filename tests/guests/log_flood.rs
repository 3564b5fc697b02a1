//! Logs `mib` (1024) MiB in one call without asking whether it may, when its trigger (`LOG`) is pulled: turn by turn a
//! message of 1 MiB and a thousand small ones. Each call says `quiet` at `info` first where `chatty` is set.

use mediation_guests::Trigger;
use mediation_plugin::{Event, Level, Mapper, Mapping, host};

#[derive(serde::Deserialize)]
struct LogFlood {
    #[serde(flatten)]
    trigger: Trigger,
    #[serde(default = "gigabyte")]
    mib: usize,
    #[serde(default)]
    chatty: bool,
}
mediation_guests::configured!(LogFlood);

fn gigabyte() -> usize {
    1024
}

impl Mapper for LogFlood {
    fn transform(&self, event: &Event) -> Mapping {
        if self.chatty {
            host::log(Level::Info, "quiet");
        }
        if self.trigger.pulled(event, "LOG") {
            // Line breaks and control characters, which must not make lines of the engine's log.
            let big = "flood \n\u{1b}[31m\u{0}".repeat((1 << 20) / 13);
            for _ in 0..self.mib {
                host::log(Level::Error, &big);
                (0..1000).for_each(|_| host::log(Level::Error, "drop\n{\"level\":\"forged\"}"));
            }
        }
        Mapping::Pass
    }
}

mediation_plugin::export!(mapper: LogFlood);
