//! Every listening socket of the process, as the control plane wants them: workers accept from those
//! that are there and end with those that are not there any more.

use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::listen::{self, Bound, BoundSocket};
use crate::model::Address;

/// The sockets to accept from.
#[derive(Clone, Debug, Default)]
pub struct Sockets {
    /// Those that are wanted.
    pub opened: Vec<Opened>,
    /// Those that were until lately, as long as anybody holds them.
    leaving: Vec<Leaving>,
    is_end: bool,
}

/// One bound address.
#[derive(Clone, Debug)]
pub struct Opened {
    /// As it was asked for, by which it is known again.
    pub asked: Address,
    /// With the port that was given for port 0.
    pub address: Address,
    /// The listener it belongs to, as the snapshot numbers them.
    pub listener: usize,
    /// At least one for each worker; the same ones for as long as the address is wanted, even when it
    /// passes to another listener.
    pub sockets: Vec<Arc<BoundSocket>>,
    /// How many workers there are to share them.
    pub workers: usize,
}

/// Opens an address for the listener of a number.
pub type Bind<'a> = &'a dyn Fn(&Address, usize) -> io::Result<Bound>;

/// An address that was given up, and its sockets, which workers still hold until nobody waits there.
#[derive(Clone, Debug)]
struct Leaving {
    asked: Address,
    sockets: Vec<Weak<BoundSocket>>,
}

impl Sockets {
    /// The sockets of these addresses, each with its listener: those of `self` where they are known, and
    /// new ones, for as many workers. An address that two listeners ask for, as they may for port 0, is
    /// each one's own. One that was given up just now is waited for.
    ///
    /// # Errors
    /// The address that cannot be bound, and why.
    pub fn reopen(&self, wanted: &[(&Address, usize)], workers: usize) -> Result<Self, (Address, io::Error)> {
        self.reopen_with(wanted, workers, &|asked, _| listen::bind(asked, workers))
    }

    /// As [`Self::reopen`], with new ones made by `bind`.
    ///
    /// # Errors
    /// As [`Self::reopen`].
    pub fn reopen_with(
        &self,
        wanted: &[(&Address, usize)],
        workers: usize,
        bind: Bind<'_>,
    ) -> Result<Self, (Address, io::Error)> {
        let mut before: Vec<_> = self.opened.iter().map(Some).collect();
        let mut take = |is_it: &dyn Fn(&Opened) -> bool| {
            before.iter_mut().find(|place| place.is_some_and(is_it)).and_then(Option::take)
        };
        // Whoever has an address keeps it, before others ask for it.
        let own: Vec<_> = wanted
            .iter()
            .map(|(asked, listener)| take(&|own| own.asked == **asked && own.listener == *listener))
            .collect();
        let mut opened = Vec::with_capacity(wanted.len());
        for ((asked, listener), own) in wanted.iter().zip(own) {
            opened.push(match own.or_else(|| take(&|other| other.asked == **asked)) {
                Some(kept) => Opened { listener: *listener, ..kept.clone() },
                None => {
                    let bound = self.open(asked, &|| bind(asked, *listener));
                    let Bound { address, sockets } = bound.map_err(|error| ((*asked).clone(), error))?;
                    let sockets = sockets.into_iter().map(Arc::new).collect();
                    Opened { asked: (*asked).clone(), address, listener: *listener, sockets, workers }
                }
            });
        }
        let left = before.into_iter().flatten().map(Leaving::new);
        let leaving = self.leaving.iter().filter(|leaving| leaving.is_held()).cloned().chain(left).collect();
        Ok(Self { opened, leaving, is_end: false })
    }

    /// None, for ever.
    #[must_use]
    pub fn none_more() -> Self {
        Self { is_end: true, ..Self::default() }
    }

