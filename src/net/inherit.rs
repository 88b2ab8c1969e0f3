//! Listening sockets that this process was given rather than bound: by systemd, or by the process whose
//! place it takes. Matches them to addresses; does not know who asks for those, nor how they came.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use listenfd::ListenFd;
use socket2::{SockRef, Type};

use super::listen::{self, Bound, BoundSocket, LivesOn, SocketFile};
use crate::model::Address;

/// Sockets that were given, until they are taken for an address.
#[derive(Debug, Default)]
pub struct Inherited(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    groups: Vec<Group>,
    taken: Vec<Address>,
    /// Those that another process still listens on, and whether that stays so.
    unsettled: Vec<(LivesOn, bool)>,
}

/// The sockets of one address.
#[derive(Debug)]
struct Group {
    asked: Address,
    owner: String,
    address: Address,
    sockets: Vec<BoundSocket>,
}

/// One socket as it comes.
#[derive(Debug)]
pub struct Given {
    /// As its address was asked for.
    pub asked: Address,
    /// By whom; anybody when empty.
    pub owner: String,
    /// The socket.
    pub socket: OwnedFd,
    /// Whether somebody keeps it open for good, such as systemd.
    pub kept: bool,
}

impl Inherited {
    /// What systemd passes when it starts a service for which it listens (`sd_listen_fds(3)`:
    /// `LISTEN_FDS`, `LISTEN_PID`). What is no listening stream socket is left alone, with a warning.
    /// Removes the variables: to be called before there is a second thread.
    #[must_use]
    pub fn from_systemd() -> Self {
        let inherited = Self::default();
        let mut passed = ListenFd::from_env();
        for index in 0..passed.len() {
            // Either may be what it is; a socket stays in its place when it is of the other kind.
            let socket = match passed.take_tcp_listener(index) {
                Ok(socket) => socket.map(OwnedFd::from),
                Err(_) => passed.take_unix_listener(index).ok().flatten().map(OwnedFd::from),
            };
            let added = socket.ok_or(io::ErrorKind::InvalidInput.into()).and_then(|socket| {
                let asked = address_of(&socket)?;
                inherited.add(Given { asked, owner: String::new(), socket, kept: true })
            });
            if let Err(error) = added {
                tracing::warn!(index, %error, "a descriptor that systemd passed is not used");
            }
        }
        inherited
    }

    /// Adds a socket, which is nobody's else unless `kept` as soon as [`Self::settle`] says so.
    ///
    /// # Errors
    /// When it is neither a stream socket that listens nor one for UDP.
    pub fn add(&self, given: Given) -> io::Result<()> {
        let Given { asked, owner, socket, kept } = given;
        let raw = SockRef::from(&socket);
        let address = match (raw.r#type()?, address_of(&socket)?) {
            (Type::DGRAM, Address::Inet(address)) => Address::Udp(address),
            (Type::STREAM, address) if raw.is_listener()? => address,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a listening socket")),
        };
        let lives_on = LivesOn::default();
        lives_on.set(true);
        let socket = adopt(socket, &address, lives_on.clone())?;
        let mut state = self.state();
        state.unsettled.push((lives_on, kept));
        match state.groups.iter_mut().find(|group| group.address == address) {
            Some(group) => group.sockets.push(socket),
            None => {
                state.groups.push(Group { asked: absolute(&asked), owner, address, sockets: vec![socket] })
            }
        }
        Ok(())
    }

    /// The sockets for what `owner` has `asked` for, at least one for each of `workers`: the given ones,
    /// with others beside them where there are fewer; or new ones where there are none. An address may
    /// come from another owner, unless it is any free port.
    ///
    /// # Errors
    /// As [`listen::bind`].
    pub fn take_or_bind(&self, asked: &Address, owner: &str, workers: usize) -> io::Result<Bound> {
        let mut state = self.state();
        let wanted = absolute(asked);
        let is_one = wanted.inet().is_none_or(|address| address.port() != 0);
        let own = state.groups.iter().position(|group| group.asked == wanted && group.owner == owner);
        let other = || state.groups.iter().position(|group| group.asked == wanted && is_one);
        let Some(index) = own.or_else(other) else {
            return listen::bind(asked, workers);
        };
        let Group { address, mut sockets, .. } = state.groups.remove(index);
        let given = sockets.len();
        while sockets.len() < workers {
            let pattern = sockets.get(sockets.len() % given).map(BoundSocket::beside);
            sockets.push(pattern.ok_or(io::ErrorKind::InvalidInput)??);
        }
        state.taken.push(address.clone());
        Ok(Bound { address, sockets })
    }

    /// The addresses that sockets were taken for.
    #[must_use]
    pub fn taken(&self) -> Vec<Address> {
        self.state().taken.clone()
    }

    /// Whoever passed the sockets has let go of them, apart from those that are kept.
    pub fn settle(&self) {
        for (lives_on, kept) in self.state().unsettled.drain(..) {
            lives_on.set(kept);
        }
    }

