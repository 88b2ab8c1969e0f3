//! A `udp` listener's socket on one worker: what clients send belongs to flows, each of which has an
//! endpoint and a socket of its own towards that; what comes back by it is sent from the address that
//! the client asked. Which datagrams are one flow, and until when, is judged elsewhere.

mod introduction;
mod open;
mod replies;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::UdpSocket;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Sleep, sleep_until};

use super::told::told;
use super::{Listening, Worker};
use crate::ambient;
use crate::flow::{Cause, Datagrams, Decision, Ended, FlowId, Hold, Peer, Table, Then, hold};
use crate::net::udp::{Intake, Parcel, Received};
use crate::observe::ended::{self, StreamResult};
use crate::observe::metrics::Lost;
use crate::upstream::service::UdpService;
use crate::upstream::{Listener, Local, Service};
use open::{Upstream, gauges};

/// The flows that came by one socket.
pub struct Flows {
    worker: Rc<Worker>,
    /// Whose they are, from the next datagram on.
    listening: Box<dyn Fn() -> Rc<Listening>>,
    intake: Intake,
    table: RefCell<Table<Upstream>>,
    view: RefCell<Rc<View>>,
    /// Room for a datagram with what is put before it.
    outbox: RefCell<Vec<u8>>,
    stage: Cell<Stage>,
    /// The stage is another, or the last flow of one that takes no more has ended.
    changed: Notify,
    /// For the tasks of flows, which are not to keep the socket open.
    own: Weak<Self>,
}

/// How a listener leaves a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Another process receives what comes; only replies to what came before are passed on.
    Handed,
    /// Flows go on until they are over; no more are opened.
    Draining,
    /// Flows end at once: the address is to be free.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    Left(Leave),
}

/// What flows are opened under.
struct View {
    id: usize,
    local: Rc<Local>,
    listener: Arc<Listener>,
}

impl Flows {
    /// The flows of what `socket` receives, for whichever listener `listening` says at the time; none yet.
    ///
    /// # Errors
    /// When the runtime cannot register the socket, or it is not for a `udp` listener.
    pub fn begin(
        worker: &Rc<Worker>,
        listening: impl Fn() -> Rc<Listening> + 'static,
        socket: UdpSocket,
    ) -> io::Result<Rc<Self>> {
        let view = View::of(worker, &listening()).ok_or(io::ErrorKind::Unsupported)?;
        let settings = view.service().ok_or(io::ErrorKind::Unsupported)?.flows;
        let intake = Intake::new(socket)?;
        Ok(Rc::new_cyclic(|own| Self {
            worker: Rc::clone(worker),
            listening: Box::new(listening),
            intake,
            table: RefCell::new(Table::new(settings, ambient::draw())),
            view: RefCell::new(Rc::new(view)),
            outbox: RefCell::default(),
            stage: Cell::new(Stage::Open),
            changed: Notify::new(),
            own: Weak::clone(own),
        }))
    }

    /// Passes datagrams on, until the socket was left and no flow is open any more.
    pub async fn run(&self) {
        let mut next = pin!(sleep_until(ambient::now().into()));
        let mut batches = 0;
        while !self.is_over() {
            tokio::select! {
                ready = self.intake.readable(), if self.receives() => match ready {
                    Ok(()) => self.take(),
                    Err(_) => return,
                },
                () = next.as_mut(), if !self.table.borrow().is_empty() => self.expire(next.as_mut()),
                () = self.changed.notified() => {}
            }
            batches += 1;
            if batches % BATCHES == 0 {
                // Connections of the same worker have their turn.
                yield_now().await;
            }
        }
    }

    /// The listener leaves the socket.
    pub fn leave(&self, how: Leave) {
        self.stage.set(Stage::Left(how));
        let mut table = self.table.borrow_mut();
        table.open_no_more();
        if how == Leave::Closed {
            self.sweep(&mut table, Cause::Drained, |_| true);
        }
        self.changed.notify_one();
    }

    fn is_over(&self) -> bool {
        self.stage.get() != Stage::Open && self.table.borrow().is_empty()
    }

    fn receives(&self) -> bool {
        matches!(self.stage.get(), Stage::Open | Stage::Left(Leave::Draining))
    }

