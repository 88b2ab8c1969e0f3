//! The program replaced while it runs: real processes that pass their sockets on, clients that ask all
//! the while, and what the service manager hears of it.

mod support;

use std::fs;
use std::future::poll_fn;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use forebay::net::pass::Link;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use support::{DEADLINE, Gate, Origin, Process, eventually, ok};

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: raw/1\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw/1\r\n\r\n";

fn config(endpoint: SocketAddr) -> String {
    format!(
        "[reload]\nwatch = false\n[upgrade]\nsocket = \"u.sock\"\n[[listener]]\nname = \"web\"\nbind = [\"127.0.0.1:0\", \"unix:w.sock\"]\n\
         [[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\"{endpoint}\"]\n"
    )
}

/// A process with those that take its place, which are nobody's children once it has ended.
struct Line {
    first: Process,
    web: SocketAddr,
    successors: Vec<Pid>,
}

impl Line {
    fn start(toml: &str, arguments: &[&str]) -> Self {
        let first = Process::run_with(toml, arguments);
        Self { web: first.address("web"), first, successors: Vec::new() }
    }

    fn folder(&self) -> &Path {
        self.first.folder()
    }

    /// `forebay upgrade`.
    fn upgrade(&self) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.args(["upgrade", "-c", "f.toml"]).current_dir(self.folder()).output().expect("it runs")
    }

    /// As [`Self::upgrade`], which has to succeed; the number of the process that serves now.
    fn upgraded(&mut self) -> Pid {
        let output = self.upgrade();
        assert!(output.status.success(), "{output:?}\n{}", self.first.err());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let number = text.split(' ').nth(1).and_then(|word| word.parse().ok()).and_then(Pid::from_raw);
        let pid = number.expect("it says which process serves");
        self.successors.push(pid);
        pid
    }

    /// The number of the process that took the last one's place, as logged.
    fn successor(&mut self, number: usize) -> Pid {
        let started = |log: &str| {
            let lines = log.lines().filter(|line| line.contains("started the program anew"));
            lines.filter_map(|line| line.split_once("process=")).map(|(_, pid)| pid.to_owned()).nth(number)
        };
        eventually("a process is started", || started(&self.first.err()).is_some());
        let text = started(&self.first.err()).expect("as was just seen");
        let pid = text.trim().parse().ok().and_then(Pid::from_raw).expect("a number");
        self.successors.push(pid);
        pid
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        for pid in &self.successors {
            // Most of them have ended.
            let _ = kill_process(*pid, Signal::KILL);
        }
    }
}

/// Answers at once, but for `/slow` with half of the body first and the rest once the gate is open; and
/// becomes a tunnel that echoes when asked to.
fn origin(gate: &Arc<Gate>) -> Origin {
    let gate = Arc::clone(gate);
    Origin::run(move |conn| {
        while let Some(request) = conn.request() {
            match request.target() {
                "/slow" => {
                    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234");
                    gate.pass();
                    conn.send("56789");
                }
                "/chat" => {
                    conn.send(SWITCHING);
                    let mut tcp = conn.link.tcp();
                    let mut bytes = [0; 64];
                    let _ = tcp.set_read_timeout(Some(DEADLINE * 12));
                    while let Ok(n @ 1..) = tcp.read(&mut bytes) {
                        let _ = tcp.write_all(bytes.get(..n).unwrap_or_default());
                    }
                    return;
                }
                _ => {
                    conn.send(ok("hello"));
                }
            }
        }
    })
}

