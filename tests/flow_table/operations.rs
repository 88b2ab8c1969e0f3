//! Bytes as operations on a table of flows, each of which is carried out on a plain table, too. Used by
//! the seeded test here and by the fuzz target.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use forebay::flow::{
    Cause, Datagrams, Decision, Dropped, Ended, FlowBy, FlowId, Peer, Reply, Settings, Table, Then,
};

use super::plain::{Plain, PlainTable};

/// Works on both tables for as long as there are bytes. Panics where they differ.
pub(crate) fn run(bytes: &[u8]) {
    let mut bytes = bytes.iter().copied();
    let Some(settings) = settings(&mut bytes) else { return };
    let seed = u64::from(bytes.next().unwrap_or_default());
    let mut pair = Pair {
        table: Table::new(settings, seed),
        plain: PlainTable::default(),
        known: Vec::new(),
        now: forebay::ambient::now(),
        next: 0,
        is_closing: false,
    };
    while pair.step(&mut bytes).is_some() {
        pair.compare();
    }
    pair.end();
}

struct Pair {
    table: Table<u64>,
    plain: PlainTable,
    /// Names of flows, most of them of flows that ended.
    known: Vec<FlowId>,
    now: Instant,
    /// What the next flow keeps.
    next: u64,
    is_closing: bool,
}

impl Pair {
    fn step(&mut self, bytes: &mut impl Iterator<Item = u8>) -> Option<()> {
        let (operation, a, b) = (bytes.next()?, bytes.next()?, bytes.next()?);
        match operation {
            0..100 => self.request(peer(a), datagrams(b)),
            100..170 => self.reply(a, datagrams(b)),
            170..200 => self.now += Duration::from_millis(u64::from(a) * u64::from(b % 8)),
            200..215 => self.expire(),
            215..230 => self.repin(a),
            230..240 => self.close(a),
            240..246 => self.sweep(u64::from(b) % 5),
            246..252 => self.table.set(settings(bytes)?),
            // Time that goes back is taken for time that stands still.
            252..255 => {
                self.expire();
                let before = self.now.checked_sub(Duration::from_millis(u64::from(b)))?;
                let ended = self.table.expire(before);
                assert!(ended.is_none(), "{ended:?}");
            }
            255 => {
                self.table.open_no_more();
                self.is_closing = true;
            }
        }
        Some(())
    }

    fn request(&mut self, peer: Peer, came: Datagrams) {
        let (settings, now) = (*self.table.settings(), self.now);
        let of = self.plain.of(&peer, &settings, now);
        let decision = self.table.arrived(&peer, came, now);
        let (id, then) = match decision {
            Decision::Forward(id, then) => (Some(id), then),
            Decision::Open if !self.is_closing => {
                self.next += 1;
                let opened = self.table.open(&peer, self.next, came, now);
                let is_full = self.plain.flows.len() >= settings.most.get() as usize;
                let expected =
                    is_full.then(|| self.plain.surplus(settings.most.get() - 1, settings.idle, now));
                same_end(opened.evicted, expected.flatten());
                assert_eq!(of, None, "a flow was there");
                self.plain.open(opened.id, self.next, peer, settings.by, now);
                self.known.push(opened.id);
                (Some(opened.id), opened.then)
            }
            other => {
                assert_eq!((other, self.is_closing), (Decision::Drop(Dropped::Closing), true));
                (None, Then::Stay)
            }
        };
        let Some(id) = id else { return assert_eq!(of, None) };
        assert!(of.is_none_or(|of| of == id), "it belongs to {of:?}, not to {id:?}");
        assert!(self.plain.get(id).is_some_and(|flow| flow.takes_more), "{id:?} takes no more");
        let is_over = self.plain.request(id, peer, came, &settings, now);
        self.follow(id, then, is_over);
    }

    fn reply(&mut self, choice: u8, came: Datagrams) {
        let Some(id) = self.choose(choice) else { return };
        let settings = *self.table.settings();
        let expected = self.plain.reply(id, came, &settings, self.now);
        let reply = self.table.replied(id, came, self.now);
        assert_eq!(reply.map(|Reply { peer, .. }| peer), expected.map(|(peer, _)| peer));
        if let (Some(reply), Some((_, is_over))) = (reply, expected) {
            self.follow(id, reply.then, is_over);
        }
    }

    fn follow(&mut self, id: FlowId, then: Then, is_over: bool) {
        assert_eq!(then == Then::Close, is_over, "{:?}", self.plain.get(id));
        if is_over {
            same_end(self.table.close(id, Cause::Complete), Some((self.plain.take(id), Cause::Complete)));
        }
    }

