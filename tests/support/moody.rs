//! An origin that behaves as its mood says, and whose mood can be changed while it runs. It remembers
//! which requests it has taken, and how many at once. It answers `/healthz` well as long as it is
//! alive, whatever its mood: the shallow check of many services.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use forebay::ambient;

/// How an origin behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Answers after its time.
    Well,
    /// Takes 20 times as long.
    Slow,
    /// Sends half of each body, then closes.
    Truncates,
    /// Sends half of each body, then resets.
    Resets,
    /// Sends what is no HTTP.
    Garbage,
    /// Fails this share of requests, in percent, with 500.
    Fails(u8),
    /// Answers this share of requests, in percent, with 503.
    Refuses(u8),
    /// Resets the connection at this share of requests, in percent, before any byte.
    Drops(u8),
    /// Takes requests and says nothing to this share of them, in percent.
    Hangs(u8),
    /// Begins a body and stalls.
    Stalls,
}

/// How long a healthy origin takes unless it is said to take longer.
pub(crate) const SERVICE: Duration = Duration::from_millis(5);

/// What an origin is able to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ability {
    /// How long it works on a request.
    pub(crate) service: Duration,
    /// On how many at once. The others wait for their turn, and slow it down: by a fiftieth of its
    /// time for each `slots` of them.
    pub(crate) slots: u32,
}

/// A request that an origin took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The number that it carried.
    pub(crate) number: u64,
    /// When it was there as a whole.
    pub(crate) at: Instant,
    /// When the origin is done with it.
    pub(crate) done: Instant,
}

/// A running origin. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Moody {
    shared: Arc<Shared>,
    address: SocketAddr,
}

#[derive(Debug)]
struct Shared {
    ability: Ability,
    mood: Mutex<Mood>,
    alive: AtomicBool,
    requests: AtomicU64,
    in_flight: AtomicU32,
    taken: Mutex<Vec<Taken>>,
    /// When each slot is free again.
    slots: Mutex<BinaryHeap<Reverse<Instant>>>,
    streams: Mutex<Vec<TcpStream>>,
}

impl Moody {
    /// An origin that is well, on a free port.
    pub(crate) fn new() -> Self {
        Self::able(Ability::default())
    }

    /// The same, with an ability of its own.
    pub(crate) fn able(ability: Ability) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("there is a free port"), ability)
    }

    fn on(listener: TcpListener, ability: Ability) -> Self {
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            ability,
            mood: Mutex::new(Mood::Well),
            alive: AtomicBool::new(true),
            requests: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            taken: Mutex::default(),
            slots: Mutex::new((0..ability.slots).map(|_| Reverse(ambient::now())).collect()),
            streams: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if !accepting.alive.load(Ordering::SeqCst) {
                    return;
                }
                lock(&accepting.streams).extend(stream.try_clone());
                let shared = Arc::clone(&accepting);
                thread::spawn(move || {
                    // Whoever leaves or is cut off ends the conversation.
                    let _ = shared.converse(&stream);
                    shared.forget(&stream);
                });
            }
        });
        Self { shared, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set(&self, mood: Mood) {
        *lock(&self.shared.mood) = mood;
    }

    /// Requests so far, those for `/healthz` left out.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Those that carried a number.
    pub(crate) fn taken(&self) -> Vec<Taken> {
        lock(&self.shared.taken).clone()
    }

    /// Ends at once: its port refuses, its connections are cut.
    pub(crate) fn kill(&self) {
        if !self.shared.alive.swap(false, Ordering::SeqCst) {
            return;
        }
        // Wakes the thread that accepts, which then closes the socket.
        let _ = TcpStream::connect(self.address);
        for stream in lock(&self.shared.streams).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Begins again on the same port, after [`Self::kill`].
    pub(crate) fn revive(&mut self) {
        let listener = (0..500).find_map(|_| {
            TcpListener::bind(self.address).ok().or_else(|| {
                thread::sleep(Duration::from_millis(2));
                None
            })
        });
        *self = Self::on(listener.expect("its port is still free"), self.shared.ability);
    }
}

impl Default for Ability {
    fn default() -> Self {
        Self { service: SERVICE, slots: 10_000 }
    }
}

impl Drop for Moody {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Shared {
    fn converse(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        while let Some(head) = read_request(stream)? {
            if head.starts_with("GET /healthz") {
                stream.write_all(OK.as_bytes())?;
                continue;
            }
            let number = self.requests.fetch_add(1, Ordering::SeqCst);
            let mood = *lock(&self.mood);
            self.work(mood, field(&head, "x-number"));
            if !self.answer(stream, mood, number)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Answers one request, once it is worked on; whether the connection goes on.
    fn answer(&self, mut stream: &TcpStream, mood: Mood, number: u64) -> io::Result<bool> {
        // A multiplier that spreads the failures without a pattern that matters.
        let hit = |share: u8| number.wrapping_mul(61) % 100 < u64::from(share);
        let (text, goes_on) = match mood {
            Mood::Truncates | Mood::Resets => (HALF, false),
            Mood::Garbage => ("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", false),
            Mood::Fails(share) if hit(share) => (FAILED, true),
            Mood::Refuses(share) if hit(share) => (REFUSED, true),
            Mood::Drops(share) if hit(share) => ("", false),
            Mood::Hangs(share) if hit(share) => return self.stall(stream),
            Mood::Stalls => {
                stream.write_all(HALF.as_bytes())?;
                return self.stall(stream);
            }
            _ => (OK, true),
        };
        stream.write_all(text.as_bytes())?;
        if !goes_on && mood != Mood::Truncates && mood != Mood::Garbage {
            self.forget(stream);
            socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
        }
        Ok(goes_on)
    }

    /// Takes its time, on a slot of its own.
    fn work(&self, mood: Mood, number: Option<u64>) {
        let in_flight = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        let slots = self.ability.slots;
        let queued = f64::from(in_flight.saturating_sub(slots)) / f64::from(slots);
        let slowed = if mood == Mood::Slow { 20.0 } else { 1.0 + queued / 50.0 };
        let at = ambient::now();
        let done = {
            let mut slots = lock(&self.slots);
            let Reverse(free) = slots.pop().unwrap_or(Reverse(at));
            let done = free.max(at) + self.ability.service.mul_f64(slowed);
            slots.push(Reverse(done));
            done
        };
        lock(&self.taken).extend(number.map(|number| Taken { number, at, done }));
        thread::sleep(done - at);
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// Says nothing until the other side leaves.
    fn stall(&self, mut stream: &TcpStream) -> io::Result<bool> {
        let _ = stream.read(&mut [0; 1])?;
        Ok(false)
    }

    fn forget(&self, stream: &TcpStream) {
        let peer = stream.peer_addr().ok();
        lock(&self.streams).retain(|other| other.peer_addr().ok() != peer);
    }
}

/// The head of the next request, as it came, once its body is there; `None` at
/// the end.
fn read_request(mut stream: &TcpStream) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
            let body = field(&head, "content-length").unwrap_or(0);
            if bytes.len() as u64 >= end as u64 + 4 + body {
                return Ok(Some(head));
            }
        }
        let mut piece = [0; 4096];
        let n = stream.read(&mut piece)?;
        if n == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(piece.get(..n).unwrap_or_default());
    }
}

/// A field that holds a number.
fn field(head: &str, name: &str) -> Option<u64> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let value = fields.filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()?;
    value.trim().parse().ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789";
const HALF: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234";
const FAILED: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
const REFUSED: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
