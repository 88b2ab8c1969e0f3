//! What it says of an endpoint that it could not be connected to. One table for all protocols.

use std::io;

use rustix::io::Errno;

use crate::health::{Failure, Outcome};
use crate::net::connect::DialError;
use crate::observe::metrics::FailureKind;

/// How the failure is counted.
pub(super) fn kind(error: &DialError) -> FailureKind {
    match error {
        DialError::Connect(_) => FailureKind::Connect,
        DialError::ConnectTimeout(_) => FailureKind::ConnectTimeout,
        DialError::Tls(_) | DialError::TlsTimeout(_) => FailureKind::Tls,
    }
}

/// What its health is judged by: nothing where it is for want of something on our side, of which the
/// endpoint knows nothing.
pub(super) fn outcome(error: &DialError) -> Outcome {
    match error {
        DialError::Connect(cause) if is_ours(cause) => Outcome::Cancelled,
        _ => Outcome::Failure(Failure::Connect),
    }
}

fn is_ours(cause: &io::Error) -> bool {
    let errno = Errno::from_io_error(cause);
    errno.is_some_and(|errno| [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].contains(&errno))
}
