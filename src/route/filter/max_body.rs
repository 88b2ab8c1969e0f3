//! `max_body`: how much a request may carry. A length that is known is judged here; otherwise the
//! limit is left in the context for whoever reads the body.

use http::StatusCode;

use super::{Filter, FilterCx, Kind, Reply, Verdict};
use crate::model::RequestHead;
use crate::model::units::ByteSize;

pub(super) const KIND: Kind = Kind {
    name: "max_body",
    summary: "refuses larger request bodies with 413",
    parse: |given| given.read().map(|ByteSize(limit)| Box::new(MaxBody { limit }) as Box<dyn Filter>),
};

#[derive(Debug)]
struct MaxBody {
    /// In bytes.
    limit: u64,
}

impl Filter for MaxBody {
    fn on_request(&self, _head: &mut RequestHead, cx: &mut FilterCx<'_>) -> Verdict {
        if cx.body_length.is_some_and(|length| length > self.limit) {
            let details = "the request body exceeds max_body of the route";
            return Reply::refusal(StatusCode::PAYLOAD_TOO_LARGE, details).into();
        }
        cx.max_body = Some(cx.max_body.map_or(self.limit, |other| other.min(self.limit)));
        Verdict::Continue
    }
}

#[cfg(test)]
mod tests {
    use crate::route::filter::tests::{Case, faults};

    #[test]
    fn a_known_length_is_judged_at_once() {
        for (length, status) in [(Some(1025), Some(413)), (Some(1024), None), (Some(0), None), (None, None)] {
            let case = Case { body_length: length, ..Case::default() };
            assert_eq!(case.status(r#"max_body = "1KiB""#), status, "{length:?}");
        }
    }

    #[test]
    fn the_least_limit_counts() {
        for (before, after) in [(None, 1024), (Some(5), 5), (Some(5000), 1024)] {
            let case = Case { max_body: before, ..Case::default() };
            assert_eq!(case.run(r#"max_body = "1KiB""#).max_body, Some(after));
        }
    }

    #[test]
    fn a_size_has_a_unit() {
        assert_eq!(faults("max_body = 10"), ["max_body: a size needs a unit"]);
    }
}
