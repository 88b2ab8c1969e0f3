//! The flows of one listener on one worker: what a datagram is part of, and when a flow is over: when
//! nothing came for some time, when as many datagrams went as were agreed on, or when another needs its
//! place. Finds a flow by its client in constant time, and allocates nothing for a datagram of a flow
//! that is open. Does not know what is kept with a flow, nor where it leads.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::key::{Key, Seeded};
use super::slots::{FlowId, Slots};
use super::{FlowBy, Peer};

/// What the flows of a listener may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What makes datagrams one flow.
    pub by: FlowBy,
    /// How long nothing comes, from either side, until a flow is over.
    pub idle: Duration,
    /// The most flows at a time. One more, and the one that was idle the longest ends.
    pub most: NonZeroU32,
    /// How many datagrams of the client are one flow: the next begins another, while this one goes on
    /// for its replies. `None` for any number.
    pub requests: Option<NonZeroU32>,
    /// How many datagrams answer each one of the client's: with the last that is due the flow is over,
    /// if no more are to come of the client. 0 where nothing is answered: then a flow of limited
    /// `requests` is over with the last of them. `None` for any number.
    pub replies: Option<u32>,
}

/// The flows; `T` is what is kept with each.
#[derive(Debug)]
pub struct Table<T> {
    settings: Settings,
    slots: Slots<Flow<T>>,
    /// The flows to which further datagrams of their clients belong.
    bound: HashMap<Key, FlowId, Seeded>,
    /// The latest time there was: it never goes back.
    now: Option<Instant>,
    /// No more flows are opened.
    closing: bool,
}

/// A flow.
#[derive(Debug)]
pub struct Flow<T> {
    /// What is kept with it.
    pub kept: T,
    peer: Peer,
    key: Key,
    began: Instant,
    last: Instant,
    counts: Counts,
    /// Replies that are still due, where their number is known.
    due: u64,
}

/// Datagrams that came together: one, or several of one client that the kernel gave at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datagrams {
    /// How many.
    pub count: u32,
    /// Their payload, in bytes.
    pub bytes: u64,
}

/// What to do with a datagram of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Send it by this flow, where it is counted already; then do as told.
    Forward(FlowId, Then),
    /// It is the first of a flow that is to be opened, by [`Table::open`].
    Open,
    /// Drop it.
    Drop(Dropped),
}

/// What comes after the sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The flow goes on.
    Stay,
    /// It is over: to be closed with [`Cause::Complete`].
    Close,
}

/// Why a datagram is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dropped {
    /// It would have begun a flow, and no more are opened.
    Closing,
}

/// A flow that was opened.
#[derive(Debug)]
pub struct Opened<T> {
    /// Its name.
    pub id: FlowId,
    /// What comes after its first datagram is sent.
    pub then: Then,
    /// The flow that had to make room for it.
    pub evicted: Option<Ended<T>>,
}

/// Where a reply goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// To whom, and from which of our addresses.
    pub peer: Peer,
    /// What comes after it is sent.
    pub then: Then,
}

/// What was counted of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams of the client.
    pub requests: u64,
    /// Their payload, in bytes.
    pub request_bytes: u64,
    /// Datagrams of endpoints.
    pub replies: u64,
    /// Their payload, in bytes.
    pub reply_bytes: u64,
}

/// A flow that is over, as it was.
#[derive(Debug)]
pub struct Ended<T> {
    /// What was kept with it.
    pub kept: T,
    /// Whose it was, by the last port that was used.
    pub peer: Peer,
    /// Why it ended.
    pub cause: Cause,
    /// When its first datagram came.
    pub began: Instant,
    /// When its last one came, from either side.
    pub last: Instant,
    /// What went.
    pub counts: Counts,
}

/// Why a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Nothing came for as long as `idle`.
    Idle,
    /// All datagrams that belong to it went.
    Complete,
    /// Another needed its place, and it was idle the longest.
    Evicted,
    /// Its endpoint is not one of the pool any more.
    EndpointGone,
    /// Its endpoint refused, and there was no other.
    Failed,
    /// The listener or the process ends.
    Drained,
}

impl Cause {
    /// Every cause, in the order of the variants.
    pub const ALL: [Self; 6] =
        [Self::Idle, Self::Complete, Self::Evicted, Self::EndpointGone, Self::Failed, Self::Drained];

    /// The word for it in metrics and logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Complete => "complete",
            Self::Evicted => "evicted",
            Self::EndpointGone => "endpoint_gone",
            Self::Failed => "failed",
            Self::Drained => "drained",
        }
    }
}

