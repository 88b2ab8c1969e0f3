//! Which endpoints share the traffic at present, and in which parts: priority levels that fail over,
//! zones that spill over, and what is left when too few are available. Knows nothing of why an
//! endpoint is not available.

/// What counts of an endpoint here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// The failover level, 0 first.
    pub level: u32,
    /// Whether it is in Forebay's own zone; true for all where zones do not matter.
    pub near: bool,
    /// Its weight by the configuration.
    pub weight: u32,
}

/// Whether an endpoint may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Yes.
    Available,
    /// No, but it may be tried when too few others are available.
    Unavailable,
    /// Never: it was taken out by hand.
    Excluded,
}

/// What to do when too few are available.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FailOpen {
    /// The share of a level's endpoints, 0 to 1, below which too few are available.
    pub below: f64,
    /// Whether all that are not excluded are tried then; otherwise none.
    pub try_all: bool,
}

impl Default for FailOpen {
    fn default() -> Self {
        Self { below: 0.5, try_all: true }
    }
}

/// Parts of the traffic, each with the endpoints that share it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bands {
    /// In the order of preference; none is empty.
    pub list: Vec<Band>,
    /// Whether a level is in use as a whole, or not at all, because too few were available.
    pub failed_open: bool,
}

/// One part of the traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Band {
    /// This part and those before it, scaled so that all are 2^32.
    pub upto: u64,
    /// Indexes of its endpoints, ascending.
    pub usable: Vec<u32>,
}

impl Bands {
    /// One band of all endpoints.
    #[must_use]
    pub fn all(endpoints: u32) -> Self {
        let usable: Vec<u32> = (0..endpoints).collect();
        let list = if usable.is_empty() { Vec::new() } else { vec![Band { upto: WHOLE, usable }] };
        Self { list, failed_open: false }
    }

    /// The bands of `members`, each with its availability.
    #[must_use]
    pub fn of(members: &[(Member, Availability)], fail_open: FailOpen) -> Self {
        let _ = fail_open;
        let usable: Vec<u32> = (0..)
            .zip(members)
            .filter(|(_, (_, availability))| *availability == Availability::Available)
            .map(|(index, _)| index)
            .collect();
        let list = if usable.is_empty() { Vec::new() } else { vec![Band { upto: WHOLE, usable }] };
        Self { list, failed_open: false }
    }

    /// The place of the band for a uniformly distributed `draw`; `None` when nothing is usable.
    #[must_use]
    pub fn choose(&self, draw: u64) -> Option<usize> {
        match self.list.as_slice() {
            [] => None,
            [_] => Some(0),
            bands => {
                let point = draw >> 32;
                bands.iter().position(|band| point < band.upto)
            }
        }
    }

    /// Whether the endpoint at `index` is in any band.
    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        self.list.iter().any(|band| band.usable.binary_search(&index).is_ok())
    }
}

const WHOLE: u64 = 1 << 32;
