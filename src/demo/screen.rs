//! Where the demo's lines go: a terminal that is redrawn in place, or plain lines for everything
//! else. On a terminal it draws on the alternate screen, clipped to its size at that moment, so that
//! resizing cannot garble it and nothing of it stays behind.

use std::io::{self, IsTerminal, StdoutLock, Write};
use std::time::Duration;

use super::table::Ink;

/// Standard output, as what it is.
#[derive(Debug)]
pub(super) enum Screen {
    /// Redrawn in place until dropped.
    Live(Live),
    /// Lines under one another.
    Plain,
}

impl Screen {
    /// Takes standard output for what it is.
    pub(super) fn open() -> io::Result<Self> {
        let capable = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        if io::stdout().is_terminal() && capable { Ok(Self::Live(Live::open()?)) } else { Ok(Self::Plain) }
    }

    /// How often it is worth writing to.
    pub(super) fn beat(&self) -> Duration {
        match self {
            Self::Live(_) => Duration::from_millis(500),
            Self::Plain => Duration::from_secs(1),
        }
    }
}

/// Whether standard output takes colours, and its reader wants them (<https://no-color.org>).
pub(super) fn ink() -> Ink {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if io::stdout().is_terminal() && !unwanted { Ink::Colour } else { Ink::Plain }
}

/// Writes lines under one another.
pub(super) fn print(lines: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    out.flush()
}

/// The terminal's alternate screen; dropping it brings back what was there before.
#[derive(Debug)]
pub(super) struct Live(());

impl Live {
    fn open() -> io::Result<Self> {
        let live = Self(());
        send(&mut io::stdout().lock(), ENTER)?;
        Ok(live)
    }

    /// Replaces what is shown.
    pub(super) fn draw(&self, lines: &[String]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let rows = rustix::termios::tcgetwinsize(&out).map_or(24, |size| usize::from(size.ws_row));
        let mut frame = String::from(HOME);
        for (i, line) in lines.iter().take(rows.max(1)).enumerate() {
            frame.push_str(if i == 0 { "" } else { "\r\n" });
            frame.push_str(line);
            frame.push_str(CLEAR_LINE);
        }
        frame.push_str(CLEAR_BELOW);
        send(&mut out, &frame)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // A terminal that is gone needs no tidying.
        let _ = send(&mut io::stdout().lock(), LEAVE);
    }
}

fn send(out: &mut StdoutLock<'_>, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}

// Private modes and erasures as xterm documents them: 1049 is the alternate screen, 25 the cursor,
// 7 the wrapping of lines that are too long.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
