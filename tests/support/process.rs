//! The program as a process of its own, for what only a process does: answer to signals, exit,
//! write to standard output.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use tempfile::TempDir;

use super::{Link, Message, eventually};

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
    folder: Option<TempDir>,
}

impl Process {
    /// Starts `forebay run` with what `toml` says, in a folder of its own, and waits until it
    /// listens. Without `[admin]` in it, the admin listener takes any free port.
    #[track_caller]
    pub(crate) fn run(toml: &str) -> Self {
        Self::run_with(toml, &[])
    }

    /// As [`Self::run`], and does not wait.
    #[track_caller]
    pub(crate) fn begin(toml: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let toml = format!("{toml}\n[admin]\nbind = \"127.0.0.1:0\"\n");
        std::fs::write(folder.path().join("f.toml"), toml).expect("and written to");
        let mut process = Self::spawn(folder.path(), &["run", "-c", "f.toml"]);
        process.folder = Some(folder);
        process
    }

    /// Lets it have so many file descriptors from now on.
    #[track_caller]
    pub(crate) fn allow_descriptors(&self, limit: u64) {
        let allowed = Rlimit { current: Some(limit), ..getrlimit(Resource::Nofile) };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, allowed).expect("it is our child");
    }

    /// As [`Self::run`], with more arguments.
    #[track_caller]
    pub(crate) fn run_with(toml: &str, more: &[&str]) -> Self {
        let folder = folder_with(toml);
        let mut process = Self::spawn(folder.path(), &[&["run", "-c", "f.toml"], more].concat());
        process.folder = Some(folder);
        process.wait_until_up();
        process
    }

    /// As [`Self::run`], without huge pages: a step of its memory in use would be 2 MiB with them.
    #[track_caller]
    pub(crate) fn run_on_small_pages(toml: &str) -> Self {
        let folder = folder_with(toml);
        let variables = [("MIMALLOC_ALLOW_THP", "0")];
        let mut process = Self::spawn_with(folder.path(), &["run", "-c", "f.toml"], &variables);
        process.folder = Some(folder);
        process.wait_until_up();
        process
    }

    /// As [`Self::run`], with so many descriptors at most.
    #[track_caller]
    pub(crate) fn run_limited(toml: &str, descriptors: u32) -> Self {
        let folder = folder_with(toml);
        let mut command = Command::new("sh");
        let line = format!("ulimit -n {descriptors}; exec \"$0\" run -c f.toml");
        command.args(["-c", &line, env!("CARGO_BIN_EXE_forebay")]);
        let mut process = Self::start(command.current_dir(folder.path()));
        process.folder = Some(folder);
        process.wait_until_up();
        process
    }

    /// As [`Self::run`], in the network namespace of this name.
    #[track_caller]
    pub(crate) fn run_in_namespace(name: &str, toml: &str) -> Self {
        let folder = folder_with(toml);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", name, env!("CARGO_BIN_EXE_forebay"), "run", "-c", "f.toml"]);
        let mut process = Self::start(command.current_dir(folder.path()));
        process.folder = Some(folder);
        process.wait_until_up();
        process
    }

    /// Starts the program in `folder`.
    #[track_caller]
    pub(crate) fn spawn(folder: &Path, args: &[&str]) -> Self {
        Self::spawn_with(folder, args, &[])
    }

    /// As [`Self::spawn`], with variables in its environment.
    #[track_caller]
    pub(crate) fn spawn_with(folder: &Path, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.current_dir(folder).args(args).envs(variables.iter().copied());
        Self::start(&mut command)
    }

    #[track_caller]
    fn start(command: &mut Command) -> Self {
        if !command.get_envs().any(|(name, _)| name == "FOREBAY_LOG") {
            command.env_remove("FOREBAY_LOG");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let out = collect(child.stdout.take().expect("which is piped"));
        let err = collect(child.stderr.take().expect("which is piped"));
        Self { child, out, err, folder: None }
    }

    /// Waits until the program listens.
    #[track_caller]
    pub(crate) fn wait_until_up(&mut self) {
        eventually("the program's start", || {
            let up = self.err().contains("serving the dashboard");
            let ended = self.child.try_wait().expect("it is our child");
            assert!(up || ended.is_none(), "it ended: {}", self.err());
            up
        });
    }

    /// Where its files are.
    #[track_caller]
    pub(crate) fn folder(&self) -> &Path {
        self.folder.as_ref().expect("it was given one").path()
    }

    /// The first address of the listener called `name`, as logged.
    #[track_caller]
    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        self.logged_address(&format!("listener={name} "))
    }

    /// The address of the admin listener, as logged.
    #[track_caller]
    pub(crate) fn admin(&self) -> SocketAddr {
        self.logged_address("serving the dashboard")
    }

    /// A new client connection to the listener `web`.
    #[track_caller]
    pub(crate) fn connect(&self) -> Link {
        Link::to(self.address("web"))
    }

    /// The admin listener's answer to `GET` of `target`.
    #[track_caller]
    pub(crate) fn ask_admin(&self, target: &str) -> Message {
        let mut client = Link::to(self.admin());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        client.response()
    }

    /// The processor time that it has taken so far, in seconds.
    #[track_caller]
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.expect("it is running");
        let (_, fields) = stat.rsplit_once(')').expect("its name is in parentheses");
        // The 14th and 15th field, of which the first two are gone.
        let ticks: f64 = fields.split_whitespace().skip(11).take(2).flat_map(str::parse::<f64>).sum();
        ticks / rustix::param::clock_ticks_per_second() as f64
    }

    /// Memory that it has in use, in kB.
    #[track_caller]
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("Linux tells");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("this too");
        line.trim().trim_end_matches(" kB").parse().expect("as a number")
    }

    /// Descriptors that it has open.
    #[track_caller]
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it is running").count()
    }

    /// Sends a signal.
    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is our child");
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the program's end", || {
            status = self.child.try_wait().expect("it is our child");
            status.is_some()
        });
        // Those who collect what it wrote let go when they have read the last of it.
        let read = |text: &Arc<_>| Arc::strong_count(text) == 1;
        eventually("the end of what it wrote", || read(&self.out) && read(&self.err));
        status.expect("it has ended")
    }

    /// Whether it has ended.
    #[track_caller]
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }

    /// What it has written to standard output so far.
    pub(crate) fn out(&self) -> String {
        self.out.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it has written to standard error so far.
    pub(crate) fn err(&self) -> String {
        self.err.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[track_caller]
    fn logged_address(&self, mark: &str) -> SocketAddr {
        let log = self.err();
        let line = log.lines().find(|line| line.contains(mark)).expect("its start is logged");
        let (_, rest) = line.split_once("address=").expect("with the address");
        let address = rest.split(' ').next().unwrap_or_default();
        address.strip_prefix("udp:").unwrap_or(address).parse().expect("of IP")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder with `toml` in `f.toml`.
#[track_caller]
fn folder_with(toml: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let admin = if toml.contains("[admin]") { "" } else { "\n[admin]\nbind = \"127.0.0.1:0\"\n" };
    std::fs::write(folder.path().join("f.toml"), format!("{toml}{admin}")).expect("and written to");
    folder
}

fn collect(from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let collected = Arc::clone(&text);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut text = collected.lock().unwrap_or_else(PoisonError::into_inner);
            text.push_str(&line);
            text.push('\n');
        }
    });
    text
}