/// Clients that ask until they are told to stop.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    answered: AtomicU64,
    /// Requests that were sent again, because the connection had ended before a byte of an answer.
    again: AtomicU64,
    /// Streams of which the other side said that it had not begun with them.
    refused: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::SeqCst)
    }

    fn count(&self, kind: &str, outcome: Result<(), String>) {
        self.answered.fetch_add(1, Ordering::SeqCst);
        if let Err(failure) = outcome {
            self.failures.lock().expect("nobody panics").push(format!("{kind}: {failure}"));
        }
    }

    /// A connection for each request.
    fn of_new_connections(&self, web: SocketAddr) {
        while self.goes_on() {
            self.count("new", one(web).map(drop));
            thread::sleep(PAUSE);
        }
    }

    /// As few connections as the other side allows.
    fn of_kept_connections(&self, web: SocketAddr) {
        let mut kept: Option<TcpStream> = None;
        while self.goes_on() {
            let before = kept.take().filter(is_open);
            let was_kept = before.is_some();
            let mut tcp = before.unwrap_or_else(|| TcpStream::connect(web).expect("somebody listens"));
            match exchange(&mut tcp) {
                Ok(closes) => {
                    self.count("kept", Ok(()));
                    kept = (!closes).then_some(tcp);
                }
                Err(error) if was_kept && error == NOTHING => {
                    self.again.fetch_add(1, Ordering::SeqCst);
                }
                Err(error) => self.count("kept", Err(error)),
            }
            thread::sleep(PAUSE);
        }
    }

    async fn of_http2(&self, web: SocketAddr) {
        while self.goes_on() {
            let tcp = tokio::net::TcpStream::connect(web).await.expect("somebody listens");
            let (mut send, connection) = h2::client::handshake(tcp).await.expect("it speaks HTTP/2");
            let driven = tokio::task::spawn_local(connection);
            while self.goes_on() {
                // A connection that takes no more requests says so.
                if poll_fn(|cx| send.poll_ready(cx)).await.is_err() {
                    break;
                }
                let request = http::Request::get(format!("http://{web}/")).body(()).expect("it is whole");
                let Ok((response, _)) = send.send_request(request, true) else { break };
                match response.await {
                    Ok(response) if response.status() == 200 => self.count("http2", Ok(())),
                    Ok(response) => self.count("http2", Err(response.status().to_string())),
                    Err(error) if is_unprocessed(&error) => {
                        self.refused.fetch_add(1, Ordering::SeqCst);
                        break;
                    }
                    Err(error) => self.count("http2", Err(format!("{error:?}"))),
                }
                tokio::time::sleep(PAUSE).await;
            }
            drop(send);
            let _ = driven.await;
        }
    }

    fn start(self: &Arc<Self>, web: SocketAddr) -> Vec<JoinHandle<()>> {
        let mut clients = Vec::new();
        for _ in 0..2 {
            let load = Arc::clone(self);
            clients.push(thread::spawn(move || load.of_new_connections(web)));
            let load = Arc::clone(self);
            clients.push(thread::spawn(move || load.of_kept_connections(web)));
        }
        let load = Arc::clone(self);
        clients.push(thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime.expect("a runtime starts"), load.of_http2(web));
        }));
        clients
    }

    fn stop(&self, clients: Vec<JoinHandle<()>>) -> (u64, u64) {
        self.over.store(true, Ordering::SeqCst);
        for client in clients {
            client.join().expect("clients do not panic");
        }
        let failures = self.failures.lock().expect("nobody panics");
        assert!(failures.is_empty(), "{} failed: {failures:?}", failures.len());
        (self.answered.load(Ordering::SeqCst), self.again.load(Ordering::SeqCst))
    }
}

/// Whether the other side says that it did nothing about the request (RFC 9113 §6.8, §8.7).
fn is_unprocessed(error: &h2::Error) -> bool {
    error.is_remote()
        && error.reason().is_some_and(|r| matches!(r, h2::Reason::NO_ERROR | h2::Reason::REFUSED_STREAM))
}

/// Whether nobody has closed it since it was used.
fn is_open(tcp: &TcpStream) -> bool {
    tcp.set_nonblocking(true).expect("a socket takes an option");
    let quiet = tcp.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    tcp.set_nonblocking(false).expect("a socket takes an option");
    quiet
}

/// One request on a connection of its own; the whole answer.
fn one(web: SocketAddr) -> Result<bool, String> {
    let mut tcp = TcpStream::connect_timeout(&web, DEADLINE).map_err(|error| format!("connect: {error}"))?;
    exchange(&mut tcp)
}