    /// Takes what came in one call, and passes it on.
    fn take(&self) {
        let mut inbox = self.worker.inbox();
        let received = match self.intake.receive(&mut inbox) {
            Ok(received) => received,
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    tracing::debug!(%error, "receiving datagrams failed");
                }
                return;
            }
        };
        let mut table = self.table.borrow_mut();
        let view = self.view(&mut table);
        let Some(service) = view.service() else { return };
        service.metrics.batch(self.worker.shard);
        let now = ambient::now();
        let one_by_one = table.settings().are_one_by_one();
        for Received { from, local, parcel } in received {
            let came = Came { view: &view, service, peer: Peer { client: from, local }, now };
            let datagrams = datagrams(parcel);
            service.metrics.received(self.worker.shard, datagrams.count.into(), datagrams.bytes);
            if one_by_one {
                parcel.each().for_each(|one| self.arrived(&mut table, &came, one));
            } else {
                self.arrived(&mut table, &came, parcel);
            }
        }
    }

    fn arrived(&self, table: &mut Table<Upstream>, came: &Came<'_>, parcel: Parcel<'_>) {
        let passed = match table.arrived(&came.peer, datagrams(parcel), came.now) {
            Decision::Forward(id, then) => {
                let passed = self.forward(table, came, id, parcel);
                // By another name if it has moved; then it is not over either.
                if then == Then::Close {
                    self.close(table, id, Cause::Complete);
                }
                passed
            }
            Decision::Open => self.open(table, came, parcel),
            Decision::Drop(_) => Err(Lost::Closing),
        };
        if let Err(why) = passed {
            came.service.metrics.lost(self.worker.shard, why, parcel.count().into());
        }
    }

    /// Sends a parcel of a client by its flow, which goes to another endpoint first if that has to be.
    fn forward(
        &self,
        table: &mut Table<Upstream>,
        came: &Came<'_>,
        id: FlowId,
        parcel: Parcel<'_>,
    ) -> Result<(), Lost> {
        let Some(flow) = table.get(id) else { return Err(Lost::Failed) };
        let way = &flow.kept.way;
        if way.refused.get() || hold(Some(way.state())) == Hold::Move {
            return self.go_on(table, came, id, parcel);
        }
        match self.send(&flow.kept, &came.peer, parcel) {
            Err(error) if is_refusal(&error) => {
                flow.kept.refuse(self.worker.shard, came.now);
                self.go_on(table, came, id, parcel)
            }
            sent => sent.map_err(|error| lost(&error)),
        }
    }

    /// Sends a parcel of `peer` to the endpoint.
    fn send(&self, upstream: &Upstream, peer: &Peer, parcel: Parcel<'_>) -> io::Result<()> {
        let outlet = &upstream.way.outlet;
        let Some(introduction) = &upstream.seat.introduction else {
            return outlet.send(&self.intake, parcel);
        };
        let mut outbox = self.outbox.borrow_mut();
        outbox.clear();
        introduction.write(peer.client, self.intake.local(peer.local), &mut outbox);
        outlet.send_after(&self.intake, &mut outbox, parcel)
    }

    fn close(&self, table: &mut Table<Upstream>, id: FlowId, cause: Cause) {
        if let Some(ended) = table.close(id, cause) {
            self.ended(&ended);
        }
        self.tell_if_over(table);
    }

    fn sweep(&self, table: &mut Table<Upstream>, cause: Cause, is_over: impl FnMut(&Upstream) -> bool) {
        table.sweep(cause, is_over).iter().for_each(|ended| self.ended(ended));
        self.tell_if_over(table);
    }

    fn ended(&self, ended: &Ended<Upstream>) {
        let now = ambient::now();
        ended.kept.way.lease.complete(None, now);
        let (shard, seat) = (self.worker.shard, &ended.kept.seat);
        seat.metrics.ended(shard, ended.cause);
        seat.counted.end(shard, result(ended.cause), now.saturating_duration_since(ended.began));
        self.log(ended, now);
    }

    fn log(&self, ended: &Ended<Upstream>, now: Instant) {
        let view = self.view.borrow();
        let tap = &view.local.snapshot.tap;
        if view.listener.access_log.is_none() && !tap.is_followed() {
            return;
        }
        let (counts, duration) = (&ended.counts, now.saturating_duration_since(ended.began));
        let record = ended::Ended {
            time: ambient::wall().checked_sub(duration).unwrap_or(UNIX_EPOCH),
            client: Some(ended.peer.client.ip()),
            listener: view.listener.name.as_str(),
            pool: Some(ended.kept.seat.pool.as_str()),
            endpoint: Some(ended.kept.way.lease.endpoint().shared.name.as_str()),
            result: result(ended.cause),
            received: counts.request_bytes,
            sent: counts.reply_bytes,
            datagrams: Some((counts.requests, counts.replies)),
            duration,
            connect: None,
            tries: 1,
            sni: None,
            tls_version: None,
        };
        told(self.worker.shard, &view.listener, tap, &record);
    }

    fn tell_if_over(&self, table: &Table<Upstream>) {
        if table.is_empty() && self.stage.get() != Stage::Open {
            self.changed.notify_one();
        }
    }

    /// Ends flows whose time is over, and those whose endpoints are there no more. To be called again
    /// when `next` says.
    fn expire(&self, next: Pin<&mut Sleep>) {
        let now = ambient::now();
        let mut table = self.table.borrow_mut();
        let _ = self.view(&mut table);
        while let Some(ended) = table.expire(now) {
            self.ended(&ended);
        }
        let due = table.next_end().unwrap_or(now).clamp(now + LEAST_PAUSE, now + MOST_PAUSE);
        next.reset(due.into());
    }

    /// The present view, which is taken up if it is another than before.
    fn view(&self, table: &mut Table<Upstream>) -> Rc<View> {
        let listening = (self.listening)();
        let local = listening.local(&self.worker);
        let before = Rc::clone(&self.view.borrow());
        if Rc::ptr_eq(&local, &before.local) && listening.id == before.id {
            return before;
        }
        // A listener that is another protocol's has other sockets.
        let Some(view) = View::of(&self.worker, &listening).map(Rc::new) else { return before };
        if let Some(service) = view.service() {
            table.set(service.flows);
        }
        let there = gauges(&view.local);
        self.sweep(table, Cause::EndpointGone, |upstream| !upstream.way.is_among(&there));
        self.view.replace(Rc::clone(&view));
        view
    }
}

