//! Which work of the control plane stands back behind requests where both want the same core. Does not know
//! what the work is.

use rustix::process::setpriority_process;

/// Has the system prefer workers to the calling thread, from here on and for good: for threads that do one long
/// piece of work, such as reading a large configuration or rendering a large page.
pub(super) fn give_way() {
    if let Err(error) = setpriority_process(None, NICE) {
        tracing::debug!(%error, "long work goes on with the priority of requests");
    }
}

/// As nice(2) has it: about a tenth of the share of a worker that wants the same core.
const NICE: i32 = 10;