/// One request and its answer; whether the connection ends then.
fn exchange(tcp: &mut TcpStream) -> Result<bool, String> {
    tcp.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
    let sent = tcp.write_all(GET.as_bytes());
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while !bytes.ends_with(b"hello") {
        match tcp.read(&mut buffer) {
            Ok(0) | Err(_) if bytes.is_empty() => return Err(NOTHING.to_owned()),
            Ok(n @ 1..) => bytes.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            other => return Err(format!("{sent:?}, {other:?} after {:?}", String::from_utf8_lossy(&bytes))),
        }
    }
    let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
    if !text.starts_with("http/1.1 200") {
        return Err(text);
    }
    Ok(text.contains("\r\nconnection: close"))
}

fn asks_over_unix(path: &Path) -> String {
    let mut unix = UnixStream::connect(path).expect("somebody listens");
    unix.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
    unix.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("it is read");
    let mut answer = String::new();
    unix.read_to_string(&mut answer).expect("it is answered");
    answer
}

#[test]
fn ten_upgrades_in_a_row_lose_nothing() {
    let gate = Arc::new(Gate::default());
    let origin = origin(&gate);
    let mut line = Line::start(&config(origin.address()), &["--workers", "2"]);
    let mut tunnel = line.first.connect();
    tunnel.send(UPGRADE);
    assert_eq!(tunnel.head().expect("an answer").status(), 101);
    let mut download = line.first.connect();
    download.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(download.take_until(b"01234").is_some());
    let load = Arc::new(Load::default());
    let clients = load.start(line.web);
    let mut pids = Vec::new();
    for _ in 0..10 {
        pids.push(line.upgraded());
        let before = load.answered.load(Ordering::SeqCst);
        eventually("requests go on", || load.answered.load(Ordering::SeqCst) > before + 50);
    }
    pids.dedup();
    assert_eq!(pids.len(), 10);
    let (answered, again) = load.stop(clients);
    // A client may open a stream just as it is told to go away: it hears that nothing was done about it.
    let refused = load.refused.load(Ordering::SeqCst);
    assert!(refused <= 10, "{refused} streams refused of {answered}");
    assert_eq!(again, 0, "of {answered}");
    assert!(asks_over_unix(&line.folder().join("w.sock")).ends_with("hello"));
    assert_eq!(line.first.ask_admin("/readyz").status(), 200);
    // Those of the first process go on until they are done, and it with them.
    assert!(!line.first.has_ended());
    tunnel.send("still there?");
    assert_eq!(tunnel.take(12), b"still there?");
    gate.open();
    assert_eq!(download.take(5), b"56789");
    tunnel.finish();
    tunnel.expect_end();
    eventually("the first process ends", || line.first.has_ended());
    // Nobody else has, but the last one, anything to stay for.
    let (last, others) = pids.split_last().expect("there are ten");
    eventually("the others end", || others.iter().all(|pid| test_kill_process(*pid).is_err()));
    assert!(test_kill_process(*last).is_ok() && one(line.web).is_ok());
    assert!(!line.first.err().contains("ERROR"), "{}", line.first.err());
}

/// An endpoint that sends back whatever comes, but `late` once the gate is open.
fn udp_echo(gate: &Arc<Gate>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("there are ports");
    let at = socket.local_addr().expect("it is bound");
    let gate = Arc::clone(gate);
    thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((n, from)) = socket.recv_from(&mut bytes) {
            let got = bytes.get(..n).unwrap_or_default().to_vec();
            if got == b"late" {
                let (socket, gate) = (socket.try_clone().expect("a socket can be cloned"), Arc::clone(&gate));
                thread::spawn(move || {
                    gate.pass();
                    let _ = socket.send_to(&got, from);
                });
            } else {
                let _ = socket.send_to(&got, from);
            }
        }
    });
    at
}

/// A client of a flow of its own.
fn udp_client(to: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").expect("there are ports");
    client.connect(to).expect("it is an address");
    client.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
    client
}

fn udp_answer(client: &UdpSocket) -> Result<String, String> {
    let mut bytes = [0; 64];
    let n = client.recv(&mut bytes).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(bytes.get(..n).unwrap_or_default()).into_owned())
}

