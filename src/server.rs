//! The order of life: bind everything, swap in the snapshot, serve, drain, exit.

pub mod handover;
mod notify;
pub(crate) mod supervisor;
pub mod upgrade;

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use self::handover::{Arrival, HandoverError};
use self::upgrade::Upgrades;
use crate::config::Plan;
use crate::config::plan::AdminPlan;
use crate::control::admin::{Admin, AdminState, Phase as Readying, Readiness};
use crate::control::health::journal::Entry;
use crate::control::otlp::Exporter;
use crate::control::reload::{Cause, History, Orders, Reload, Source};
use crate::control::running::{RunError, Running};
use crate::control::{Answering, Control};
use crate::model::settings::Drain;
use crate::model::{Address, Name};
use crate::net::inherit::Inherited;
use crate::observe::metrics::{EndpointTotals, Registry};
use crate::worker::{self, Assignment, Phase};

/// How to start.
#[derive(Debug, Default, Clone)]
pub struct Options {
    /// Worker threads, whatever the plan says.
    pub workers: Option<NonZeroUsize>,
    /// Where the plan comes from, so that it can be read again.
    pub source: Source,
}

/// Why a server did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The admin listener cannot be bound.
    #[error("cannot listen on {address}")]
    Admin {
        /// The address.
        address: Address,
        /// Why not.
        source: io::Error,
    },
    /// The plan cannot run here and now.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The place of another process cannot be taken; that one goes on.
    #[error("cannot take the place of the process that runs")]
    Handover(#[from] HandoverError),
    /// No other process could take this one's place later.
    #[error("cannot listen on the upgrade socket {path}")]
    Door {
        /// Its path.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// A thread or a runtime cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// What is known of an endpoint at one moment.
#[derive(Debug)]
pub struct EndpointReading {
    /// Its pool.
    pub pool: Name,
    /// Its address.
    pub endpoint: String,
    /// Its state: `up` for one that is used.
    pub state: &'static str,
    /// Its counts.
    pub totals: EndpointTotals,
}

/// The signals that the process answers to, and what it waits for them with.
#[derive(Debug)]
pub struct Signals {
    runtime: Runtime,
    ends: Ends,
    others: Others,
}

/// A running server. Dropping it ends it at once.
#[derive(Debug)]
pub struct Server {
    admin: Vec<Address>,
    running: Arc<Running>,
    readiness: Arc<Readiness>,
    answering: watch::Sender<Answering>,
    upgrades: Option<Arc<Upgrades>>,
    reload: Arc<Reload>,
    exporter: Arc<Exporter>,
    phase: watch::Sender<Phase>,
    workers: Vec<JoinHandle<()>>,
    control: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds every socket of `plan` and starts to serve.
    ///
    /// # Errors
    /// When an address cannot be bound, a name not be resolved, a log not be opened. Nothing is
    /// running then.
    pub fn start(plan: Plan, options: Options) -> Result<Self, StartError> {
        Self::start_with(plan, options, Arrival::default())
    }

    /// As [`Self::start`], with the sockets that this process was given. The one in whose place it comes
    /// ends once this one serves.
    ///
    /// # Errors
    /// As [`Self::start`], and when the other process does not let go; then that one goes on.
    pub fn start_with(plan: Plan, options: Options, arrival: Arrival) -> Result<Self, StartError> {
        let upgrade = plan.upgrade.clone();
        let workers = options.workers.or(plan.workers).map_or_else(granted_cores, NonZeroUsize::get);
        let registry = Registry::with(workers, &plan.metrics);
        let admin = plan.admin.as_ref().map(|admin| bind_admin(admin, &arrival.inherited)).transpose()?;
        let history = History::open(plan.state_dir.as_deref());
        registry.config().set_generation(history.number_for(&plan.origin.fingerprint.to_string()));
        let running = Arc::new(Running::start_with(plan, registry, workers, &arrival.inherited)?);
        arrival.repeat_orders(running.health());
        let (phase, _) = watch::channel(Phase::Serving);
        let readiness = Arc::<Readiness>::default();
        let (reload, orders) =
            Reload::new(Arc::clone(&running), Arc::clone(&readiness), options.source, history);
        let mut server = Self {
            admin: Vec::new(),
            exporter: Arc::new(Exporter::new(Arc::clone(&running))),
            running,
            readiness,
            reload,
            answering: watch::channel(Answering::NotYet).0,
            upgrades: None,
            phase,
            workers: Vec::with_capacity(workers),
            control: None,
        };
        let shared = admin.as_ref().map(Admin::share).transpose().map_err(StartError::Thread)?;
        server.start_threads(workers, admin, orders).map_err(StartError::Thread)?;
        server.settle_in(arrival, upgrade, shared.unwrap_or_default())?;
        Ok(server)
    }

    /// The listeners by name, with the addresses that were bound.
    #[must_use]
    pub fn listeners(&self) -> Vec<(Name, Vec<Address>)> {
        let (snapshot, sockets) = (self.running.published().load(), self.running.sockets());
        let sockets = sockets.borrow();
        let named = snapshot.listeners.iter().enumerate().filter_map(|(id, listener)| {
            let own = sockets.opened.iter().filter(|opened| opened.listener == id);
            Some((listener.as_ref()?.name.clone(), own.map(|opened| opened.address.clone()).collect()))
        });
        named.collect()
    }

    /// What replaces the configuration.
    #[must_use]
    pub fn reload(&self) -> &Arc<Reload> {
        &self.reload
    }

    /// What runs.
    #[must_use]
    pub fn running(&self) -> &Arc<Running> {
        &self.running
    }

    /// The first address of the admin listener, if there is one.
    #[must_use]
    pub fn admin(&self) -> Option<&Address> {
        self.admin.first()
    }

    /// Everything that is counted.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        self.running.registry()
    }

    /// The endpoints of every pool, in the order of the configuration.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointReading> {
        let snapshot = self.running.published().load();
        let mut readings = Vec::new();
        for pool in &snapshot.pools {
            for endpoint in &pool.endpoints {
                readings.push(EndpointReading {
                    pool: pool.settings.name.clone(),
                    endpoint: endpoint.name.clone(),
                    state: endpoint.shown.get().name(),
                    totals: endpoint.metrics.totals(),
                });
            }
        }
        readings
    }

    /// What happened to endpoints and pools, the oldest first, as far as it is kept.
    #[must_use]
    pub fn journal(&self) -> Vec<Arc<Entry>> {
        self.running.health().record().entries()
    }

    /// Serves until SIGTERM or SIGINT, then drains; a second one ends it at once. SIGUSR1 reopens
    /// access logs, SIGHUP reads the configuration again, SIGUSR2 starts the program anew to take this
    /// one's place.
    pub fn run_until_signal(self, signals: Signals) {
        let Signals { runtime, ends, others } = signals;
        runtime.block_on(self.until_signal(ends, others));
    }

    /// Begins to drain at once, without the delay: nothing is accepted any more, and connections
    /// end after the request under way.
    pub fn drain(&self) {
        self.readiness.enter(Readying::Draining);
        self.move_on(Phase::Draining);
    }

    /// Drops whatever is left.
    pub fn abort(&self) {
        self.move_on(Phase::Aborted);
    }

    /// Blocks until every worker has ended, which takes a drain or an abort; then closes the logs.
    pub fn wait(mut self) {
        self.join();
    }

    fn start_threads(&mut self, workers: usize, admin: Option<Admin>, orders: Orders) -> io::Result<()> {
        self.start_control(admin, orders)?;
        self.await_health();
        for index in 0..workers {
            self.workers.push(worker::start(Assignment {
                registry: Arc::clone(self.running.registry()),
                index,
                published: Arc::clone(self.running.published()),
                sockets: self.running.sockets(),
                questions: self.running.connections().join(),
                phase: self.phase.subscribe(),
            })?);
        }
        self.readiness.enter(Readying::Ready);
        for (name, addresses) in self.listeners() {
            for address in addresses {
                tracing::info!(listener = %name, %address, workers = self.workers.len(), "listening");
            }
        }
        for address in &self.admin {
            tracing::info!(%address, "serving the dashboard, metrics and the admin API");
        }
        Ok(())
    }

    /// Starts the control thread. It outlives the workers, so that a drain can be watched.
    fn start_control(&mut self, admin: Option<Admin>, orders: Orders) -> io::Result<()> {
        self.admin = admin.as_ref().map(Admin::addresses).transpose()?.unwrap_or_default();
        let state = AdminState::new(Arc::clone(&self.running), Arc::clone(&self.readiness));
        let state = Arc::new(state.with_reload(Arc::clone(&self.reload)));
        let answering = self.answering.subscribe();
        let (health, running) = (Arc::clone(self.running.health()), Arc::clone(&self.running));
        let reload = Arc::clone(&self.reload);
        let (exporter, answers) = (Arc::clone(&self.exporter), answering.clone());
        let control = Control { admin, answering: answers, state, health, running, reload, orders, exporter };
        let mut phase = self.phase.subscribe();
        // Here, where it is heard of when there is none to be had.
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let running = thread::Builder::new().name("control".to_owned()).spawn(move || {
            runtime.block_on(async {
                let aborted = async move {
                    let _ = phase.wait_for(|phase| *phase >= Phase::Aborted).await;
                };
                tokio::select! {
                    () = control.run(aborted) => {}
                    never = notify::keep_alive(answering) => match never {},
                }
            });
            // What reads from a file that hangs never ends, and the process is to.
            runtime.shutdown_timeout(CONTROL_WAIT);
        })?;
        self.control = Some(running);
        Ok(())
    }

    /// Waits until the first checks have said who is well, or may be used regardless. Clients that
    /// connect meanwhile wait in the sockets' backlogs.
    fn await_health(&self) {
        let mut left = HEALTH_WAIT.as_millis() / HEALTH_POLL.as_millis();
        while left > 0 && !self.running.health().is_open() {
            thread::sleep(HEALTH_POLL);
            left -= 1;
        }
    }

    async fn until_signal(mut self, mut ends: Ends, mut others: Others) {
        loop {
            tokio::select! {
                () = ends.next() => break,
                _ = others.reopen.recv() => self.reopen_logs(),
                _ = others.hangup.recv() => self.reload.request(Cause::Signal),
                _ = others.upgrade.recv() => self.order_upgrade(),
                () = upgrade::attend(self.upgrades.as_ref()) => return self.leave(ends).await,
            }
        }
        notify::stopping();
        self.upgrades.iter().for_each(|upgrades| upgrades.end());
        let drain = self.drain_settings();
        tracing::info!(delay = ?drain.delay, timeout = ?drain.timeout, "draining");
        self.readiness.enter(Readying::Draining);
        tokio::select! {
            () = tokio::time::sleep(drain.delay) => {
                self.move_on(Phase::Draining);
                self.drained(drain.timeout, &mut ends).await;
            }
            () = ends.next() => tracing::warn!("second signal, ending at once"),
        }
        self.abort();
        self.join();
        tracing::info!("ended");
    }

    /// Waits for the workers to end, for the drain timeout or for a second signal.
    async fn drained(&self, within: Duration, ends: &mut Ends) {
        tokio::select! {
            () = self.ended() => {}
            () = tokio::time::sleep(within) => tracing::warn!("drain timed out, dropping what is left"),
            () = ends.next() => tracing::warn!("second signal, dropping what is left"),
        }
    }

    async fn ended(&self) {
        while !self.workers.iter().all(JoinHandle::is_finished) {
            tokio::time::sleep(JOIN_INTERVAL).await;
        }
    }

    /// As the configuration in force has them.
    fn drain_settings(&self) -> Drain {
        self.running.plan().0.drain.clone()
    }

    fn reopen_logs(&self) {
        for listener in self.running.published().load().listeners() {
            if let Some(log) = &listener.access_log {
                log.reopen();
            }
        }
    }

    fn move_on(&self, to: Phase) {
        if to >= Phase::Draining {
            self.running.close();
        }
        if to >= Phase::Aborted {
            self.answering.send_replace(Answering::NoMore);
        }
        self.phase.send_if_modified(|phase| {
            let moves = *phase < to;
            *phase = to.max(*phase);
            moves
        });
    }

    fn join(&mut self) {
        if self.workers.is_empty() {
            return;
        }
        for worker in self.workers.drain(..) {
            // Its supervisor has told what there was to tell.
            let _ = worker.join();
        }
        self.move_on(Phase::Aborted);
        if let Some(control) = self.control.take() {
            // It has told what there was to tell.
            let _ = control.join();
        }
        self.exporter.close(SPANS_WAIT);
        for listener in self.running.published().load().listeners() {
            if let Some(log) = &listener.access_log {
                log.close(LOG_WAIT);
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.abort();
        self.join();
    }
}

impl Signals {
    /// Catches the signals from now on. To be called before the server starts, so that none that
    /// comes early has its usual effect.
    ///
    /// # Errors
    /// When the system has no descriptors to give.
    pub fn catch() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let caught = runtime.enter();
        let ends = Ends { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? };
        let reopen = signal(SignalKind::user_defined1())?;
        let (upgrade, hangup) = (signal(SignalKind::user_defined2())?, signal(SignalKind::hangup())?);
        drop(caught);
        Ok(Self { runtime, ends, others: Others { reopen, hangup, upgrade } })
    }
}

/// Those that do not.
#[derive(Debug)]
struct Others {
    reopen: Signal,
    hangup: Signal,
    upgrade: Signal,
}

/// The signals that end the process.
#[derive(Debug)]
struct Ends {
    term: Signal,
    int: Signal,
}

impl Ends {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

fn bind_admin(plan: &AdminPlan, inherited: &Inherited) -> Result<Admin, StartError> {
    let mut admin = Admin::default();
    for address in &plan.bind {
        let failed = |source| StartError::Admin { address: address.clone(), source };
        admin.open(address, plan.mode, inherited).map_err(failed)?;
    }
    Ok(admin)
}

/// The cores that this process may use, as far as affinity and cgroup say.
pub(crate) fn granted_cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// How often a drain looks whether the workers have ended.
const JOIN_INTERVAL: Duration = Duration::from_millis(5);
/// The longest that the start waits for checks. Their own limit is shorter.
const HEALTH_WAIT: Duration = Duration::from_secs(5);
/// How often it looks.
const HEALTH_POLL: Duration = Duration::from_millis(2);
/// How long what the control thread has begun on other threads may take at the end: writing a change of
/// endpoints to the disk, say.
const CONTROL_WAIT: Duration = Duration::from_secs(2);
/// How long a collector may take at the end to take the last spans.
const SPANS_WAIT: Duration = Duration::from_secs(2);
/// How long closing an access log may take.
const LOG_WAIT: Duration = Duration::from_secs(2);