    /// Closes what nobody took; the addresses.
    pub fn close_rest(&self) -> Vec<Address> {
        self.state().groups.drain(..).map(|group| group.address).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address that a socket is bound to.
fn address_of(socket: &OwnedFd) -> io::Result<Address> {
    let address = SockRef::from(socket).local_addr()?;
    let inet = address.as_socket().map(Address::Inet);
    let unix = || address.as_pathname().map(|path| Address::Unix(path.into()));
    inet.or_else(unix).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a socket without a name"))
}

/// The same address, for a process with another working directory as well.
#[must_use]
pub fn absolute(address: &Address) -> Address {
    match address {
        Address::Unix(path) => {
            path::absolute(path).map_or(address.clone(), |path| Address::Unix(path.into()))
        }
        Address::Inet(_) | Address::Udp(_) => address.clone(),
    }
}

fn adopt(socket: OwnedFd, address: &Address, lives_on: LivesOn) -> io::Result<BoundSocket> {
    match address {
        Address::Inet(_) => {
            // Accepted sockets inherit it.
            SockRef::from(&socket).set_tcp_nodelay(true)?;
            let socket = TcpListener::from(socket);
            socket.set_nonblocking(true)?;
            Ok(BoundSocket::Tcp(socket, lives_on))
        }
        Address::Unix(path) => {
            let file = SocketFile::new(Arc::clone(path), lives_on)?;
            let socket = UnixListener::from(socket);
            socket.set_nonblocking(true)?;
            Ok(BoundSocket::Unix(socket, Arc::new(file)))
        }
        Address::Udp(_) => {
            let socket = UdpSocket::from(socket);
            socket.set_nonblocking(true)?;
            Ok(BoundSocket::Udp(socket, lives_on))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpStream;
    use std::os::fd::AsFd as _;

    use super::*;

    fn bound(workers: usize) -> Bound {
        listen::bind(&"127.0.0.1:0".parse().unwrap(), workers).unwrap()
    }

    fn duplicate(socket: &BoundSocket) -> OwnedFd {
        socket.as_fd().try_clone_to_owned().unwrap()
    }

    fn pass(bound: &Bound, inherited: &Inherited, kept: bool) {
        for socket in &bound.sockets {
            let asked = "127.0.0.1:0".parse().unwrap();
            inherited.add(Given { asked, owner: "web".to_owned(), socket: duplicate(socket), kept }).unwrap();
        }
    }

    #[test]
    fn all_sockets_of_an_address_are_taken_at_once_whatever_the_number_of_workers() {
        for (before, after, has) in [(2, 2, 2), (4, 1, 4), (1, 3, 3)] {
            let (bound, inherited) = (bound(before), Inherited::default());
            pass(&bound, &inherited, false);
            let taken = inherited.take_or_bind(&"127.0.0.1:0".parse().unwrap(), "web", after).unwrap();
            assert_eq!((&taken.address, taken.sockets.len()), (&bound.address, has));
            assert_eq!(inherited.taken(), std::slice::from_ref(&bound.address));
            assert!(inherited.close_rest().is_empty());
        }
    }

    #[test]
    fn any_free_port_is_taken_by_its_owner_only() {
        let (bound, inherited) = (bound(1), Inherited::default());
        pass(&bound, &inherited, false);
        let any = "127.0.0.1:0".parse().unwrap();
        assert_ne!(inherited.take_or_bind(&any, "other", 1).unwrap().address, bound.address);
        assert_eq!(inherited.take_or_bind(&any, "web", 1).unwrap().address, bound.address);
    }

    #[test]
    fn a_socket_beside_others_lets_nobody_in_before_it_is_told_to() {
        let (bound, inherited) = (bound(1), Inherited::default());
        pass(&bound, &inherited, false);
        let taken = inherited.take_or_bind(&"127.0.0.1:0".parse().unwrap(), "web", 8).unwrap();
        let clients: Vec<_> =
            (0..32).map(|_| TcpStream::connect(bound.address.inet().unwrap()).unwrap()).collect();
        drop(taken);
        let BoundSocket::Tcp(first, _) = &bound.sockets[0] else { panic!("is TCP") };
        let waiting = std::iter::from_fn(|| first.accept().ok()).count();
        assert_eq!(waiting, clients.len());
    }

    #[test]
    fn what_is_passed_on_lives_on_until_it_is_settled() {
        for kept in [false, true] {
            let (bound, inherited) = (bound(1), Inherited::default());
            pass(&bound, &inherited, kept);
            let taken = inherited.take_or_bind(&"127.0.0.1:0".parse().unwrap(), "web", 1).unwrap();
            assert!(taken.sockets[0].lives_on().get());
            inherited.settle();
            assert_eq!(taken.sockets[0].lives_on().get(), kept);
        }
    }

    #[test]
    fn only_sockets_that_listen_are_taken() {
        let bound = bound(1);
        let client = TcpStream::connect(bound.address.inet().unwrap()).unwrap();
        let given = Given { asked: bound.address, owner: String::new(), socket: client.into(), kept: false };
        let error = Inherited::default().add(given).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_unix_socket_keeps_its_file_while_it_lives_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let asked = Address::Unix(path.clone().into());
        let (bound, inherited) = (listen::bind(&asked, 1).unwrap(), Inherited::default());
        let socket = duplicate(&bound.sockets[0]);
        inherited.add(Given { asked: asked.clone(), owner: "web".to_owned(), socket, kept: false }).unwrap();
        let taken = inherited.take_or_bind(&asked, "other", 2).unwrap();
        bound.sockets[0].lives_on().set(true);
        drop(bound);
        assert!(path.exists());
        inherited.settle();
        drop(taken);
        assert!(!path.exists());
    }
}
