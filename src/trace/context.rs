//! Where a request stands in a trace: what the fields of a request say of it, and what they are to say to
//! the next one. Decides which traces are kept from their beginning. Knows neither whom to believe nor
//! what is done with a trace that is kept.

use super::{SpanId, TraceId, b3, w3c};
use crate::model::Fields;
use crate::model::field::Known;
use crate::model::settings::Propagation;

/// What a request says of the trace that it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Incoming {
    /// The trace, and the span that asks. Without them only a decision was passed on.
    pub ids: Option<(TraceId, SpanId)>,
    /// Whether the trace is kept; `None` where that was left to us.
    pub sampled: Option<bool>,
    /// Whether it is kept whatever others think.
    pub debug: bool,
}

/// What is told to whoever is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The trace, and the span that asks.
    pub ids: (TraceId, SpanId),
    /// Whether the trace is kept.
    pub sampled: bool,
    /// Whether it is kept whatever others think.
    pub debug: bool,
}

/// Reads the first of these that says anything valid.
#[must_use]
pub fn read(fields: &Fields, propagate: &[Propagation]) -> Option<Incoming> {
    propagate.iter().find_map(|way| match way {
        Propagation::W3c => sole(fields, Known::Traceparent).and_then(w3c::parent),
        Propagation::B3 => sole(fields, Known::B3).and_then(b3::single),
        Propagation::B3Multi => b3::multi(fields),
    })
}

/// Tells by all of these, in place of what is there.
pub fn write(fields: &mut Fields, propagate: &[Propagation], outgoing: &Outgoing) {
    let Outgoing { ids, sampled, debug } = *outgoing;
    let decision = match (sampled, debug) {
        (false, _) => b3::Decision::Deny,
        (true, false) => b3::Decision::Accept,
        (true, true) => b3::Decision::Debug,
    };
    for way in propagate {
        match way {
            Propagation::W3c => fields.set_known(Known::Traceparent, &w3c::write_parent(ids, sampled)),
            Propagation::B3 => fields.set_known(Known::B3, &b3::write_single(ids, decision)),
            Propagation::B3Multi => b3::write_multi(fields, ids, decision),
        }
    }
}

/// Takes what came as `tracestate`, and leaves in the fields what of it is to be passed on: nothing unless
/// the `traceparent` beside it speaks of the trace that is `continued`.
pub fn take_state(fields: &mut Fields, continued: Option<TraceId>) -> Option<String> {
    if !fields.has(Known::Tracestate) {
        return None;
    }
    let beside = sole(fields, Known::Traceparent).and_then(w3c::parent).and_then(|parent| parent.ids);
    let belongs = continued.is_some() && beside.map(|(trace, _)| trace) == continued;
    let state = if belongs { w3c::state(fields.get_all(Known::Tracestate)) } else { None };
    match &state {
        Some(state) => fields.set_known(Known::Tracestate, state.as_bytes()),
        None => drop(fields.remove_known(Known::Tracestate)),
    }
    state
}

/// Whether a trace is among the `share` of all, 0 to 1, that is kept: those whose last 56 bits, which are
/// random in every id, are large (W3C Trace Context level 2 §3.2.2.3.1, OpenTelemetry's consistent
/// probability sampling). Whoever decides in this way decides alike for the same trace.
#[must_use]
pub fn is_among(trace: TraceId, share: f64) -> bool {
    let rejected = ((1.0 - share) * RANGE as f64) as u128;
    trace.0.get() & (RANGE - 1) >= rejected
}

/// The only value of a field; several contradict each other.
fn sole(fields: &Fields, known: Known) -> Option<&[u8]> {
    if !fields.has(known) {
        return None;
    }
    let mut values = fields.get_all(known);
    values.next().filter(|_| values.next().is_none()).map(<[u8]>::trim_ascii)
}

/// One more than the greatest number of 56 bits.
const RANGE: u128 = 1 << 56;

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const B3: &str = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-0";
    const ALL: [Propagation; 3] = [Propagation::W3c, Propagation::B3, Propagation::B3Multi];

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        pairs.iter().for_each(|(name, value)| fields.append(name.as_bytes(), value.as_bytes()));
        fields
    }

    #[test]
    fn the_first_valid_way_counts() {
        let both = fields(&[("B3", B3), ("Traceparent", PARENT)]);
        assert_eq!(read(&both, &ALL).unwrap().sampled, Some(true));
        assert_eq!(read(&both, &ALL[1..]).unwrap().sampled, Some(false));
        assert_eq!(read(&both, &ALL[2..]), None);
        let twice = fields(&[("traceparent", PARENT), ("traceparent", PARENT), ("b3", B3)]);
        assert_eq!(read(&twice, &ALL).unwrap().sampled, Some(false));
        assert_eq!(read(&twice, &ALL[..1]), None);
    }

    #[test]
    fn what_is_told_replaces_what_was() {
        let mut fields = fields(&[("b3", B3), ("traceparent", PARENT), ("traceparent", "x"), ("x", "y")]);
        let Incoming { ids, .. } = read(&fields, &ALL[1..]).unwrap();
        write(&mut fields, &ALL, &Outgoing { ids: ids.unwrap(), sampled: true, debug: true });
        for way in ALL {
            assert_eq!(read(&fields, &[way]).and_then(|read| read.ids), ids, "{way:?}");
        }
        assert!(read(&fields, &ALL[1..]).unwrap().debug);
        assert_eq!(fields.len(), 1 + 1 + 1 + 3);
    }

    #[test]
    fn states_are_kept_if_they_are_valid() {
        let read = read(&fields(&[("traceparent", PARENT)]), &ALL);
        let continued = read.and_then(|read| read.ids).map(|(trace, _)| trace);
        let states = [("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")];
        let mut good = fields(&states);
        assert_eq!(take_state(&mut good, continued).as_deref(), Some("a=1,b=2"));
        assert_eq!(good.get_all(Known::Tracestate).collect::<Vec<_>>(), [b"a=1,b=2"]);
        let mut bad = fields(&[("traceparent", PARENT), ("tracestate", "A=1")]);
        assert_eq!((take_state(&mut bad, continued), bad.len()), (None, 1));
        for (lines, continued) in
            [(&states[..], None), (&states[..], Some(TraceId::of(0, 1))), (&states[1..], continued)]
        {
            let mut foreign = fields(lines);
            assert_eq!(take_state(&mut foreign, continued), None, "{lines:?} of {continued:?}");
            assert!(!foreign.has(Known::Tracestate));
        }
    }

    #[test]
    fn a_share_of_traces_is_kept() {
        let mut rng = fastrand::Rng::with_seed(1);
        for share in [0.0, 0.01, 0.25, 1.0] {
            let traces = (0..100_000).map(|_| TraceId::of(rng.u64(..), rng.u64(..)));
            let kept = traces.filter(|trace| is_among(*trace, share)).count() as f64 / 100_000.0;
            assert!((kept - share).abs() < 0.006, "{kept} for {share}");
        }
        assert!(!is_among(TraceId::of(u64::MAX, u64::MAX), 0.0));
        assert!(is_among(TraceId::of(0, 0), 1.0));
    }

    #[test]
    fn what_is_kept_of_a_share_is_kept_of_a_greater_one() {
        let mut rng = fastrand::Rng::with_seed(2);
        for _ in 0..10_000 {
            let trace = TraceId::of(rng.u64(..), rng.u64(..));
            assert!(!is_among(trace, 0.1) || is_among(trace, 0.2));
        }
    }
}
