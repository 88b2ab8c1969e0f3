//! The old process's part when another takes its place: who comes in at the upgrade socket, what is passed
//! on, and starting this program anew when that is asked for. Does not know how a server drains.

use std::collections::BTreeSet;
use std::env;
use std::future::pending;
use std::os::fd::AsFd;
use std::process::{self, Child, Command, Stdio};
use std::ptr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::handover::{Arrival, HandoverError, PATIENCE, PROTOCOL, StandingOrder, hear, hello, say};
use super::{Ends, Server, StartError, notify};
use crate::ambient;
use crate::config::plan::UpgradePlan;
use crate::control::Answering;
use crate::control::admin;
use crate::control::running::Running;
use crate::model::{Address, json};
use crate::net::inherit::absolute;
use crate::net::listen::{BoundSocket, LivesOn};
use crate::net::pass::{Door, Entrance, Link, MOST_DESCRIPTORS};
use crate::net::sockets::Opened;

/// What another process can be given.
#[derive(Debug)]
pub(super) struct Upgrades {
    pub(super) settings: UpgradePlan,
    running: Arc<Running>,
    /// The admin listener's sockets, with their addresses as asked for and as bound.
    admin: Vec<(Address, Address, BoundSocket)>,
    door: Option<Door>,
    state: Mutex<State>,
    given: Notify,
    /// The same, for threads.
    gave: Condvar,
}

#[derive(Debug, Clone, Default)]
enum State {
    #[default]
    Idle,
    /// A new process was started, and has not come in yet.
    Ordered,
    /// A process has the sockets, and is not ready yet.
    Giving(Arc<Link>),
    /// The process of this number serves now.
    Given(u32),
    /// This process ends, with no other in its place.
    Ending,
}

impl State {
    /// Whether the process at the other end of `link` may be let go to.
    fn is_giving(&self, link: &Link) -> bool {
        matches!(self, Self::Giving(to) if ptr::eq(&**to, link))
    }
}

/// Something that was passed on, and whether it lived on elsewhere before.
type Passed = (LivesOn, bool);

/// As [`Upgrades::attend`]; without an upgrade socket nobody ever comes in.
pub(super) async fn attend(upgrades: Option<&Arc<Upgrades>>) {
    match upgrades {
        Some(upgrades) => upgrades.attend().await,
        None => pending().await,
    }
}

impl Server {
    /// Takes over what was passed on, and has its own successor find it.
    pub(super) fn settle_in(
        &mut self,
        arrival: Arrival,
        settings: UpgradePlan,
        admin: Vec<(Address, Address, BoundSocket)>,
    ) -> Result<(), StartError> {
        let Arrival { inherited, predecessor } = arrival;
        let (mut door, is_first) = (None, predecessor.is_none());
        if let (Some(predecessor), Some(path)) = (predecessor, &settings.socket) {
            let process = predecessor.process;
            let released = predecessor.release(&inherited.taken(), path);
            // Who was let in already is not to suffer for it.
            door = released.inspect_err(|_| self.end_gently())?;
            tracing::info!(process, "took the place of another process, which drains");
        }
        inherited.settle();
        for address in inherited.close_rest() {
            tracing::warn!(%address, "a socket that was passed on is closed: no listener binds its address");
        }
        if let (None, Some(path)) = (&door, &settings.socket) {
            door = match Door::open(path) {
                Ok(door) => Some(door),
                Err(source) if is_first => {
                    return Err(StartError::Door { path: path.display().to_string(), source });
                }
                // The old process serves no more.
                Err(error) => {
                    let path = path.display();
                    tracing::error!(%path, %error, "no process can take this one's place later");
                    None
                }
            };
        }
        self.upgrades = Some(Upgrades::new(settings, Arc::clone(&self.running), admin, door));
        self.answering.send_replace(Answering::Now);
        notify::ready();
        Ok(())
    }

    fn end_gently(&mut self) {
        self.drain();
        let by = ambient::now() + self.drain_settings().timeout;
        while ambient::now() < by && !self.workers.iter().all(JoinHandle::is_finished) {
            thread::sleep(POLL);
        }
    }

    /// SIGUSR2.
    pub(super) fn order_upgrade(&self) {
        self.upgrades.iter().for_each(Upgrades::order);
    }

