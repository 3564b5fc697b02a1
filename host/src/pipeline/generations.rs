//! Which generation of each plugin served an event, as the packet log wants it: made once, kept while it is the same.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::plugin::chain::Generations;

/// The last one made.
#[derive(Default)]
pub(super) struct Shown {
    last: Generations,
    text: Option<Arc<str>>,
}

impl Shown {
    /// A JSON object; None where no plugin was passed.
    pub(super) fn of(&mut self, served: &Generations) -> Option<Arc<str>> {
        if served.is_empty() {
            return None;
        }
        let mut pairs = self.last.iter().zip(served);
        if self.last.len() != served.len() || !pairs.all(|((a, x), (b, y))| x == y && Arc::ptr_eq(a, b)) {
            self.last.clone_from(served);
            let mut text = String::from("{");
            for (at, (name, generation)) in served.iter().enumerate() {
                let comma = if at > 0 { "," } else { "" };
                // Names are letters, digits, dots, dashes and underscores: nothing to escape, and a String takes all.
                if write!(text, "{comma}\"{name}\":{generation}").is_err() {
                    return None;
                }
            }
            text.push('}');
            self.text = Some(text.into());
        }
        self.text.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_generations_are_made_once() {
        let mut shown = Shown::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let served: Generations = [(a.clone(), 3), (b.clone(), 1)].into_iter().collect();
        let first = shown.of(&served).expect("two");
        assert_eq!(&*first, r#"{"a":3,"b":1}"#);
        assert!(Arc::ptr_eq(&first, &shown.of(&served).expect("two")));
        let next: Generations = [(a, 4), (b, 1)].into_iter().collect();
        assert_eq!(shown.of(&next).as_deref(), Some(r#"{"a":4,"b":1}"#));
        assert_eq!(shown.of(&Generations::new()), None);
    }
}
