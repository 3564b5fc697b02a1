//! The partitions that a subscription reads, and how far it has read each. No I/O.

use crate::endpoint::Lane;

/// Lanes in their order, found by topic and partition.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    all: Vec<Lane>,
    /// The next position to be pulled, by lane.
    next: Vec<i64>,
    /// By topic, then partition.
    index: Vec<Vec<Option<usize>>>,
}

/// Where a lane's log begins and ends, and where the lane stood before that was asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    pub(super) lane: usize,
    pub(super) next: i64,
    pub(super) start: i64,
    pub(super) end: i64,
}

impl Lanes {
    /// Whether it was not there yet.
    pub(super) fn add(&mut self, topic: usize, partition: i32, start: i64) -> bool {
        let (Ok(topic_number), Ok(column)) = (u16::try_from(topic), usize::try_from(partition)) else { return false };
        if self.index.len() <= topic {
            self.index.resize_with(topic + 1, Vec::new);
        }
        let Some(row) = self.index.get_mut(topic) else { return false };
        if row.len() <= column {
            row.resize(column + 1, None);
        }
        match row.get_mut(column) {
            Some(slot @ None) => *slot = Some(self.all.len()),
            _ => return false,
        }
        self.all.push(Lane { topic: topic_number, partition, start });
        self.next.push(start);
        true
    }

    /// A partition whose log was made anew: from here on it is another lane, with positions of its own.
    pub(super) fn renew(&mut self, lane: usize, start: i64) -> Option<usize> {
        let (topic, partition) = self.place(lane)?;
        *self.index.get_mut(topic)?.get_mut(usize::try_from(partition).ok()?)? = None;
        self.add(topic, partition, start).then(|| self.all.len() - 1)
    }

    pub(super) fn all(&self) -> &[Lane] {
        &self.all
    }

    pub(super) fn find(&self, topic: usize, partition: i32) -> Option<usize> {
        *self.index.get(topic)?.get(usize::try_from(partition).ok()?)?
    }

    pub(super) fn place(&self, lane: usize) -> Option<(usize, i32)> {
        self.all.get(lane).map(|lane| (usize::from(lane.topic), lane.partition))
    }

    /// Whether that position was pulled before: partitions that are assigned anew may give some once more.
    pub(super) fn has(&self, lane: usize, position: i64) -> bool {
        self.next.get(lane).is_some_and(|next| position < *next)
    }

    pub(super) fn pulled(&mut self, lane: usize, next: i64) {
        if let Some(slot) = self.next.get_mut(lane) {
            *slot = next;
        }
    }

    /// Partitions that the topics have and this has not.
    pub(super) fn missing(&self, counts: &[i32]) -> Vec<(usize, i32)> {
        let all = counts.iter().enumerate().flat_map(|(topic, count)| (0..*count).map(move |p| (topic, p)));
        all.filter(|(topic, partition)| self.find(*topic, *partition).is_none()).collect()
    }

    /// Lane, topic, partition and next position of all lanes that are read.
    pub(super) fn positions(&self) -> Vec<(usize, usize, i32, i64)> {
        let lanes = self.all.iter().zip(&self.next).enumerate();
        // Without those that were renewed.
        let lanes = lanes.filter(|(at, (lane, _))| self.find(usize::from(lane.topic), lane.partition) == Some(*at));
        lanes.map(|(at, (lane, next))| (at, usize::from(lane.topic), lane.partition, *next)).collect()
    }

    /// Where to read on after a consumer stopped somewhere it does not say: lanes whose next position is not in the log
    /// at the log's start, with true, the others where they stand. A lane that has gone on since is not one of them.
    pub(super) fn stopped(&self, reach: &[Reach]) -> Vec<(usize, i64, bool)> {
        let still = reach.iter().filter(|r| self.next.get(r.lane) == Some(&r.next));
        still
            .map(|r| {
                let outside = r.next < r.start || r.next > r.end;
                (r.lane, if outside { r.start } else { r.next }, outside)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_keep_their_index_as_they_grow() {
        let mut lanes = Lanes::default();
        assert!(lanes.add(0, 0, 5) && lanes.add(1, 0, 0));
        assert_eq!(lanes.missing(&[3, 1]), [(0, 1), (0, 2)]);
        assert!(lanes.add(0, 2, 0) && !lanes.add(0, 2, 9));
        assert_eq!(lanes.find(0, 2), Some(2));
        assert_eq!(lanes.find(0, 1), None);
        assert_eq!(lanes.find(7, 0), None);
        assert_eq!(lanes.all()[2], Lane { topic: 0, partition: 2, start: 0 });
        assert_eq!(lanes.place(1), Some((1, 0)));
    }

    #[test]
    fn what_fell_off_either_end_starts_at_the_logs_start() {
        let mut lanes = Lanes::default();
        for partition in 0..3 {
            lanes.add(0, partition, 10);
        }
        lanes.pulled(2, 50);
        let reach = |lane, next, start, end| Reach { lane, next, start, end };
        assert_eq!(
            lanes.stopped(&[reach(0, 10, 10, 10), reach(1, 10, 11, 20), reach(2, 50, 0, 49)]),
            [(0, 10, false), (1, 11, true), (2, 0, true)]
        );
        lanes.pulled(1, 11);
        assert_eq!(lanes.stopped(&[reach(1, 10, 11, 20)]), [], "it went on");
        assert!(lanes.has(1, 10) && !lanes.has(1, 11));
    }

    #[test]
    fn a_log_that_was_made_anew_is_another_lane() {
        let mut lanes = Lanes::default();
        lanes.add(0, 0, 10);
        lanes.add(0, 1, 7);
        assert_eq!(lanes.renew(0, 0), Some(2));
        assert_eq!((lanes.find(0, 0), lanes.has(2, 3), lanes.has(0, 3)), (Some(2), false, true));
        assert_eq!(lanes.positions(), [(1, 0, 1, 7), (2, 0, 0, 0)]);
    }
}
