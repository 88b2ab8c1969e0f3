//! Has a worker begin again when it ends before its time, after a pause that grows while that happens
//! again and again. Knows neither what a worker does nor where its sockets come from.

use std::io;
use std::time::{Duration, Instant};

use crate::observe::panics::{Place, catching};

/// What a worker is to its supervisor: lives, one after the other, and what happens between them. All of
/// it on one thread, so that a life begins only after the one before has ended.
pub(crate) trait Lives {
    /// Lives until it is told to end; an error or a panic is an end before that.
    fn live(&mut self) -> io::Result<()>;
    /// Whether there is to be another life, which begins after `pause`. Returns after it, or as soon as
    /// there is to be none.
    fn rest(&mut self, pause: Duration) -> bool;
    /// The time.
    fn now(&self) -> Instant;
}

/// Has `worker` live until it ends as it was told to, or is not to begin again.
pub(crate) fn supervise(index: usize, worker: &mut impl Lives) {
    let mut pause = FIRST_PAUSE;
    loop {
        let born = worker.now();
        match catching(Place::Worker, || worker.live()) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::error!(worker = index, %error, "a worker ended"),
            Err(panic) => tracing::error!(worker = index, %panic, "a panic ended a worker"),
        }
        if worker.now().saturating_duration_since(born) >= LONG_LIFE {
            pause = FIRST_PAUSE;
        }
        if !worker.rest(pause) {
            return;
        }
        tracing::warn!(worker = index, ?pause, "a worker begins again");
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Before a worker begins again that had lived long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The most that it grows to, doubled with every life that was short.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// What a long life is.
const LONG_LIFE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;
    use crate::ambient;
    use crate::net::listen::{self, BoundSocket};

    /// Lives as long as it is told, and ends each life, the last excepted, in a panic or an error.
    struct Cat {
        lives: Vec<Duration>,
        lived: usize,
        now: Instant,
        pauses: Vec<u128>,
        may_rest: bool,
    }

    impl Cat {
        fn new(seconds: &[u64]) -> Self {
            let lives = seconds.iter().map(|s| Duration::from_secs(*s)).collect();
            Self { lives, lived: 0, now: ambient::now(), pauses: Vec::new(), may_rest: true }
        }
    }

    impl Lives for Cat {
        fn live(&mut self) -> io::Result<()> {
            self.now += self.lives[self.lived];
            self.lived += 1;
            match self.lives.len() - self.lived {
                0 => Ok(()),
                left if left % 2 == 0 => Err(io::ErrorKind::Other.into()),
                left => panic!("{left} lives left"),
            }
        }

        fn rest(&mut self, pause: Duration) -> bool {
            self.pauses.push(pause.as_millis());
            self.now += pause;
            self.may_rest
        }

        fn now(&self) -> Instant {
            self.now
        }
    }

    #[test]
    fn a_worker_that_fails_twice_lives_a_third_time() {
        let mut cat = Cat::new(&[0, 1, 500]);
        supervise(0, &mut cat);
        assert_eq!((cat.lived, cat.pauses), (3, vec![100, 200]));
    }

    #[test]
    fn pauses_grow_until_it_lives_for_a_minute() {
        let mut cat = Cat::new(&[0, 0, 0, 59, 0, 0, 0, 0, 60, 0, 1]);
        supervise(0, &mut cat);
        assert_eq!(cat.pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 100, 200]);
    }

    /// A worker whose first two lives end in a panic, with its own duplicate of a socket each.
    struct Clumsy {
        socket: BoundSocket,
        left: u32,
    }

    impl Lives for Clumsy {
        fn live(&mut self) -> io::Result<()> {
            let BoundSocket::Tcp(socket, _) = self.socket.try_clone()? else { unreachable!() };
            self.left -= 1;
            assert!(self.left == 0, "dropped everything");
            socket.set_nonblocking(false)?;
            socket.accept()?.0.write_all(b"served")
        }

        fn rest(&mut self, _: Duration) -> bool {
            true
        }

        fn now(&self) -> Instant {
            ambient::now()
        }
    }

    #[test]
    fn who_waits_to_be_accepted_outlives_the_worker() {
        let mut bound = listen::bind(&"127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let mut client = TcpStream::connect(bound.address.inet().unwrap()).unwrap();
        let mut worker = Clumsy { socket: bound.sockets.pop().unwrap(), left: 3 };
        supervise(0, &mut worker);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!((worker.left, &*answer), (0, "served"));
    }

    #[test]
    fn there_is_no_life_after_the_end() {
        let mut cat = Cat { may_rest: false, ..Cat::new(&[0, 0, 0]) };
        supervise(0, &mut cat);
        assert_eq!((cat.lived, cat.pauses), (1, vec![100]));
    }
}