impl std::fmt::Debug for Flows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flows")
            .field("intake", &self.intake)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl View {
    fn of(worker: &Worker, listening: &Listening) -> Option<Self> {
        let local = listening.local(worker);
        let listener = Arc::clone(local.snapshot.listener(listening.id)?);
        Some(Self { id: listening.id, local, listener })
    }

    fn service(&self) -> Option<&UdpService> {
        match &self.listener.service {
            Service::Udp(service) => Some(service),
            _ => None,
        }
    }
}

/// What is known of a parcel that came from a client.
struct Came<'a> {
    view: &'a Rc<View>,
    service: &'a UdpService,
    peer: Peer,
    now: Instant,
}

fn result(cause: Cause) -> StreamResult {
    match cause {
        Cause::Idle => StreamResult::Idle,
        Cause::Complete => StreamResult::Done,
        Cause::Failed => StreamResult::ConnectFailed,
        Cause::Evicted | Cause::EndpointGone | Cause::Drained => StreamResult::Aborted,
    }
}

fn datagrams(parcel: Parcel<'_>) -> Datagrams {
    Datagrams { count: parcel.count(), bytes: parcel.bytes().len() as u64 }
}

/// Whether an error says that nobody takes datagrams there.
fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
}

fn lost(error: &io::Error) -> Lost {
    if error.kind() == io::ErrorKind::WouldBlock
        || rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::NOBUFS)
    {
        return Lost::Full;
    }
    if rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::MSGSIZE) {
        Lost::TooLarge
    } else {
        Lost::Failed
    }
}

/// How often in a row what came is taken before others have their turn.
const BATCHES: u32 = 8;
/// The least time between two looks for flows that are over.
const LEAST_PAUSE: Duration = Duration::from_millis(5);
/// The most: endpoints may have gone without any datagram that came.
const MOST_PAUSE: Duration = Duration::from_secs(1);