impl Settings {
    /// Whether datagrams have to be told to the table one by one, because they are numbered: otherwise
    /// those that came together from one client may be told together.
    #[must_use]
    pub const fn are_one_by_one(&self) -> bool {
        self.requests.is_some()
    }
}

impl Datagrams {
    /// One, of this many bytes.
    #[must_use]
    pub const fn one(bytes: usize) -> Self {
        Self { count: 1, bytes: bytes as u64 }
    }
}

impl<T> Table<T> {
    /// An empty one. `seed` is a random number, by which clients cannot foresee where in the table they
    /// come to be.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            slots: Slots::new(),
            bound: HashMap::with_hasher(Seeded(seed)),
            now: None,
            closing: false,
        }
    }

    /// What the flows may be.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes other settings. Flows that are open keep the client they are known by and the replies that
    /// are due, and whatever there is too much of goes with [`Self::expire`].
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// How many flows are open.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.slots.len() as usize
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.slots.len() == 0
    }

    /// Opens no more flows from now on; those that are open go on.
    pub fn open_no_more(&mut self) {
        self.closing = true;
    }

    /// Datagrams of a client came. Where they are part of a flow they count in it.
    pub fn arrived(&mut self, peer: &Peer, datagrams: Datagrams, now: Instant) -> Decision {
        let now = self.forward_to(now);
        let key = self.settings.by.key(peer);
        let Some(&id) = self.bound.get(&key) else { return self.unknown() };
        // A flow whose time is over may not have been taken out yet, but is as good as gone.
        let is_over = |flow: &Flow<T>| flow.is_idle(self.settings.idle, now);
        if self.slots.get(id).is_none_or(is_over) {
            self.bound.remove(&key);
            return self.unknown();
        }
        let Some(flow) = self.slots.touch(id) else { return self.unknown() };
        flow.peer = *peer;
        let then = flow.requested(&self.settings, datagrams, now);
        if flow.is_full(&self.settings) {
            self.bound.remove(&key);
        }
        Decision::Forward(id, then)
    }

    /// Opens a flow for datagrams for which [`Self::arrived`] said [`Decision::Open`], and counts them.
    /// They are to be sent by it.
    pub fn open(&mut self, peer: &Peer, kept: T, datagrams: Datagrams, now: Instant) -> Opened<T> {
        let now = self.forward_to(now);
        let is_full = self.slots.len() >= self.settings.most.get();
        let evicted = if is_full { self.make_room(now) } else { None };
        let key = self.settings.by.key(peer);
        let counts = Counts::default();
        let mut flow = Flow { kept, peer: *peer, key, began: now, last: now, counts, due: 0 };
        let then = flow.requested(&self.settings, datagrams, now);
        let is_whole = flow.is_full(&self.settings);
        let id = self.slots.insert(flow);
        // A flow that is whole with its first datagram is never looked for. Whoever opens two for one
        // client sends by the second, and the first goes on for its replies.
        if is_whole {
            self.bound.remove(&key);
        } else {
            self.bound.insert(key, id);
        }
        Opened { id, then, evicted }
    }

    /// Datagrams of the endpoint of a flow came. `None` if the flow is not open any more.
    pub fn replied(&mut self, id: FlowId, datagrams: Datagrams, now: Instant) -> Option<Reply> {
        let now = self.forward_to(now);
        let is_over = |flow: &Flow<T>| flow.is_idle(self.settings.idle, now);
        if self.slots.get(id).is_none_or(is_over) {
            return None;
        }
        let flow = self.slots.touch(id)?;
        let then = flow.answered(&self.settings, datagrams, now);
        Some(Reply { peer: flow.peer, then })
    }

    /// The flow, if it is open.
    #[must_use]
    pub fn get(&self, id: FlowId) -> Option<&Flow<T>> {
        self.slots.get(id)
    }

    /// The flow, if it is open.
    pub fn get_mut(&mut self, id: FlowId) -> Option<&mut Flow<T>> {
        self.slots.get_mut(id)
    }

    /// All flows, those that were idle the longest first.
    pub fn iter(&self) -> impl Iterator<Item = (FlowId, &Flow<T>)> {
        self.slots.iter()
    }

    /// Moves a flow to another endpoint: `kept` takes the place of what was kept, which is given back
    /// with the flow's new name. By the old one nothing is found any more, so that what is late from
    /// the endpoint before does not reach the client. Replies are due for the datagrams that came last
    /// (`again`, which are sent to the new endpoint), not for what the other one was asked.
    pub fn repin(&mut self, id: FlowId, kept: T, again: u32) -> Option<(FlowId, T)> {
        let new = self.slots.rename(id)?;
        let due = self.settings.due(again);
        let flow = self.slots.get_mut(new)?;
        flow.due = due;
        let before = std::mem::replace(&mut flow.kept, kept);
        if let Some(bound) = self.bound.get_mut(&flow.key).filter(|bound| **bound == id) {
            *bound = new;
        }
        Some((new, before))
    }

    /// Ends a flow. `None` if it has ended.
    pub fn close(&mut self, id: FlowId, cause: Cause) -> Option<Ended<T>> {
        let flow = self.slots.remove(id)?;
        if self.bound.get(&flow.key) == Some(&id) {
            self.bound.remove(&flow.key);
        }
        let Flow { kept, peer, began, last, counts, .. } = flow;
        Some(Ended { kept, peer, cause, began, last, counts })
    }

    /// Ends every flow of which `is_over` says so: looks at all of them, and so is for changes of the
    /// pool, not for datagrams.
    pub fn sweep(&mut self, cause: Cause, mut is_over: impl FnMut(&T) -> bool) -> Vec<Ended<T>> {
        let over: Vec<_> =
            self.slots.iter().filter(|(_, flow)| is_over(&flow.kept)).map(|(id, _)| id).collect();
        over.into_iter().filter_map(|id| self.close(id, cause)).collect()
    }

    /// Ends one flow that was idle for too long, or that is one too many since the settings changed. To
    /// be called until there is none.
    pub fn expire(&mut self, now: Instant) -> Option<Ended<T>> {
        let now = self.forward_to(now);
        let (_, oldest) = self.slots.oldest()?;
        let is_over = oldest.is_idle(self.settings.idle, now);
        if is_over || self.slots.len() > self.settings.most.get() { self.make_room(now) } else { None }
    }

    /// When the next flow will have been idle for too long, if nothing comes for it until then. `None`
    /// without flows, or where that is further than time goes.
    #[must_use]
    pub fn next_end(&self) -> Option<Instant> {
        self.slots.oldest()?.1.last.checked_add(self.settings.idle)
    }

    fn unknown(&self) -> Decision {
        if self.closing { Decision::Drop(Dropped::Closing) } else { Decision::Open }
    }

    fn make_room(&mut self, now: Instant) -> Option<Ended<T>> {
        let (_, oldest) = self.slots.oldest()?;
        let cause = if oldest.is_idle(self.settings.idle, now) { Cause::Idle } else { Cause::Evicted };
        self.close_oldest(cause)
    }

    fn close_oldest(&mut self, cause: Cause) -> Option<Ended<T>> {
        let (id, _) = self.slots.oldest()?;
        self.close(id, cause)
    }

    /// The order of flows is that of their last datagrams, which holds only if time does not go back.
    fn forward_to(&mut self, now: Instant) -> Instant {
        *self.now.insert(self.now.map_or(now, |before| before.max(now)))
    }
}