fn udp_exchange(client: &UdpSocket, word: &str) -> Result<String, String> {
    client.send(word.as_bytes()).map_err(|error| error.to_string())?;
    udp_answer(client)
}

#[test]
fn datagrams_are_not_lost_and_flows_still_get_their_replies() {
    let gate = Arc::new(Gate::default());
    let toml = format!(
        "workers = 2\n[reload]\nwatch = false\n[upgrade]\nsocket = \"u.sock\"\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         protocol = \"udp\"\npool = \"app\"\npackets = {{ replies = 1 }}\n[pool.app]\nendpoints = [\"{}\"]\n",
        udp_echo(&gate)
    );
    let mut line = Line::start(&toml, &[]);
    let (web, file) = (line.web, line.folder().join("f.toml"));
    let toml = fs::read_to_string(&file).expect("it was written");
    let before: Vec<_> = (0..8).map(|_| udp_client(web)).collect();
    for client in &before {
        assert_eq!(udp_exchange(client, "now").as_deref(), Ok("now"));
        client.send(b"late").expect("it is sent");
    }
    let load = Arc::new(Load::default());
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let load = Arc::clone(&load);
            thread::spawn(move || {
                let kept = udp_client(web);
                while load.goes_on() {
                    load.count("new", udp_exchange(&udp_client(web), "new").map(drop));
                    load.count("kept", udp_exchange(&kept, "kept").map(drop));
                    thread::sleep(PAUSE);
                }
            })
        })
        .collect();
    for workers in [2, 1, 4, 1] {
        let toml = toml.replace("workers = 2", &format!("workers = {workers}"));
        fs::write(&file, toml).expect("it can be changed");
        line.upgraded();
        let seen = load.answered.load(Ordering::SeqCst);
        eventually("datagrams are answered", || load.answered.load(Ordering::SeqCst) > seen + 50);
    }
    load.stop(clients);
    assert!(!line.first.has_ended(), "it waits for what was asked by it");
    gate.open();
    for client in &before {
        assert_eq!(udp_answer(client).as_deref(), Ok("late"));
        assert_eq!(udp_exchange(client, "again").as_deref(), Ok("again"));
    }
    eventually("the first process ends", || line.first.has_ended());
    assert_eq!(udp_exchange(&udp_client(web), "last").as_deref(), Ok("last"));
}

#[test]
fn numbers_of_workers_may_differ() {
    let origin = origin(&Arc::default());
    // A change of the file is seen by the old process as well, which goes on to take part.
    let toml = config(origin.address()).replace("watch = false", "debounce = \"10ms\"");
    let mut line = Line::start(&toml, &[]);
    let (file, toml) = (line.folder().join("f.toml"), fs::read_to_string(line.folder().join("f.toml")));
    let toml = toml.expect("it was written");
    let load = Arc::new(Load::default());
    let clients = load.start(line.web);
    for workers in [1, 4, 3, 1] {
        fs::write(&file, format!("workers = {workers}\n{toml}")).expect("it can be changed");
        line.upgraded();
        // No connection waits at a socket that nobody accepts from.
        for _ in 0..64 {
            assert_eq!(one(line.web).map(drop), Ok(()));
        }
    }
    let (answered, again) = load.stop(clients);
    assert_eq!(again, 0, "of {answered}");
}

#[test]
fn who_fails_to_start_leaves_the_old_one_serving() {
    let origin = origin(&Arc::default());
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let taken = format!("[[listener]]\nname = \"more\"\nbind = \"{}\"\n", taken.local_addr().expect("bound"));
    let mut line = Line::start(&config(origin.address()), &["--workers", "2"]);
    let (file, good) = (line.folder().join("f.toml"), fs::read_to_string(line.folder().join("f.toml")));
    let good = good.expect("it was written");
    let load = Arc::new(Load::default());
    let clients = load.start(line.web);
    for (bad, says) in
        [("wrokers = 1\n".to_owned() + &good, "workers"), (good.clone() + &taken, "exit status: 1")]
    {
        fs::write(&file, bad).expect("it can be changed");
        let output = line.upgrade();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(says), "{text}");
        assert_eq!(one(line.web).map(drop), Ok(()));
    }
    assert!(line.first.err().contains("no process takes this one's place"), "{}", line.first.err());
    assert!(line.first.err().contains("cannot listen on"), "{}", line.first.err());
    line.first.signal(Signal::USR2);
    eventually("the signal's failure is told", || {
        line.first.err().matches("the upgrade failed").count() == 2
    });
    // Nothing is left of the failures.
    fs::write(&file, good).expect("it can be changed");
    line.upgraded();
    let (answered, again) = load.stop(clients);
    assert_eq!(again, 0, "of {answered}");
    eventually("the old one ends", || line.first.has_ended());
}

