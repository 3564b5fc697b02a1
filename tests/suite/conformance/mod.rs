//! Behaviours that hold on every broker, each written once. A later endpoint joins by a line in the macro.

/// Makes a test of every named behaviour on every broker.
macro_rules! on_every_broker {
    ($($behaviour:ident),+ $(,)?) => {
        mod memory {
            $(#[test]
            fn $behaviour() {
                mediation_tests::run(super::$behaviour::<mediation_tests::Memory>());
            })+
        }
        mod kafka {
            $(#[test]
            fn $behaviour() {
                mediation_tests::run(super::$behaviour::<mediation_tests::OnKafka<'static>>());
            })+
        }
    };
}

mod acknowledging;
mod churn;
mod flat_out;
mod half_open;
mod leaving;
mod publishing;
mod resuming;
mod round_trip;
mod stalled;
mod takeover;
mod writing;