    /// Ends what is under way while another process serves; a signal makes it as quick as any end.
    pub(super) async fn leave(mut self, mut ends: Ends) {
        let drain = self.drain_settings();
        let timeout = self.upgrades.as_ref().map(|upgrades| upgrades.settings.timeout).unwrap_or_default();
        tracing::info!(?timeout, "another process has taken this one's place, draining");
        self.answering.send_replace(Answering::NoMore);
        self.drain();
        if let Some(upgrades) = self.upgrades.take() {
            upgrades.take_leave().await;
        }
        tokio::select! {
            () = self.ended() => {}
            () = sleep(timeout) => tracing::warn!("drain timed out, dropping what is left"),
            () = ends.next() => self.drained(drain.timeout, &mut ends).await,
        }
        self.abort();
        self.join();
        tracing::info!("ended");
    }
}

impl Upgrades {
    fn new(
        settings: UpgradePlan,
        running: Arc<Running>,
        admin: Vec<(Address, Address, BoundSocket)>,
        door: Option<Door>,
    ) -> Arc<Self> {
        Arc::new(Self {
            settings,
            running,
            admin,
            door,
            state: Mutex::default(),
            given: Notify::new(),
            gave: Condvar::new(),
        })
    }

    /// Hears whoever comes in, until one of them has taken this process's place.
    async fn attend(self: &Arc<Self>) {
        tokio::select! {
            () = self.given.notified() => {}
            () = self.let_in() => {}
        }
    }

    /// Has this program started anew, which takes this process's place if all goes well.
    pub(super) fn order(self: &Arc<Self>) {
        self.converse("upgrade by signal", |upgrades| {
            // What came of it is in the log.
            let _ = upgrades.start_successor();
        });
    }

    /// Nobody takes this process's place any more.
    pub(super) fn end(&self) {
        let before = std::mem::replace(&mut *self.state(), State::Ending);
        if let State::Giving(link) = before {
            // Its own start has failed then, whether it hears this or not.
            let _ = say(&link, &json!({ "refused": "it ends" }), &[]);
        }
    }

    /// Closes what is not needed any more, once whoever asked for the upgrade has heard of it: the process
    /// may be gone in a moment.
    async fn take_leave(self: Arc<Self>) {
        let mut left = LEAVE.as_millis() / POLL.as_millis();
        while Arc::strong_count(&self) > 1 && left > 0 {
            sleep(POLL).await;
            left -= 1;
        }
    }