#[test]
fn sigusr2_starts_the_program_anew_and_sigterm_ends_all() {
    let origin = origin(&Arc::default());
    let mut line = Line::start(&config(origin.address()), &[]);
    line.first.signal(Signal::USR2);
    let pid = line.successor(0);
    eventually("the old one ends", || line.first.has_ended());
    assert_eq!(one(line.web).map(drop), Ok(()));
    kill_process(pid, Signal::TERM).expect("it runs");
    eventually("the new one ends", || test_kill_process(pid).is_err());
    let refused = TcpStream::connect(line.web).expect_err("nobody is left");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    for file in ["u.sock", "w.sock"] {
        assert!(!line.folder().join(file).exists(), "{file} is left");
    }
}

#[test]
fn orders_for_endpoints_are_carried_over() {
    let origin = origin(&Arc::default());
    let mut line = Line::start(&config(origin.address()), &[]);
    let page = format!("/endpoints/app/{}", origin.address());
    let mut client = support::Link::to(line.first.admin());
    client.send(format!("POST {page}/drain?for=1h HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    assert_eq!(client.response().status(), 200);
    line.upgraded();
    let state = line.first.ask_admin(&page).text();
    assert!(state.contains("drain") && !state.contains("disable"), "{state}");
}

#[test]
fn a_listener_that_is_not_taken_over_is_closed() {
    let origin = origin(&Arc::default());
    let more = "[[listener]]\nname = \"more\"\nbind = \"127.0.0.1:0\"\n";
    let mut line = Line::start(&(config(origin.address()) + more), &[]);
    let (more_address, file) = (line.first.address("more"), line.folder().join("f.toml"));
    fs::write(&file, config(origin.address()) + "[admin]\nbind = \"127.0.0.1:0\"\n")
        .expect("it can be changed");
    line.upgraded();
    assert_eq!(one(line.web).map(drop), Ok(()));
    let refuses =
        || TcpStream::connect(more_address).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused);
    eventually("it is closed", refuses);
    assert!(line.first.err().contains("no listener binds its address"), "{}", line.first.err());
}

#[test]
fn an_admin_listener_that_is_not_taken_over_is_closed_before_the_drain_ends() {
    let gate = Arc::new(Gate::default());
    let origin = origin(&gate);
    let mut line = Line::start(&config(origin.address()), &[]);
    let (admin, file) = (line.first.admin(), line.folder().join("f.toml"));
    let mut slow = line.first.connect();
    slow.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(slow.take_until(b"01234").is_some());
    fs::write(file, config(origin.address()) + "[admin]\nbind = \"unix:a.sock\"\n")
        .expect("it can be changed");
    line.upgraded();
    let refuses = || TcpStream::connect(admin).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused);
    eventually("it is closed", refuses);
    assert!(!line.first.has_ended());
    gate.open();
    assert_eq!(slow.take(5), b"56789");
    eventually("the old one ends", || line.first.has_ended());
}

#[test]
fn without_an_upgrade_socket_there_is_no_upgrade() {
    let origin = origin(&Arc::default());
    let toml = config(origin.address()).replace("socket = \"u.sock\"", "");
    let line = Line::start(&toml, &[]);
    let output = line.upgrade();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("[upgrade]"), "{output:?}");
    line.first.signal(Signal::USR2);
    eventually("the log says so", || line.first.err().contains("no upgrade"));
    assert_eq!(one(line.web).map(drop), Ok(()));
}

