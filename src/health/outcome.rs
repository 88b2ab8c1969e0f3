//! What a whole exchange says of its endpoint, once the last byte is there or known not to come.

/// How an exchange ended, as far as the endpoint is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was answered to the last byte. What is the client's fault (4xx) is a success too.
    Success,
    /// The endpoint failed.
    Failure(Failure),
    /// It was given up for reasons that are not the endpoint's: the client left, or sent nonsense.
    Cancelled,
}

/// How an endpoint failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Failure {
    /// No connection, or no TLS, or not in time.
    Connect,
    /// The answer was 502, 503 or 504, or the equivalent of another protocol.
    Gateway,
    /// The answer was another server error (5xx save 501 and 505).
    ServerError,
    /// The connection ended before the response began.
    Reset,
    /// The response ended early.
    Truncated,
    /// What came was not HTTP, or not allowed by it.
    Protocol,
    /// No progress in time, before the response or within it.
    Timeout,
}

impl Failure {
    /// Every failure, in the order of the variants.
    pub const ALL: [Self; 7] = [
        Self::Connect,
        Self::Gateway,
        Self::ServerError,
        Self::Reset,
        Self::Truncated,
        Self::Protocol,
        Self::Timeout,
    ];

    /// The word for it in metrics and journals.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Gateway => "gateway",
            Self::ServerError => "server_error",
            Self::Reset => "reset",
            Self::Truncated => "truncated",
            Self::Protocol => "protocol",
            Self::Timeout => "timeout",
        }
    }

    /// Whether it adds to a row of consecutive failures: all but server errors of the application's
    /// own, which one poisonous request may cause anywhere.
    #[must_use]
    pub const fn is_consecutive(self) -> bool {
        !matches!(self, Self::ServerError)
    }
}

impl Outcome {
    /// The outcome of an exchange that ended well on the wire with this status.
    #[must_use]
    pub const fn of_status(status: u16) -> Self {
        match status {
            502..=504 => Self::Failure(Failure::Gateway),
            501 | 505 => Self::Success,
            500..=599 => Self::Failure(Failure::ServerError),
            _ => Self::Success,
        }
    }

    /// The outcome of a call that ended well on the wire with this status of gRPC
    /// (<https://grpc.github.io/grpc/core/md_doc_statuscodes.html>): `UNAVAILABLE` is what a gateway
    /// error is to HTTP; `UNKNOWN`, `DEADLINE_EXCEEDED`, `INTERNAL` and `DATA_LOSS` are the server's
    /// errors; the others are answers.
    #[must_use]
    pub const fn of_grpc(status: u16) -> Self {
        match status {
            14 => Self::Failure(Failure::Gateway),
            2 | 4 | 13 | 15 => Self::Failure(Failure::ServerError),
            _ => Self::Success,
        }
    }
}