    async fn let_in(self: &Arc<Self>) {
        let Some(door) = &self.door else { return pending().await };
        let entrance = opened(door).await;
        loop {
            match entrance.accept().await {
                Ok(link) => self.converse("upgrade", move |upgrades| upgrades.hear_out(link)),
                Err(error) => {
                    tracing::warn!(%error, "a process was not let in at the upgrade socket");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Conversations block, and so have threads of their own. Their number is small: they are this
    /// user's, and each ends after a while.
    fn converse(self: &Arc<Self>, name: &str, conversation: impl FnOnce(&Self) + Send + 'static) {
        let upgrades = Arc::clone(self);
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || conversation(&upgrades));
        if let Err(error) = spawned {
            tracing::error!(%error, "there is no thread for an upgrade");
        }
    }

    fn hear_out(&self, link: Link) {
        let Ok((word, _)) = hear(&link, PATIENCE) else { return };
        let answer = match (json::number(&word, "protocol"), json::text(&word, "wants")) {
            (Some(PROTOCOL), Some("sockets")) => self.give(link, &word),
            (Some(PROTOCOL), Some("upgrade")) => {
                let answer = match self.start_successor() {
                    Ok(process) => json!({ "upgraded": process, "from": process::id() }),
                    Err(why) => refusal(&why),
                };
                say(&link, &answer, &[])
            }
            _ => say(&link, &refusal("it speaks another version's language"), &[]),
        };
        if let Err(error) = answer {
            tracing::warn!(%error, "a process that came in at the upgrade socket was not served");
        }
    }

    /// Passes everything on, or goes on as if nothing had happened.
    fn give(&self, link: Link, word: &Value) -> Result<(), HandoverError> {
        let link = Arc::new(link);
        if let Err(why) = self.begin(&link) {
            return say(&link, &refusal(why), &[]);
        }
        let process = json::number(word, "process").unwrap_or(0);
        let version = json::text(word, "forebay").unwrap_or_default();
        tracing::info!(process, version, "another process is to take this one's place");
        if let Err(error) = self.pass_on(&link, process) {
            let mut state = self.state();
            if state.is_giving(&link) {
                *state = State::Idle;
            }
            drop(state);
            tracing::error!(process, %error, "no process takes this one's place: it goes on");
            let _ = say(&link, &refusal(&error.to_string()), &[]);
        }
        Ok(())
    }

    fn begin(&self, link: &Arc<Link>) -> Result<(), &'static str> {
        let mut state = self.state();
        match *state {
            State::Idle | State::Ordered => {
                *state = State::Giving(Arc::clone(link));
                Ok(())
            }
            State::Giving(_) => Err("another process is taking its place"),
            State::Given(_) => Err("another process has taken its place"),
            State::Ending => Err("it ends"),
        }
    }

    fn pass_on(&self, link: &Link, process: u32) -> Result<(), HandoverError> {
        let sockets = self.running.sockets().borrow().clone();
        let snapshot = self.running.published().load_full();
        for opened in &sockets.opened {
            let sockets: Vec<_> = opened.sockets.iter().map(|socket| &**socket).collect();
            let listener = snapshot.listener(opened.listener);
            let owner = listener.map_or("", |listener| listener.name.as_str());
            send(link, (&opened.asked, owner), &sockets)?;
        }
        for (asked, _, socket) in &self.admin {
            send(link, (asked, admin::OWNER), &[socket])?;
        }
        if let Some(door) = &self.door {
            say(link, &json!({ "door": true }), &[door.as_fd()])?;
        }
        for (pool, endpoint, order) in self.running.health().orders() {
            let (pool, endpoint) = (pool.to_string(), endpoint.name.to_string());
            say(link, &StandingOrder { pool, endpoint, order }.word(), &[])?;
        }
        say(link, &json!({ "process": process::id() }), &[])?;
        let (word, _) = hear(link, self.settings.start_timeout)?;
        if word.get("ready").is_none() {
            return Err(HandoverError::Garbled(word.to_string()));
        }
        let taken: BTreeSet<_> = json::list(&word, "taken").iter().filter_map(Value::as_str).collect();
        let listeners = sockets.opened.iter().flat_map(|opened| {
            opened.sockets.iter().map(|socket| (opened.address.to_string(), socket.lives_on()))
        });
        let admin = self.admin.iter().map(|(_, address, socket)| (address.to_string(), socket.lives_on()));
        let passed = listeners.chain(admin).filter(|(address, _)| taken.contains(&**address));
        let passed = passed.map(|(_, lives_on)| lives_on).chain(self.door.as_ref().map(Door::lives_on));
        let passed = passed.map(|lives_on| (lives_on.clone(), lives_on.get())).collect();
        let are_kept = || {
            let now = self.running.sockets().borrow().clone();
            let is_kept = |opened: &Opened| now.opened.iter().any(|kept| kept.address == opened.address);
            sockets.opened.iter().filter(|opened| taken.contains(&*opened.address.to_string())).all(is_kept)
        };
        self.let_go(link, process, passed, are_kept)
    }

    /// From its last word on, what was `passed` is the other process's, if all of it is still there.
    fn let_go(
        &self,
        link: &Link,
        process: u32,
        passed: Vec<Passed>,
        are_kept: impl FnOnce() -> bool,
    ) -> Result<(), HandoverError> {
        // Held until it is said: it is not given up in between.
        let mut state = self.state();
        if !state.is_giving(link) {
            return Err(HandoverError::Refused("it ends, or has given up".to_owned()));
        }
        // Before the look at them: what a reload gives up after it is closed as one that lives on.
        passed.iter().for_each(|(lives_on, _)| lives_on.set(true));
        let said = if are_kept() {
            say(link, &json!({ "released": true }), &[])
        } else {
            // It lets nobody in any more.
            Err(HandoverError::Refused("its configuration was replaced meanwhile".to_owned()))
        };
        if said.is_ok() {
            *state = State::Given(process);
            self.given.notify_one();
            self.gave.notify_all();
        } else {
            passed.iter().for_each(|(lives_on, before)| lives_on.set(*before));
        }
        said
    }

    /// Starts this program anew and waits until it has taken this process's place; its number.
    fn start_successor(&self) -> Result<u32, String> {
        self.announce().inspect_err(|why| tracing::error!(%why, "no upgrade"))?;
        let started = command().spawn().map_err(|error| format!("the program cannot be started: {error}"));
        let outcome = started.and_then(|child| {
            tracing::info!(process = child.id(), "started the program anew");
            self.await_successor(child)
        });
        if let Err(why) = &outcome {
            let mut state = self.state();
            if matches!(*state, State::Ordered) {
                *state = State::Idle;
            }
            tracing::error!(%why, "the upgrade failed: this process goes on");
        }
        outcome
    }

    fn announce(&self) -> Result<(), String> {
        if self.door.is_none() {
            return Err("`[upgrade] socket` is not set, or nothing can listen there: then the log says why"
                .to_owned());
        }
        if process::id() == 1 {
            return Err("it is the first process here, with whose end everything ends: start a new \
                        container in its place"
                .to_owned());
        }
        let mut state = self.state();
        match *state {
            State::Idle => {
                *state = State::Ordered;
                Ok(())
            }
            State::Ordered | State::Giving(_) => Err("an upgrade is under way".to_owned()),
            State::Given(_) | State::Ending => Err("it ends".to_owned()),
        }
    }

    fn await_successor(&self, mut child: Child) -> Result<u32, String> {
        let by = ambient::now() + self.settings.start_timeout + PATIENCE;
        let mut state = self.state();
        loop {
            if let State::Given(process) = *state {
                return Ok(process);
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("the new process ended before it was ready: {status}; the log says why"));
            }
            if ambient::now() >= by {
                break;
            }
            let waited = self.gave.wait_timeout(state, POLL);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if !matches!(*state, State::Ending) {
            // Nothing is let go to it from here on.
            *state = State::Idle;
        }
        drop(state);
        // It may have ended just now.
        let _ = child.kill();
        let _ = child.wait();
        Err("the new process was not ready in time".to_owned())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the process that listens at `path` to start anew; its number, and that of the new one.
///
/// # Errors
/// When there is none, or it fails; then the old one goes on.
pub fn ask_to_upgrade(settings: &UpgradePlan) -> Result<(u32, u32), HandoverError> {
    let link = settings.socket.as_ref().map(|path| Link::to(path)).transpose().map_err(HandoverError::Io)?;
    let link = link.flatten().ok_or(HandoverError::Gone)?;
    say(&link, &hello("upgrade"), &[])?;
    let (word, _) = hear(&link, settings.start_timeout + PATIENCE * 2)?;
    let number = |name| json::number(&word, name);
    number("from").zip(number("upgraded")).ok_or_else(|| HandoverError::Garbled(word.to_string()))
}

/// The door, where the calling task can wait at it. Whoever comes before that waits.
async fn opened(door: &Door) -> Entrance {
    loop {
        match door.entrance() {
            Ok(entrance) => return entrance,
            Err(error) => {
                tracing::error!(%error, "no process can take this one's place, waiting before the next try");
                sleep(DOOR_PAUSE).await;
            }
        }
    }
}

/// Sends the sockets of one address. Where all workers share one, it is sent once.
fn send(
    link: &Link,
    (asked, owner): (&Address, &str),
    sockets: &[&BoundSocket],
) -> Result<(), HandoverError> {
    let distinct = match sockets {
        [first, ..] if !first.is_one_of_many() => std::slice::from_ref(first),
        all => all,
    };
    for some in distinct.chunks(MOST_DESCRIPTORS) {
        let kept: Vec<_> = some.iter().map(|socket| socket.lives_on().get()).collect();
        let word = json!({ "asked": absolute(asked).to_string(), "owner": owner, "kept": kept });
        let descriptors: Vec<_> = some.iter().map(|socket| socket.as_fd()).collect();
        say(link, &word, &descriptors)?;
    }
    Ok(())
}

fn refusal(why: &str) -> Value {
    json!({ "refused": why })
}

/// This program as it was started; whatever is in its file by now.
fn command() -> Command {
    let mut words = env::args_os();
    let mut command = Command::new(words.next().unwrap_or_else(|| "forebay".into()));
    // The service manager is to hear from the new process as well.
    command.args(words).env_remove("WATCHDOG_PID").stdin(Stdio::null());
    command
}

/// After somebody was not let in.
const PAUSE: Duration = Duration::from_millis(100);
/// After the door could not be opened, such as for want of file descriptors.
const DOOR_PAUSE: Duration = Duration::from_secs(1);
/// The longest that conversations may take to end after a hand-over.
const LEAVE: Duration = Duration::from_secs(1);
/// How often it is looked whether the new process, a worker or a conversation has ended.
const POLL: Duration = Duration::from_millis(20);
