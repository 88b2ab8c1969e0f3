//! How a process takes the place of another: what the two say to each other, and the part of the new one.
//! The old one sends its listening sockets; the new one starts on them, says that it is ready, and hears
//! that they are its own from then on. Until that word, the old one goes on if the new one fails.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use thiserror::Error;

use crate::config::plan::UpgradePlan;
use crate::control::health::Health;
use crate::health::journal::{Command, Order};
use crate::model::{Address, json};
use crate::net::inherit::{Given, Inherited};
use crate::net::pass::{Door, Link};

/// Why no process took the place of another.
#[derive(Debug, Error)]
pub enum HandoverError {
    /// The other process says no.
    #[error("the other process refused: {0}")]
    Refused(String),
    /// The other process is gone.
    #[error("the other process ended, or gave up")]
    Gone,
    /// The other process did not say a word in time.
    #[error("the other process did not answer in time")]
    Late,
    /// What it says makes no sense, or is another version's.
    #[error("the other process says something that makes no sense: {0}")]
    Garbled(String),
    /// A socket cannot be passed on or taken.
    #[error("the sockets cannot be passed on")]
    Io(#[source] io::Error),
}

/// With what a process starts that does not begin from nothing.
#[derive(Debug, Default)]
pub struct Arrival {
    pub(super) inherited: Inherited,
    pub(super) predecessor: Option<Predecessor>,
}

/// The process whose place this one takes.
#[derive(Debug)]
pub(super) struct Predecessor {
    link: Link,
    door: Option<OwnedFd>,
    orders: Vec<StandingOrder>,
    /// Its process number, as it says.
    pub(super) process: u32,
}

impl Arrival {
    /// Takes what systemd passes, and, from the process that listens on the upgrade socket, all its
    /// sockets. To be called before there is a second thread.
    ///
    /// # Errors
    /// When a process is there that does not pass its sockets on.
    pub fn receive(plan: &UpgradePlan) -> Result<Self, HandoverError> {
        let inherited = Inherited::from_systemd();
        let link = plan.socket.as_ref().map(|path| Link::to(path)).transpose().map_err(HandoverError::Io)?;
        let predecessor = link.flatten().map(|link| Predecessor::ask(link, &inherited)).transpose()?;
        Ok(Self { inherited, predecessor })
    }

    /// Gives the orders for endpoints that the other process has been given.
    pub(super) fn repeat_orders(&self, health: &Health) {
        for StandingOrder { pool, endpoint, order } in self.predecessor.iter().flat_map(|old| &old.orders) {
            // An endpoint that is gone needs none.
            health.order(pool, endpoint, *order);
        }
    }
}

/// An order for an endpoint, with the time for which it still lasts.
#[derive(Debug)]
pub(super) struct StandingOrder {
    pub(super) pool: String,
    pub(super) endpoint: String,
    pub(super) order: Order,
}

impl StandingOrder {
    pub(super) fn word(&self) -> Value {
        let Self { pool, endpoint, order } = self;
        let left = order.lasts.map(|lasts| u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX));
        let disable = order.command == Command::Disable;
        json!({ "order": { "pool": pool, "endpoint": endpoint, "disable": disable, "left_ms": left } })
    }

    fn read(word: &Value) -> Option<Self> {
        let disable = word.get("disable")?.as_bool()?;
        let command = if disable { Command::Disable } else { Command::Drain };
        Some(Self {
            pool: json::text(word, "pool")?.to_owned(),
            endpoint: json::text(word, "endpoint")?.to_owned(),
            order: Order { command, lasts: json::number(word, "left_ms").map(Duration::from_millis) },
        })
    }
}

impl Predecessor {
    fn ask(link: Link, inherited: &Inherited) -> Result<Self, HandoverError> {
        say(&link, &hello("sockets"), &[])?;
        let mut received = 0;
        let (mut door, mut orders) = (None, Vec::new());
        loop {
            let (word, descriptors) = hear(&link, PATIENCE)?;
            received += descriptors.len();
            if word.get("door").is_some() {
                door = descriptors.into_iter().next();
            } else if let Some(order) = word.get("order") {
                orders.extend(StandingOrder::read(order));
            } else if json::text(&word, "asked").is_some() {
                take(inherited, &word, descriptors)?;
            } else if let Some(process) = json::number(&word, "process") {
                tracing::info!(process, sockets = received, "taking the place of another process");
                return Ok(Self { link, door, orders, process });
            } else {
                return Err(HandoverError::Garbled(word.to_string()));
            }
        }
    }