/// Starts the program with sockets as systemd passes them.
fn activated(folder: &Path, tcp: &TcpListener, unix: &UnixListener) -> Child {
    let script =
        "export LISTEN_PID=$$ LISTEN_FDS=2; exec \"$0\" run -c f.toml 3<&0 4>&1 </dev/null >/dev/null";
    let log = fs::File::create(folder.join("log")).expect("a file can be made");
    Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_forebay")])
        .current_dir(folder)
        .stdin(OwnedFd::from(tcp.try_clone().expect("there are descriptors")))
        .stdout(OwnedFd::from(unix.try_clone().expect("there are descriptors")))
        .stderr(log)
        .spawn()
        .expect("the shell starts")
}

#[test]
fn sockets_that_systemd_passes_outlive_the_process() {
    let origin = origin(&Arc::default());
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (tcp, path) = (TcpListener::bind("127.0.0.1:0").expect("a port is free"), folder.path().join("s"));
    let unix = UnixListener::bind(&path).expect("a path is free");
    let web = tcp.local_addr().expect("it is bound");
    let bind = format!("bind = [\"{web}\", \"unix:s\"]");
    let toml = config(origin.address()).replace("bind = [\"127.0.0.1:0\", \"unix:w.sock\"]", &bind);
    let toml = format!("workers = 2\n{toml}[admin]\nbind = \"127.0.0.1:0\"\n");
    fs::write(folder.path().join("f.toml"), toml).expect("and written to");
    for _ in 0..2 {
        // Who connects before there is a process waits for it.
        let mut early = TcpStream::connect(web).expect("the socket is there");
        let mut process = activated(folder.path(), &tcp, &unix);
        let answered = exchange(&mut early);
        assert_eq!(
            answered,
            Ok(false),
            "{}",
            fs::read_to_string(folder.path().join("log")).unwrap_or_default()
        );
        for _ in 0..16 {
            assert_eq!(one(web), Ok(false));
        }
        assert!(asks_over_unix(&path).ends_with("hello"));
        kill_process(Pid::from_child(&process), Signal::TERM).expect("it runs");
        assert!(process.wait().expect("it is our child").success());
        assert!(path.exists());
    }
    let log = fs::read_to_string(folder.path().join("log")).expect("it is a file");
    assert!(!log.contains("WARN"), "{log}");
}

