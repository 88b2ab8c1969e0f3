//! The clients of datagrams: one socket for each flow, some of which wait for answers at any time, in
//! a closed loop. It counts what is lost and what comes out of order, and knows nothing of proxies.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::Load;
use crate::Failure;
use crate::load::Counted;

/// The sockets of one load, used for one proxy after another.
#[derive(Debug)]
pub(super) struct Flows {
    load: Load,
    /// Those that send nothing now, the one that rested longest first.
    resting: VecDeque<Flow>,
    pub(super) told: Told,
}

/// What should not be.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told {
    /// Datagrams without an answer.
    pub(super) lost: u64,
    /// Answers that came after one to a later datagram of the same flow.
    pub(super) reordered: u64,
}

#[derive(Debug)]
struct Flow {
    socket: UdpSocket,
    /// The number of the next datagram.
    next: u64,
    /// The highest number that was answered, plus one.
    answered: u64,
}

impl Flows {
    /// # Errors
    /// Where there are too few ports or descriptors.
    pub(super) fn open(load: &Load) -> Result<Self, Failure> {
        let resting = (0..load.flows.unwrap_or(1)).map(|_| Flow::open()).collect::<Result<_, _>>()?;
        Ok(Self { load: *load, resting, told: Told::default() })
    }

    /// Waits until datagrams come back.
    ///
    /// # Errors
    /// When none does within ten seconds.
    pub(super) fn reach(&mut self, proxy: SocketAddr) -> Result<(), Failure> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let mut flow = Flow::open()?;
            flow.send(proxy, 1, self.load.size)?;
            if flow.collect(proxy, 1)?.lost == 0 {
                return Ok(());
            }
        }
        Err(format!("no datagram came back from {proxy} within 10 s").into())
    }

    /// Lets each flow send once, so that the proxy knows it.
    ///
    /// # Errors
    /// Where a socket fails.
    pub(super) fn each_once(&mut self, proxy: SocketAddr) -> Result<(), Failure> {
        for flow in &mut self.resting {
            flow.send(proxy, 1, self.load.size)?;
            let told = flow.collect(proxy, 1)?;
            self.told.add(told);
        }
        Ok(())
    }

    /// Loads a proxy for a time. Counted are datagrams that it passed on: those that were answered, and
    /// their answers.
    ///
    /// # Errors
    /// Where a socket fails.
    pub(super) fn run(&mut self, proxy: SocketAddr, time: Duration) -> Result<Counted, Failure> {
        let Load { at_once, burst, size, flows, .. } = self.load;
        let begun = Instant::now();
        let mut waiting = VecDeque::with_capacity(at_once);
        let mut counted = Counted::default();
        while begun.elapsed() < time || !waiting.is_empty() {
            if begun.elapsed() < time && waiting.len() < at_once {
                let rested = if flows.is_some() { self.resting.pop_front() } else { Some(Flow::open()?) };
                if let Some(mut flow) = rested {
                    flow.send(proxy, burst, size)?;
                    waiting.push_back(flow);
                    continue;
                }
            }
            let Some(mut flow) = waiting.pop_front() else { continue };
            let told = flow.collect(proxy, burst)?;
            counted.requests += 2 * (burst as u64 - told.lost);
            counted.errors += told.lost;
            self.told.add(told);
            if flows.is_some() {
                self.resting.push_back(flow);
            }
        }
        counted.time = begun.elapsed();
        Ok(counted)
    }
}

impl Told {
    fn add(&mut self, more: Self) {
        self.lost += more.lost;
        self.reordered += more.reordered;
    }
}

impl Flow {
    fn open() -> Result<Self, Failure> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(LOST_AFTER))?;
        Ok(Self { socket, next: 0, answered: 0 })
    }

    fn send(&mut self, proxy: SocketAddr, burst: usize, size: usize) -> Result<(), Failure> {
        let mut datagram = [0; LARGEST];
        let datagram = datagram.get_mut(..size).ok_or("a datagram that is too large")?;
        for _ in 0..burst {
            if let Some(number) = datagram.first_chunk_mut() {
                *number = self.next.to_be_bytes();
            }
            self.socket.send_to(datagram, proxy)?;
            self.next += 1;
        }
        Ok(())
    }

    /// Takes the answers to the last `burst` datagrams.
    fn collect(&mut self, proxy: SocketAddr, burst: usize) -> Result<Told, Failure> {
        let first = self.next - burst as u64;
        let mut told = Told { lost: burst as u64, reordered: 0 };
        let mut datagram = [0; LARGEST];
        while told.lost > 0 {
            match self.socket.recv_from(&mut datagram) {
                // What another proxy answered too late was counted as lost.
                Ok((_, from)) if from != proxy => continue,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) => return Err(error.into()),
            }
            let number = datagram.first_chunk().map_or(0, |number| u64::from_be_bytes(*number));
            told.reordered += u64::from(number < self.answered);
            told.lost -= u64::from(number >= first);
            self.answered = self.answered.max(number + 1);
        }
        Ok(told)
    }
}

/// Without an answer.
const LOST_AFTER: Duration = Duration::from_millis(200);
/// Bytes of a datagram.
const LARGEST: usize = 2048;
