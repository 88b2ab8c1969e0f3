//! Which limit turned a request away: one name for metrics, logs and `Proxy-Status`, and words for
//! people that say where it is set.

/// The limit that a request hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Rejection {
    /// As many requests wait for the pool as may.
    QueueFull,
    /// It waited for as long as it may.
    QueueTimeout,
    /// It waited, and gave way to one of a higher priority.
    Displaced,
    /// Every endpoint has as many requests as it may, and the wait was over.
    EndpointsFull,
    /// There are as many connections as there may be, and the wait was over.
    Connections,
    /// The pool's breaker is open.
    Breaker,
    /// Admission control lets a part through only.
    Admission,
    /// The client does not wait any longer.
    Deadline,
}

impl Rejection {
    /// All of them, in the order of the variants.
    pub const ALL: [Self; 8] = [
        Self::QueueFull,
        Self::QueueTimeout,
        Self::Displaced,
        Self::EndpointsFull,
        Self::Connections,
        Self::Breaker,
        Self::Admission,
        Self::Deadline,
    ];

    /// The value of the label `limit`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::Displaced => "displaced",
            Self::EndpointsFull => "endpoints_full",
            Self::Connections => "connections",
            Self::Breaker => "breaker",
            Self::Admission => "admission",
            Self::Deadline => "deadline",
        }
    }

    /// What happened, and by which key.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::QueueFull => "too many requests under way and waiting (limits.in_flight, limits.waiting)",
            Self::QueueTimeout => "waited too long for its turn (limits.in_flight, limits.wait)",
            Self::Displaced => "gave way to a request of a higher priority (limits.waiting)",
            Self::EndpointsFull => "every endpoint is busy (limits.endpoint_in_flight, limits.wait)",
            Self::Connections => {
                "no connection may be opened (limits.connections, limits.endpoint_connections)"
            }
            Self::Breaker => "the breaker is open (breaker)",
            Self::Admission => "admission control let it not through (limits.admission)",
            Self::Deadline => "the client's deadline has passed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_there_in_order() {
        assert!(Rejection::ALL.iter().enumerate().all(|(index, rejection)| *rejection as usize == index));
    }
}
