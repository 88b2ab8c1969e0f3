//! `forebay demo`: origins that behave and misbehave, the proxy before them, a light load, and a
//! table of what happens. Everything it shows is measured while it is shown. It uses the server as
//! anybody would and knows nothing of its inside.

mod histogram;
mod load;
mod origin;
mod screen;
mod table;
mod tally;

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;
use tokio::time;

use self::origin::Origins;
use self::screen::Screen;
use self::table::{Doors, Ink, Row, Told};
use self::tally::Tally;
use crate::ambient;
use crate::config::{self, Quick};
use crate::model::Address;
use crate::server::{Options, Server, StartError};

/// Why there was no demo, or not to its end.
#[derive(Debug, Error)]
pub enum Error {
    /// The origins could not listen on 127.0.0.1, or their thread could not start.
    #[error("cannot start the origins")]
    Origins(#[source] io::Error),
    /// The demo's own configuration was refused.
    #[error("its configuration is refused: {0}")]
    Config(config::Report),
    /// The proxy did not start.
    #[error("cannot start the proxy")]
    Proxy(#[from] StartError),
    /// The proxy came up without the listeners that were asked for.
    #[error("the proxy has no address")]
    NoAddress,
    /// The clients could not be started.
    #[error("cannot start the clients")]
    Clients(#[source] io::Error),
    /// Standard output failed.
    #[error("cannot show it")]
    Output(#[source] io::Error),
}

/// Events that are shown at a time.
const EVENTS: usize = 8;

/// Runs the demo for `length`, or until SIGINT or SIGTERM, and prints a summary.
///
/// # Errors
/// When something could not be started, or standard output failed for another reason than that
/// nobody reads it any more.
pub fn run(length: Option<Duration>) -> Result<(), Error> {
    let origins = Origins::start().map_err(Error::Origins)?;
    let server = start_proxy(&origins)?;
    let show =
        Show { doors: doors(&server)?, length, ink: screen::ink(), origins: &origins, server: &server };
    let outcome = show.perform();
    server.drain();
    server.wait();
    origins.stop();
    match outcome {
        Err(Error::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

fn start_proxy(origins: &Origins) -> Result<Server, Error> {
    let from = [usual_or_free(8080).to_string()];
    let to = origins.addresses.map(|address| address.to_string());
    let admin = usual_or_free(9900).to_string();
    let asked = Quick { from: &from, to: &to, policy: Some(POLICY), admin: Some(&admin) };
    let mut plan = config::quick(asked).map_err(Error::Config)?;
    // Warnings about the flaky origin would be written across the table.
    "error".clone_into(&mut plan.log.level);
    Ok(Server::start(plan, Options::default())?)
}

/// Everybody gets a share, so that everybody is seen to be found out. The default would have left the
/// slow one out from the start, and hardly asked the flaky one.
const POLICY: &str = "round_robin";

/// The usual port on 127.0.0.1, or any when that is taken.
fn usual_or_free(port: u16) -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let free = TcpListener::bind(usual).is_ok();
    SocketAddr::new(usual.ip(), if free { port } else { 0 })
}

fn doors(server: &Server) -> Result<Doors, Error> {
    let listeners = server.listeners();
    let bound = listeners.iter().flat_map(|(_, addresses)| addresses);
    let proxy = bound.filter_map(Address::inet).next().ok_or(Error::NoAddress)?;
    let admin = server.admin().and_then(Address::inet).ok_or(Error::NoAddress)?;
    Ok(Doors { proxy, admin })
}

/// Everything that is shown, and for how long.
struct Show<'a> {
    doors: Doors,
    length: Option<Duration>,
    ink: Ink,
    origins: &'a Origins,
    server: &'a Server,
}

impl Show<'_> {
    /// Puts the load on and shows what it does until the end; then the summary.
    fn perform(&self) -> Result<(), Error> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::Clients)?;
        let stage = LocalSet::new();
        let tally = Rc::new(RefCell::new(Tally::default()));
        let began = ambient::now();
        for place in 0..load::CLIENTS {
            stage.spawn_local(load::client(place, self.doors.proxy, Rc::clone(&tally)));
        }
        runtime.block_on(stage.run_until(self.until_end(&tally, began)))?;
        // Closes the clients' connections, so that nothing is left to drain.
        drop(stage);
        let mut lines = vec![String::new()];
        lines.extend(self.summary(&tally.borrow(), ambient::now().duration_since(began)));
        screen::print(&lines).map_err(Error::Output)
    }

    async fn until_end(&self, tally: &RefCell<Tally>, began: Instant) -> Result<(), Error> {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Clients)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::Clients)?;
        tokio::select! {
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
            () = time::sleep(self.length.unwrap_or(Duration::MAX)) => Ok(()),
            outcome = self.draw(tally, began) => outcome.map_err(Error::Output),
        }
    }

    /// Shows how things stand again and again; ends only when nothing can be shown.
    async fn draw(&self, tally: &RefCell<Tally>, began: Instant) -> io::Result<()> {
        let screen = Screen::open()?;
        let mut beat = time::interval(screen.beat());
        let mut shown = 0;
        if let Screen::Plain = screen {
            screen::print(&table::heading(&self.doors, self.length, self.ink))?;
            beat.tick().await;
        }
        loop {
            beat.tick().await;
            let elapsed = ambient::now().duration_since(began);
            match &screen {
                Screen::Live(live) => live.draw(&self.whole(&tally.borrow(), elapsed))?,
                Screen::Plain => {
                    let told = self.told();
                    let news = told.get(shown..).unwrap_or_default();
                    let mut lines = table::events(news, news.len(), self.ink);
                    lines.push(table::line(&self.rows(&tally.borrow()), elapsed));
                    screen::print(&lines)?;
                    shown = told.len();
                }
            }
        }
    }

    /// What fills a terminal.
    fn whole(&self, tally: &Tally, elapsed: Duration) -> Vec<String> {
        let mut lines = table::heading(&self.doors, self.length, self.ink);
        lines.extend(self.summary(tally, elapsed));
        lines.push(String::new());
        lines.extend(table::events(&self.told(), EVENTS, self.ink));
        lines.push(String::new());
        lines.extend(table::LEGEND.map(str::to_owned));
        lines
    }

    /// What the proxy's journal tells so far.
    fn told(&self) -> Vec<Told> {
        table::told(&self.origins.addresses, &self.server.journal())
    }

    /// The table and what the clients saw.
    fn summary(&self, tally: &Tally, elapsed: Duration) -> Vec<String> {
        let mut lines = table::table(&self.rows(tally), self.ink);
        lines.push(String::new());
        lines.push(table::clients(tally, elapsed));
        lines
    }

    fn rows(&self, tally: &Tally) -> Vec<Row> {
        table::rows(&self.origins.addresses, &self.server.endpoints(), tally)
    }
}
