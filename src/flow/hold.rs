//! What becomes of a flow when its endpoint's state changes. Does not know why it changed.

use crate::health::State;

/// What a flow does about its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It stays where it is.
    Stay,
    /// Its next datagram goes to another endpoint, if the pool has a better one.
    Move,
    /// It ends now.
    End,
}

/// What a flow does whose endpoint is in this state; `None` where the pool no longer has the endpoint.
///
/// A flow may be half of a conversation that only its endpoint knows (QUIC, a game, a VPN), so that
/// moving it breaks it. So it moves only away from where nobody answers: an endpoint that active checks
/// call down or that was disabled. One that is drained keeps its flows, which is what draining is for;
/// one that is ejected keeps those that it has not failed, because an ICMP error moves a flow by itself.
#[must_use]
pub const fn hold(state: Option<State>) -> Hold {
    match state {
        None => Hold::End,
        Some(State::Down | State::Disabled) => Hold::Move,
        Some(_) => Hold::Stay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_leaves_only_where_nobody_answers() {
        let leaving: Vec<_> = State::ALL.into_iter().filter(|s| hold(Some(*s)) != Hold::Stay).collect();
        assert_eq!(leaving, [State::Disabled, State::Down]);
        assert_eq!(hold(None), Hold::End);
    }
}
