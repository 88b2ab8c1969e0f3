//! Responses counted by class of status. The label `class` has five values and no more.

use crate::observe::shard::Count;

/// Counts by class. Cells of one shard.
#[derive(Debug, Default)]
pub(super) struct Classes([Count; 5]);

/// The values of the label `class`, in order.
pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl Classes {
    /// Counts a response. What is no status counts as a server error (RFC 9110 §15).
    #[inline]
    pub(super) fn add(&self, status: u16) {
        let class = match status / 100 {
            class @ 1..=5 => class,
            _ => 5,
        };
        if let Some(count) = self.0.get(usize::from(class) - 1) {
            count.add(1);
        }
    }

    /// The counts, in the order of [`CLASSES`].
    pub(super) fn counts(&self) -> &[Count; 5] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_one_class() {
        let classes = Classes::default();
        for status in [101, 200, 204, 301, 404, 499, 500, 503, 599, 0, 99, 600, 999, u16::MAX] {
            classes.add(status);
        }
        assert_eq!(classes.counts().each_ref().map(Count::get), [1, 2, 1, 2, 8]);
    }
}
