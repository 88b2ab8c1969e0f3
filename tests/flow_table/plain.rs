//! A table of flows that is too plain to be wrong: a list that is searched from its start, in the order
//! in which flows were last used.

use std::time::{Duration, Instant};

use forebay::flow::{Cause, Counts, Datagrams, FlowBy, FlowId, Peer, Settings};

/// A flow, with what the table calls it.
#[derive(Clone, Debug)]
pub(crate) struct Plain {
    pub(crate) id: FlowId,
    pub(crate) kept: u64,
    pub(crate) peer: Peer,
    by: FlowBy,
    begun_by: Peer,
    began: Instant,
    last: Instant,
    pub(crate) counts: Counts,
    /// Replies of the endpoint it has that are due.
    due: u64,
    /// Whether the client's next datagram is part of it.
    pub(crate) takes_more: bool,
}

/// The flows, those that were idle the longest first.
#[derive(Debug, Default)]
pub(crate) struct PlainTable {
    pub(crate) flows: Vec<Plain>,
}

impl PlainTable {
    /// The flow that a datagram of `peer` belongs to.
    pub(crate) fn of(&mut self, peer: &Peer, settings: &Settings, now: Instant) -> Option<FlowId> {
        let is_of = |flow: &&mut Plain| {
            flow.takes_more && flow.by == settings.by && same(settings.by, &flow.begun_by, peer)
        };
        let flow = self.flows.iter_mut().find(is_of)?;
        flow.takes_more = now - flow.last < settings.idle;
        flow.takes_more.then_some(flow.id)
    }

    pub(crate) fn open(&mut self, id: FlowId, kept: u64, peer: Peer, by: FlowBy, now: Instant) {
        assert!(self.get(id).is_none(), "{id:?} is another flow's name");
        let (counts, begun_by) = (Counts::default(), peer);
        self.flows.push(Plain {
            id,
            kept,
            peer,
            by,
            begun_by,
            began: now,
            last: now,
            counts,
            due: 0,
            takes_more: true,
        });
    }

    /// Whether the flow is over once this is sent.
    pub(crate) fn request(
        &mut self,
        id: FlowId,
        peer: Peer,
        came: Datagrams,
        s: &Settings,
        now: Instant,
    ) -> bool {
        let mut flow = self.take(id);
        (flow.peer, flow.last) = (peer, now);
        flow.counts.requests += u64::from(came.count);
        flow.counts.request_bytes += came.bytes;
        flow.due += due(s, came.count);
        let is_full = flow.is_full(s);
        flow.takes_more &= !is_full;
        let is_over = is_full && s.replies.is_some() && flow.due == 0;
        self.flows.push(flow);
        is_over
    }

    /// Where the reply goes, and whether the flow is over then.
    pub(crate) fn reply(
        &mut self,
        id: FlowId,
        came: Datagrams,
        s: &Settings,
        now: Instant,
    ) -> Option<(Peer, bool)> {
        if self.get(id).is_none_or(|flow| now - flow.last >= s.idle) {
            return None;
        }
        let mut flow = self.take(id);
        flow.last = now;
        flow.counts.replies += u64::from(came.count);
        flow.counts.reply_bytes += came.bytes;
        // What comes without being asked for counts for nothing that is asked later.
        flow.due = flow.due.saturating_sub(u64::from(came.count));
        let is_whole = s.requests.is_none() || flow.is_full(s);
        let is_over = is_whole && s.replies.is_some_and(|replies| replies > 0) && flow.due == 0;
        let peer = flow.peer;
        self.flows.push(flow);
        Some((peer, is_over))
    }

    pub(crate) fn repin(&mut self, id: FlowId, new: FlowId, kept: u64, s: &Settings) {
        let flow = self.flows.iter_mut().find(|flow| flow.id == id).expect("the flow is open");
        (flow.id, flow.kept, flow.due) = (new, kept, due(s, 1));
    }

    pub(crate) fn get(&self, id: FlowId) -> Option<&Plain> {
        self.flows.iter().find(|flow| flow.id == id)
    }

    /// Takes a flow out that is there.
    pub(crate) fn take(&mut self, id: FlowId) -> Plain {
        let at = self.flows.iter().position(|flow| flow.id == id).expect("the flow is open");
        self.flows.remove(at)
    }

    /// Takes out the flow that has to go if there may be `most`, and says why.
    pub(crate) fn surplus(&mut self, most: u32, idle: Duration, now: Instant) -> Option<(Plain, Cause)> {
        let is_idle = now - self.flows.first()?.last >= idle;
        let is_one_too_many = self.flows.len() > most as usize;
        let cause = if is_idle { Cause::Idle } else { Cause::Evicted };
        (is_idle || is_one_too_many).then(|| (self.flows.remove(0), cause))
    }

    pub(crate) fn next_end(&self, idle: Duration) -> Option<Instant> {
        self.flows.first().map(|flow| flow.last + idle)
    }
}

impl Plain {
    /// When it began and was last used.
    pub(crate) fn times(&self) -> (Instant, Instant) {
        (self.began, self.last)
    }

    fn is_full(&self, settings: &Settings) -> bool {
        settings.requests.is_some_and(|most| self.counts.requests >= u64::from(most.get()))
    }
}

/// What so many datagrams of the client ask for.
fn due(settings: &Settings, requests: u32) -> u64 {
    u64::from(settings.replies.unwrap_or_default()) * u64::from(requests)
}

fn same(by: FlowBy, one: &Peer, other: &Peer) -> bool {
    let address = one.client.ip() == other.client.ip() && one.local == other.local;
    address && (by == FlowBy::Address || one.client.port() == other.client.port())
}