    /// Says that this process serves; returns once the other one has let go, with the upgrade socket.
    pub(super) fn release(self, taken: &[Address], path: &Arc<Path>) -> Result<Option<Door>, HandoverError> {
        let taken: Vec<_> = taken.iter().map(Address::to_string).collect();
        let said = say(&self.link, &json!({ "ready": true, "taken": taken }), &[]);
        // Whether it was heard or not: one that has given up has said so, and goes on.
        match hear(&self.link, PATIENCE).and_then(|word| said.map(|()| word)) {
            Ok((word, _)) if word.get("released").is_some() => {}
            Ok((word, _)) => return Err(HandoverError::Garbled(word.to_string())),
            // Not of its own will: then there is nobody else left to serve.
            Err(HandoverError::Gone) => tracing::warn!("the old process is gone before its time"),
            Err(error) => return Err(error),
        }
        Ok(self.door.and_then(|door| Door::adopt(door, path).ok()))
    }
}

/// The first word to a running process: what this one `wants`.
pub(super) fn hello(wants: &str) -> Value {
    json!({
        "forebay": env!("CARGO_PKG_VERSION"),
        "protocol": PROTOCOL,
        "process": process::id(),
        "wants": wants,
    })
}

/// Says one thing.
pub(super) fn say(link: &Link, word: &Value, with: &[BorrowedFd<'_>]) -> Result<(), HandoverError> {
    link.send(word.to_string().as_bytes(), with, PATIENCE).map_err(of_link)
}

/// Hears one thing, which is no refusal.
pub(super) fn hear(link: &Link, limit: Duration) -> Result<(Value, Vec<OwnedFd>), HandoverError> {
    let message = link.receive(limit).map_err(of_link)?;
    let word: Value = serde_json::from_slice(&message.text)
        .map_err(|_| HandoverError::Garbled(String::from_utf8_lossy(&message.text).into_owned()))?;
    match json::text(&word, "refused") {
        Some(why) => Err(HandoverError::Refused(why.to_owned())),
        None => Ok((word, message.descriptors)),
    }
}

/// Adds the sockets of one address.
fn take(inherited: &Inherited, word: &Value, descriptors: Vec<OwnedFd>) -> Result<(), HandoverError> {
    let asked = json::text(word, "asked").and_then(|asked| asked.parse::<Address>().ok());
    let asked = asked.ok_or_else(|| HandoverError::Garbled(word.to_string()))?;
    let owner = json::text(word, "owner").unwrap_or_default();
    let mut kept = json::list(word, "kept").iter().map(|kept| kept == true);
    for socket in descriptors {
        let given = Given {
            asked: asked.clone(),
            owner: owner.to_owned(),
            socket,
            kept: kept.next().unwrap_or(false),
        };
        inherited.add(given).map_err(HandoverError::Io)?;
    }
    Ok(())
}

fn of_link(error: io::Error) -> HandoverError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            HandoverError::Gone
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => HandoverError::Late,
        _ => HandoverError::Io(error),
    }
}

/// The number of this conversation's form. Two of different numbers do not understand each other.
pub(super) const PROTOCOL: u32 = 1;
/// How long a process may take to say what it has at hand.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{Options, Server, StartError};

    fn predecessor() -> (Link, Predecessor) {
        let (theirs, link) = Link::pair().unwrap();
        (theirs, Predecessor { link, door: None, orders: Vec::new(), process: 1 })
    }

    #[test]
    fn one_that_has_given_up_is_not_taken_for_dead() {
        let (theirs, predecessor) = predecessor();
        say(&theirs, &json!({ "refused": "it was too slow" }), &[]).unwrap();
        drop(theirs);
        let error = predecessor.release(&[], &Path::new("u.sock").into()).unwrap_err();
        assert!(matches!(&error, HandoverError::Refused(why) if why == "it was too slow"), "{error:?}");
    }

    #[test]
    fn whoever_has_been_let_go_to_serves_without_an_upgrade_socket_if_need_be() {
        let folder = tempfile::tempdir().unwrap();
        let path: Arc<Path> = folder.path().join("u.sock").into();
        let (theirs, predecessor) = predecessor();
        // Somebody else has it, and no other was passed on.
        let taken = Door::open(&path).unwrap();
        let text = format!(
            "workers = 1\n[upgrade]\nsocket = \"{}\"\n[admin]\nbind = \"127.0.0.1:0\"\n\
             [[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
             [[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\"127.0.0.1:9\"]\n",
            path.display()
        );
        let plan = || crate::config::from_str("f.toml", &text, &|_| None, folder.path()).unwrap();
        let lets_go = std::thread::spawn(move || {
            let (word, _) = hear(&theirs, PATIENCE).unwrap();
            assert!(word.get("ready").is_some(), "{word}");
            say(&theirs, &json!({ "released": true }), &[]).unwrap();
        });
        let arrival = Arrival { predecessor: Some(predecessor), ..Arrival::default() };
        drop(Server::start_with(plan(), Options::default(), arrival).unwrap());
        lets_go.join().unwrap();
        let error = Server::start(plan(), Options::default()).unwrap_err();
        assert!(matches!(error, StartError::Door { .. }), "{error:?}");
        drop(taken);
    }

    #[test]
    fn nobody_waits_for_the_dead() {
        let (theirs, predecessor) = predecessor();
        drop(theirs);
        assert!(predecessor.release(&[], &Path::new("u.sock").into()).unwrap().is_none());
    }
}
