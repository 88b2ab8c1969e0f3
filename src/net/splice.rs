//! Bytes from one TCP socket to another without a copy in between: the kernel hands its pages from
//! the one to a pipe and from the pipe to the other (`splice(2)`). Worth its two system calls for
//! large bodies only.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A pipe with bytes under way. Goes back to the worker's pool when it is dropped empty.
#[derive(Debug)]
pub struct Pipe {
    ends: Option<(OwnedFd, OwnedFd)>,
    filled: usize,
}

impl Pipe {
    /// An empty pipe, used before if possible.
    ///
    /// # Errors
    /// When there are no file descriptors left.
    pub fn take() -> io::Result<Self> {
        let kept = KEPT.with_borrow_mut(Vec::pop);
        let ends = match kept {
            Some(ends) => ends,
            None => open()?,
        };
        Ok(Self { ends: Some(ends), filled: 0 })
    }

    /// Bytes in the pipe.
    #[must_use]
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Takes up to `most` bytes from `socket` into the empty pipe; 0 at the end of the stream.
    pub fn poll_fill(
        &mut self,
        socket: &TcpStream,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        debug_assert_eq!(self.filled, 0, "with an empty pipe, only the socket can be what is not ready");
        let Some((_, inlet)) = &self.ends else { return Poll::Ready(Ok(0)) };
        loop {
            ready!(socket.poll_read_ready(cx))?;
            let moved = socket.try_io(Interest::READABLE, || {
                Ok(splice(socket, None, inlet, None, most.min(PIPE_SIZE), FLAGS)?)
            });
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(n) => {
                    self.filled = n;
                    return Poll::Ready(Ok(n));
                }
            }
        }
    }

    /// Gives what is in the pipe to `socket`, or a part of it; says how much.
    pub fn poll_drain(&mut self, socket: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some((outlet, _)) = &self.ends else { return Poll::Ready(Ok(0)) };
        loop {
            ready!(socket.poll_write_ready(cx))?;
            let moved = socket
                .try_io(Interest::WRITABLE, || Ok(splice(outlet, None, socket, None, self.filled, FLAGS)?));
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(n) => {
                    self.filled -= n;
                    return Poll::Ready(Ok(n));
                }
            }
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if let (0, Some(ends)) = (self.filled, self.ends.take()) {
            KEPT.with_borrow_mut(|kept| {
                if kept.len() < MAX_KEPT {
                    kept.push(ends);
                }
            });
        }
    }
}

fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    let (outlet, inlet) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // A user may have so much pipe memory only; past it, pipes stay small and work all the same.
    let _ = fcntl_setpipe_size(&inlet, PIPE_SIZE);
    Ok((outlet, inlet))
}

thread_local! {
    static KEPT: RefCell<Vec<(OwnedFd, OwnedFd)>> = const { RefCell::new(Vec::new()) };
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);
/// Bytes that a pipe may hold.
const PIPE_SIZE: usize = 256 * 1024;
/// Empty pipes that a worker keeps.
const MAX_KEPT: usize = 64;
