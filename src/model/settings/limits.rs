//! How many at once, and who comes first.

use std::time::Duration;

/// Bounds on what goes on in a pool at once, over all workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests under way, or connections and flows that are passed on, at least 1.
    pub in_flight: u32,
    /// Requests that wait for their turn.
    pub waiting: u32,
    /// How long each may.
    pub wait: Duration,
    /// Connections to all endpoints together.
    pub connections: Option<u32>,
    /// Requests under way at each endpoint.
    pub endpoint_in_flight: Option<u32>,
    /// Connections to each endpoint.
    pub endpoint_connections: Option<u32>,
}

impl Limits {
    /// [`Self::in_flight`] of pools to which connections and flows are passed on and no requests: those stay
    /// for long, and mostly idle. As many as a `udp` listener has flows.
    pub const PASSED_ON: u32 = 65_536;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight: 1024,
            waiting: 256,
            wait: Duration::from_secs(1),
            connections: None,
            endpoint_in_flight: None,
            endpoint_connections: None,
        }
    }
}

/// Who comes first where not all can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Priority {
    /// Shed first.
    Low,
    /// The others.
    #[default]
    Normal,
    /// Shed last.
    High,
}

impl Priority {
    /// Every priority by its name.
    pub const NAMES: [(&'static str, Self); 3] =
        [("high", Self::High), ("normal", Self::Normal), ("low", Self::Low)];

    /// The priority that a field names, in upper or lower case.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        let known = Self::NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
        known.map(|(_, priority)| *priority)
    }
}

/// How a route tells the priority of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Priorities {
    /// The field that names it, in lower case; none when unset.
    pub header: Option<String>,
    /// The priority where nothing names another.
    pub default: Priority,
}