impl<T> Flow<T> {
    /// Whose it is, by the last port that was used.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// When its first datagram came.
    #[must_use]
    pub const fn began(&self) -> Instant {
        self.began
    }

    /// When its last one came, from either side.
    #[must_use]
    pub const fn last(&self) -> Instant {
        self.last
    }

    /// What went so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    fn requested(&mut self, settings: &Settings, datagrams: Datagrams, now: Instant) -> Then {
        self.last = now;
        self.counts.requests += u64::from(datagrams.count);
        self.counts.request_bytes += datagrams.bytes;
        self.due = self.due.saturating_add(settings.due(datagrams.count));
        // Without a limit of requests there may be more of them, so that only replies end a flow.
        if self.is_full(settings) && settings.replies.is_some() && self.due == 0 {
            Then::Close
        } else {
            Then::Stay
        }
    }

    fn answered(&mut self, settings: &Settings, datagrams: Datagrams, now: Instant) -> Then {
        self.last = now;
        self.counts.replies += u64::from(datagrams.count);
        self.counts.reply_bytes += datagrams.bytes;
        self.due = self.due.saturating_sub(u64::from(datagrams.count));
        let are_counted = settings.replies.is_some_and(|replies| replies > 0);
        let is_asked = settings.requests.is_none() || self.is_full(settings);
        if are_counted && is_asked && self.due == 0 { Then::Close } else { Then::Stay }
    }

    /// Whether no more datagrams of the client are part of it.
    fn is_full(&self, settings: &Settings) -> bool {
        settings.requests.is_some_and(|most| self.counts.requests >= u64::from(most.get()))
    }

    fn is_idle(&self, idle: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= idle
    }
}

impl Settings {
    /// How many replies `requests` datagrams of the client ask for, where that is known.
    fn due(&self, requests: u32) -> u64 {
        self.replies.map_or(0, |replies| u64::from(replies) * u64::from(requests))
    }
}
