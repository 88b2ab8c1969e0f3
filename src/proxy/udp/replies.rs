//! What endpoints send, back to the clients of their flows.

use std::io;
use std::rc::{Rc, Weak};

use super::{Flows, datagrams, is_refusal, lost};
use crate::ambient;
use crate::flow::{Cause, FlowId, Reply, Then};
use crate::health::Outcome;
use crate::net::udp::{Outlet, Parcel};
use crate::observe::metrics::Lost;

/// Passes on what comes by `outlet`, until the flow is over or goes another way.
pub(super) async fn pass_on(flows: Weak<Flows>, id: FlowId, outlet: Rc<Outlet>) {
    while outlet.readable().await.is_ok() {
        let Some(flows) = flows.upgrade() else { return };
        if !flows.take_replies(id, &outlet) {
            return;
        }
    }
}

impl Flows {
    /// Takes what came in one call. Whether more may come.
    fn take_replies(&self, id: FlowId, outlet: &Outlet) -> bool {
        let mut inbox = self.worker.inbox();
        match outlet.receive(&self.intake, &mut inbox) {
            Ok(received) => {
                let mut goes_on = true;
                for received in received {
                    goes_on = self.reply(id, outlet, received.parcel);
                }
                goes_on
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
            Err(error) => {
                let table = self.table.borrow();
                let Some(flow) = table.get(id) else { return false };
                // The next datagram of the client goes to another endpoint.
                if is_refusal(&error) && !flow.kept.way.refused.get() {
                    flow.kept.refuse(self.worker.shard, ambient::now());
                }
                true
            }
        }
    }

    /// Sends a parcel to the client of a flow. Whether more may follow.
    fn reply(&self, id: FlowId, outlet: &Outlet, parcel: Parcel<'_>) -> bool {
        let (mut table, now, shard) = (self.table.borrow_mut(), ambient::now(), self.worker.shard);
        let came = datagrams(parcel);
        let Some(Reply { peer, then }) = table.replied(id, came, now) else {
            let view = self.view.borrow();
            if let Some(service) = view.service() {
                service.metrics.lost(shard, Lost::Late, came.count.into());
            }
            return false;
        };
        let Some(flow) = table.get(id) else { return false };
        let metrics = &flow.kept.seat.metrics;
        flow.kept.way.lease.answered(Outcome::Success, now);
        flow.kept.seat.tell_breaker(Outcome::Success, now);
        match self.intake.send(peer.client, peer.local, parcel) {
            Ok(()) => metrics.sent(shard, came.count.into(), came.bytes),
            Err(error) => metrics.lost(shard, lost(&error), came.count.into()),
        }
        if flow.counts().replies >= LONG {
            outlet.coalesce();
        }
        if then == Then::Close {
            self.close(&mut table, id, Cause::Complete);
        }
        then == Then::Stay
    }
}

/// As many replies make it worth a call to have the kernel keep together those that follow.
const LONG: u64 = 32;