    fn repin(&mut self, choice: u8) {
        let Some(id) = self.choose(choice) else { return };
        self.next += 1;
        let moved = self.table.repin(id, self.next, 1);
        assert_eq!(moved.map(|(_, before)| before), self.plain.get(id).map(|flow| flow.kept));
        if let Some((new, _)) = moved {
            assert!(self.plain.get(new).is_none(), "{new:?} is another flow's name");
            self.plain.repin(id, new, self.next, self.table.settings());
            self.known.push(new);
        }
    }

    fn close(&mut self, choice: u8) {
        let Some(id) = self.choose(choice) else { return };
        let expected = self.plain.get(id).is_some().then(|| (self.plain.take(id), Cause::Failed));
        same_end(self.table.close(id, Cause::Failed), expected);
    }

    fn sweep(&mut self, rest: u64) {
        let ended = self.table.sweep(Cause::EndpointGone, |kept| kept % 5 == rest);
        let over = self.plain.flows.extract_if(.., |flow| flow.kept % 5 == rest).collect::<Vec<_>>();
        assert_eq!(ended.len(), over.len());
        for (ended, over) in ended.into_iter().zip(over) {
            same_end(Some(ended), Some((over, Cause::EndpointGone)));
        }
    }

    fn expire(&mut self) {
        while let Some(ended) = self.table.expire(self.now) {
            let expected = self.surplus();
            same_end(Some(ended), expected);
        }
        assert!(self.surplus().is_none(), "more are over");
    }

    fn surplus(&mut self) -> Option<(Plain, Cause)> {
        let settings = self.table.settings();
        self.plain.surplus(settings.most.get(), settings.idle, self.now)
    }

    /// One of the newest names.
    fn choose(&self, choice: u8) -> Option<FlowId> {
        let newest = self.known.iter().rev().take(24).collect::<Vec<_>>();
        newest.get(usize::from(choice) % newest.len().max(1)).map(|id| **id)
    }

    fn compare(&self) {
        assert_eq!(self.table.len(), self.plain.flows.len());
        assert_eq!(self.table.next_end(), self.plain.next_end(self.table.settings().idle));
        assert!(self.table.iter().map(|(id, _)| id).eq(self.plain.flows.iter().map(|flow| flow.id)));
        for (id, flow) in self.table.iter() {
            let plain = self.plain.get(id).expect("the plain table has the same");
            assert_eq!((flow.kept, flow.peer(), flow.counts()), (plain.kept, &plain.peer, plain.counts));
            assert_eq!((flow.began(), flow.last()), plain.times());
        }
    }

    /// In the end nothing is left, and nothing was lost.
    fn end(mut self) {
        let longest = Duration::from_secs(3600);
        self.now += longest;
        self.expire();
        assert!(self.table.is_empty() && self.plain.flows.is_empty());
        assert_eq!(self.table.next_end(), None);
    }
}

#[track_caller]
fn same_end(ended: Option<Ended<u64>>, expected: Option<(Plain, Cause)>) {
    let ended = ended.map(|e| (e.kept, e.peer, e.cause, (e.began, e.last), e.counts));
    let expected = expected.map(|(flow, cause)| (flow.kept, flow.peer, cause, flow.times(), flow.counts));
    assert_eq!(ended, expected);
}

fn settings(bytes: &mut impl Iterator<Item = u8>) -> Option<Settings> {
    let (by, idle, most) = (bytes.next()?, bytes.next()?, bytes.next()?);
    let (requests, replies) = (bytes.next()?, bytes.next()?);
    Some(Settings {
        by: if by % 4 == 0 { FlowBy::Address } else { FlowBy::AddressAndPort },
        idle: Duration::from_millis(u64::from(idle) * 4),
        most: NonZeroU32::new(u32::from(most) % 20 + 1)?,
        requests: NonZeroU32::new(u32::from(requests).saturating_sub(128) % 5),
        replies: (replies % 2 == 1).then_some(u32::from(replies) / 2 % 4),
    })
}

/// One of 64 clients: four addresses, eight ports, two of ours.
fn peer(choice: u8) -> Peer {
    let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, choice % 4));
    let port = 1000 + u16::from(choice / 4 % 8);
    let local = (choice / 32 % 2 == 1).then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    Peer { client: SocketAddr::new(address, port), local }
}

fn datagrams(choice: u8) -> Datagrams {
    Datagrams { count: u32::from(choice % 3) + 1, bytes: u64::from(choice) }
}
