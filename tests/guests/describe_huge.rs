//! Describes itself with a name of a MiB that has line breaks in it, and 10,000 counters whose names no metric may have.

mediation_guests::described!(
    &"huge \n\u{1b}[31m".repeat(100_000),
    &"9".repeat(1 << 20),
    (0..10_000).map(|n| format!("{n} \"}} bad\n")).collect()
);
