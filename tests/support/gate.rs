//! An origin whose slow answers wait for the test.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::{DEADLINE, Origin, ok};

/// What holds answers back until it is opened.
#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<bool>, Condvar);

impl Gate {
    /// Lets everything through.
    pub(crate) fn open(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.1.notify_all();
    }

    /// Waits until it is opened; for a bounded time, longer than any test takes.
    pub(crate) fn pass(&self) {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.1.wait_timeout_while(open, DEADLINE * 12, |open| !*open));
    }
}

/// Answers `body` at once, but requests for `/slow` with half of ten bytes first and the rest once the
/// gate is open.
pub(crate) fn answers_slow_requests_through(gate: &Arc<Gate>, body: &str) -> Origin {
    let (gate, body) = (Arc::clone(gate), body.to_owned());
    Origin::run(move |conn| {
        while let Some(request) = conn.request() {
            if request.target() == "/slow" {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234");
                gate.pass();
                conn.send("56789");
            } else {
                conn.send(ok(&body));
            }
        }
    })
}