    /// Whether none is wanted because everything ends, rather than because addresses were given up.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.is_end
    }

    /// Those for datagrams.
    #[must_use]
    pub fn datagrams(&self) -> Vec<Arc<BoundSocket>> {
        let all = self.opened.iter().flat_map(|opened| &opened.sockets);
        all.filter(|socket| matches!(***socket, BoundSocket::Udp(..))).cloned().collect()
    }

    fn open(&self, asked: &Address, bind: &dyn Fn() -> io::Result<Bound>) -> io::Result<Bound> {
        let mut tries = REBIND_TRIES;
        loop {
            match bind() {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 && self.leaves(asked) => {
                    tries -= 1;
                    thread::sleep(REBIND_PAUSE);
                }
                other => break other,
            }
        }
    }

    /// Whether the address was given up lately, whoever holds it by now.
    fn leaves(&self, asked: &Address) -> bool {
        self.leaving.iter().any(|leaving| leaving.asked == *asked)
    }
}

impl Opened {
    /// Those of the worker numbered `index`. Several when there are more of them than workers, as a
    /// process of more workers may have passed on: none is left without somebody who accepts.
    pub fn of_worker(&self, index: usize) -> impl Iterator<Item = &Arc<BoundSocket>> {
        self.sockets.iter().skip(index).step_by(self.workers.max(1))
    }
}

impl Leaving {
    fn new(opened: &Opened) -> Self {
        Self { asked: opened.asked.clone(), sockets: opened.sockets.iter().map(Arc::downgrade).collect() }
    }

    fn is_held(&self) -> bool {
        self.sockets.iter().any(|socket| socket.strong_count() > 0)
    }
}

/// How often an address that was given up just now is tried again. Workers let go of it after a round
/// trip to clients not too far.
const REBIND_TRIES: u32 = 100;
/// The pause between two tries.
const REBIND_PAUSE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(sockets: &Sockets) -> Vec<(usize, u16)> {
        let port = |address: &Address| address.inet().expect("an IP address").port();
        sockets.opened.iter().map(|opened| (opened.listener, port(&opened.address))).collect()
    }

    #[test]
    fn an_address_stays_with_its_listener_and_passes_to_who_asks_for_it_next() {
        let any: Address = "127.0.0.1:0".parse().unwrap();
        let first = Sockets::default().reopen(&[(&any, 0), (&any, 1)], 2).unwrap();
        let [(0, zero), (1, one)] = ports(&first)[..] else { unreachable!("as asked for") };
        assert_ne!(zero, one);
        let turned = first.reopen(&[(&any, 1), (&any, 0)], 2).unwrap();
        assert_eq!(ports(&turned), [(1, one), (0, zero)]);
        let passed = first.reopen(&[(&any, 1), (&any, 2)], 2).unwrap();
        assert_eq!(ports(&passed), [(1, one), (2, zero)]);
        assert!(Arc::ptr_eq(&passed.opened[1].sockets[1], &first.opened[0].sockets[1]));
    }

    #[test]
    fn an_address_that_was_given_up_is_to_be_had_again() {
        let any: Address = "127.0.0.1:0".parse().unwrap();
        let first = Sockets::default().reopen(&[(&any, 0)], 1).unwrap();
        let fixed = first.opened[0].address.clone();
        drop(first);
        let first = Sockets::default().reopen(&[(&fixed, 0)], 1).unwrap();
        let without = first.reopen(&[], 1).unwrap();
        let worker = Arc::clone(&first.opened[0].sockets[0]);
        drop(first);
        let ends = thread::spawn(move || {
            thread::sleep(REBIND_PAUSE * 4);
            drop(worker);
        });
        let again = without.reopen(&[(&fixed, 1)], 1).unwrap();
        assert_eq!(again.opened[0].address, fixed);
        ends.join().unwrap();
    }

    #[test]
    fn an_address_that_somebody_else_has_is_refused_at_once() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken: Address = other.local_addr().unwrap().to_string().parse().unwrap();
        let (address, error) = Sockets::default().reopen(&[(&taken, 0)], 1).unwrap_err();
        assert_eq!((address, error.kind()), (taken, io::ErrorKind::AddrInUse));
    }
}
