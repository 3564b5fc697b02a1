//! The tables: printed, and written into docs/benchmarks.md when asked.

use std::fmt;
use std::path::Path;

use crate::Scale;
use crate::downstream::{rate, us};
use crate::proc::{Cost, machine};

const BEGIN: &str = "<!-- results: written by `make bench ARGS=--write` -->";
const END: &str = "<!-- end of results -->";

/// What is measured.
pub(crate) struct Figure {
    /// What it is.
    pub(crate) name: &'static str,
    /// Of its values.
    pub(crate) unit: &'static str,
    /// At most this.
    pub(crate) goal: Option<f64>,
    /// A baseline of the same run.
    pub(crate) beside: Option<(&'static str, f64)>,
}

/// All runs of one figure.
struct Row {
    name: &'static str,
    unit: &'static str,
    goal: Option<f64>,
    values: Vec<f64>,
    rates: Vec<f64>,
    beside: Option<(&'static str, Vec<f64>)>,
}

/// Everything that was measured.
pub(crate) struct Report {
    scale: Scale,
    machine: String,
    warnings: Vec<String>,
    rows: Vec<Row>,
    baselines: Vec<Row>,
}

impl Report {
    /// An empty one.
    pub(crate) fn new(scale: Scale) -> Self {
        Self { scale, machine: machine(), warnings: Vec::new(), rows: Vec::new(), baselines: Vec::new() }
    }

    /// Adds one run of a figure.
    pub(crate) fn add(&mut self, figure: Figure, value: f64, rate: Option<f64>) {
        let Figure { name, unit, goal, beside } = figure;
        eprintln!("{name}: {value:.2} {unit}{}", rate.map(|r| format!(", {r:.0}/s")).unwrap_or_default());
        let row = row(&mut self.rows, name, unit);
        row.goal = goal;
        row.values.push(value);
        row.rates.extend(rate);
        if let Some((what, value)) = beside {
            row.beside.get_or_insert_with(|| (what, Vec::new())).1.push(value);
        }
    }

    /// Adds one run of a baseline that takes CPU.
    pub(crate) fn add_baseline(&mut self, name: &'static str, unit: &'static str, cost: Cost, count: usize) {
        let (value, rate) = (us(cost, count), rate(cost, count));
        eprintln!("{name}: {value:.2} {unit}, {rate:.0}/s");
        let row = row(&mut self.baselines, name, unit);
        row.values.push(value);
        row.rates.push(rate);
    }

    /// Adds one run of a baseline that takes memory.
    pub(crate) fn add_memory(&mut self, name: &'static str, value: f64) {
        eprintln!("{name}: {value:.2} KiB");
        row(&mut self.baselines, name, "KiB a session").values.push(value);
    }

    /// Something that the reader must know.
    pub(crate) fn warn(&mut self, text: String) {
        eprintln!("WARNING: {text}");
        self.warnings.push(text);
    }

    /// Puts it into docs/benchmarks.md, between the markers.
    pub(crate) fn write(&self) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md");
        let page = std::fs::read_to_string(&path).expect("docs/benchmarks.md is there");
        let (before, rest) = page.split_once(BEGIN).expect("the page has the first marker");
        let (_, after) = rest.split_once(END).expect("the page has the second marker");
        std::fs::write(&path, format!("{before}{BEGIN}\n\n{self}\n{END}{after}")).expect("the page is written");
    }
}

fn row<'a>(rows: &'a mut Vec<Row>, name: &'static str, unit: &'static str) -> &'a mut Row {
    let at = rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
        rows.push(Row { name, unit, goal: None, values: Vec::new(), rates: Vec::new(), beside: None });
        rows.len() - 1
    });
    &mut rows[at]
}

fn min(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn rates(row: &Row) -> String {
    if row.rates.is_empty() { "-".to_owned() } else { format!("{:.0}", median(&row.rates)) }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scale { runs, events, requests, sessions, .. } = &self.scale;
        writeln!(
            f,
            "{}. {runs} runs of {events} events, {requests} requests, {sessions} sessions; 1 KiB.",
            self.machine
        )?;
        for warning in &self.warnings {
            writeln!(f, "\n**{warning}**")?;
        }
        writeln!(f, "\n| figure | min / median | a second | beside it | min / median | ratio of medians | goal | |")?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        for row in &self.rows {
            let (least, middle) = (min(&row.values), median(&row.values));
            write!(f, "| {} | {least:.2} / {middle:.2} {} | {} |", row.name, row.unit, rates(row))?;
            match &row.beside {
                Some((what, values)) => {
                    let ratio = middle / median(values);
                    write!(f, " {what} | {:.2} / {:.2} | {ratio:.1} |", min(values), median(values))?;
                }
                None => write!(f, " - | - | - |")?,
            }
            match row.goal {
                Some(goal) => {
                    writeln!(f, " <= {goal} | {} |", if middle <= goal { "reached" } else { "**ABOVE**" })?;
                }
                None => writeln!(f, " - | |")?,
            }
        }
        writeln!(f, "\n| baseline | min / median | a second |")?;
        writeln!(f, "|---|---|---|")?;
        for row in &self.baselines {
            let (least, middle) = (min(&row.values), median(&row.values));
            writeln!(f, "| {} | {least:.2} / {middle:.2} {} | {} |", row.name, row.unit, rates(row))?;
        }
        Ok(())
    }
}
