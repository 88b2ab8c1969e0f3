//! How a connection or a flow that was passed on ended: what metrics and the access log get of it.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// A connection or flow that is over, borrowed from whoever passed it on.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// When it was accepted, or its first datagram came.
    pub time: SystemTime,
    /// The client, as believed after the PROXY protocol; `None` for Unix sockets.
    pub client: Option<IpAddr>,
    /// The listener.
    pub listener: &'a str,
    /// The pool, when one was chosen.
    pub pool: Option<&'a str>,
    /// The endpoint that it was connected to, or that failed last.
    pub endpoint: Option<&'a str>,
    /// What became of it.
    pub result: StreamResult,
    /// Payload bytes from the client that were passed on.
    pub received: u64,
    /// Payload bytes that were passed on to the client.
    pub sent: u64,
    /// Datagrams from and to the client; `None` for connections.
    pub datagrams: Option<(u64, u64)>,
    /// From its beginning to its end.
    pub duration: Duration,
    /// From its beginning until the endpoint was connected to.
    pub connect: Option<Duration>,
    /// How often an endpoint was asked.
    pub tries: u32,
    /// The server name that the client indicated.
    pub sni: Option<&'a str>,
    /// The version of TLS where it was terminated, as in `TLSv1.3`.
    pub tls_version: Option<&'a str>,
}

/// What became of a connection or flow: the label `result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StreamResult {
    /// Both sides ended it.
    Done,
    /// Nothing moved for as long as is allowed.
    Idle,
    /// It lasted for as long as is allowed.
    Expired,
    /// The client broke it off.
    ClientReset,
    /// The endpoint broke it off.
    EndpointReset,
    /// No endpoint could be connected to.
    ConnectFailed,
    /// No endpoint was available.
    NoEndpoint,
    /// A limit of the pool turned it away.
    Rejected,
    /// The listener does not take connections from there, or not so many.
    Denied,
    /// The client did not begin as it must: TLS or the PROXY protocol.
    Malformed,
    /// Forebay ended it, because it was to end itself or the endpoint had gone.
    Aborted,
}

/// Whose fault it is that a connection or flow was not passed on to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An endpoint's, or this proxy's for want of one.
    Ours,
    /// The client's.
    Theirs,
}

impl StreamResult {
    /// Whose fault it is, where it is anybody's.
    #[must_use]
    pub fn fault(self) -> Option<Fault> {
        match self {
            Self::EndpointReset | Self::ConnectFailed | Self::NoEndpoint | Self::Rejected => {
                Some(Fault::Ours)
            }
            Self::Denied | Self::Malformed => Some(Fault::Theirs),
            Self::Done | Self::Idle | Self::Expired | Self::ClientReset | Self::Aborted => None,
        }
    }

    /// All, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Done,
        Self::Idle,
        Self::Expired,
        Self::ClientReset,
        Self::EndpointReset,
        Self::ConnectFailed,
        Self::NoEndpoint,
        Self::Rejected,
        Self::Denied,
        Self::Malformed,
        Self::Aborted,
    ];

    /// The word for it in metrics and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Idle => "idle",
            Self::Expired => "expired",
            Self::ClientReset => "client_reset",
            Self::EndpointReset => "endpoint_reset",
            Self::ConnectFailed => "connect_failed",
            Self::NoEndpoint => "no_endpoint",
            Self::Rejected => "rejected",
            Self::Denied => "denied",
            Self::Malformed => "malformed",
            Self::Aborted => "aborted",
        }
    }
}