/// What this test says as a process that wants the sockets; it hears all of them.
fn takes_sockets(path: &Path, protocol: u32) -> Result<Link, String> {
    let mut link = None;
    // A process serves for a moment before it lets itself be replaced.
    eventually("somebody listens", || {
        link = Link::to(path).expect("it is ours");
        link.is_some()
    });
    let link = link.expect("somebody listens");
    let hello = format!(r#"{{"forebay":"0","protocol":{protocol},"process":1,"wants":"sockets"}}"#);
    link.send(hello.as_bytes(), &[], DEADLINE).expect("it is heard");
    loop {
        let word = heard(&link);
        if word.contains("refused") {
            return Err(word);
        }
        if word.contains("\"process\"") {
            return Ok(link);
        }
    }
}

fn heard(link: &Link) -> String {
    String::from_utf8_lossy(&link.receive(DEADLINE).expect("it answers").text).into_owned()
}

#[test]
fn one_process_at_a_time_takes_over_and_in_time() {
    let origin = origin(&Arc::default());
    let toml = config(origin.address()).replace("[upgrade]", "[upgrade]\nstart_timeout = \"4s\"");
    let mut line = Line::start(&toml, &[]);
    let door = line.folder().join("u.sock");
    let refused = takes_sockets(&door, 77).expect_err("nobody speaks that");
    assert!(refused.contains("language"), "{refused}");
    // One that never becomes ready.
    let slow = takes_sockets(&door, 1).expect("it is the first");
    let refused = takes_sockets(&door, 1).expect_err("it is the second");
    assert!(refused.contains("another process is taking its place"), "{refused}");
    let output = line.upgrade();
    assert!(String::from_utf8_lossy(&output.stderr).contains("an upgrade is under way"), "{output:?}");
    assert!(heard(&slow).contains("did not answer in time"));
    assert_eq!(one(line.web).map(drop), Ok(()));
    // One that says what makes no sense, and one that is gone.
    let odd = takes_sockets(&door, 1).expect("nobody else does");
    odd.send(b"{}", &[], DEADLINE).expect("it is heard");
    assert!(heard(&odd).contains("makes no sense"));
    drop(takes_sockets(&door, 1).expect("nobody else does"));
    eventually("it goes on", || line.first.err().matches("it goes on").count() == 3);
    line.upgraded();
    assert_eq!(one(line.web).map(drop), Ok(()));
    eventually("the old one ends", || line.first.has_ended());
}

#[test]
fn a_drain_refuses_who_would_take_over() {
    let gate = Arc::new(Gate::default());
    let origin = origin(&gate);
    let mut line = Line::start(&config(origin.address()), &[]);
    let waiting = takes_sockets(&line.folder().join("u.sock"), 1).expect("it serves");
    let mut slow = line.first.connect();
    slow.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(slow.take_until(b"01234").is_some());
    line.first.signal(Signal::TERM);
    assert!(heard(&waiting).contains("it ends"));
    gate.open();
    assert_eq!(slow.take(5), b"56789");
    assert!(line.first.wait().success());
}

#[test]
fn the_units_are_as_systemd_wants_them() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let program = env!("CARGO_BIN_EXE_forebay");
    for unit in ["forebay.service", "forebay.socket"] {
        let text = fs::read_to_string(Path::new("config/examples").join(unit)).expect("it is there");
        fs::write(folder.path().join(unit), text.replace("/usr/local/bin/forebay", program))
            .expect("and written");
    }
    let units = ["verify", "--man=no", "./forebay.service", "./forebay.socket"];
    // Not every machine that runs tests has systemd.
    let Ok(output) = Command::new("systemd-analyze").args(units).current_dir(folder.path()).output() else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let ours: Vec<_> = said.lines().filter(|line| line.contains("forebay")).collect();
    assert!(ours.is_empty(), "{said}");
}

/// What the service manager hears, until a line of it is there.
fn hears(manager: &UnixDatagram, line: &str) -> String {
    let mut bytes = [0; 4096];
    loop {
        let n = manager.recv(&mut bytes).expect("the line comes in time");
        let text = String::from_utf8_lossy(bytes.get(..n).unwrap_or_default()).into_owned();
        if text.lines().any(|heard| heard.starts_with(line)) {
            return text;
        }
    }
}

#[test]
fn the_service_manager_hears_who_serves() {
    let origin = origin(&Arc::default());
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).expect("a path is free");
    manager.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
    let toml = config(origin.address()) + "[admin]\nbind = \"127.0.0.1:0\"\n";
    fs::write(folder.path().join("f.toml"), toml).expect("and written to");
    let socket = socket.to_str().expect("it is UTF-8");
    let variables = [("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "100000")];
    let mut process = Process::spawn_with(folder.path(), &["run", "-c", "f.toml"], &variables);
    let ready = hears(&manager, "MAINPID=");
    assert!(ready.contains("READY=1\n"), "{ready}");
    for _ in 0..3 {
        hears(&manager, "WATCHDOG=1");
    }
    process.signal(Signal::USR2);
    let ready = hears(&manager, "MAINPID=");
    let pid = ready.lines().find_map(|line| line.strip_prefix("MAINPID=")).and_then(|pid| pid.parse().ok());
    let pid = pid.and_then(Pid::from_raw).expect("a number");
    eventually("the old one ends", || process.has_ended());
    hears(&manager, "WATCHDOG=1");
    kill_process(pid, Signal::TERM).expect("it runs");
    hears(&manager, "STOPPING=1");
    eventually("the new one ends", || test_kill_process(pid).is_err());
}

const NOTHING: &str = "the connection ended before an answer";
/// Between two requests of a client, so that the machine has time for the processes as well.
const PAUSE: Duration = Duration::from_millis(2);
