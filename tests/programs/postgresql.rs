//! PostgreSQL: queries, large answers and a benchmark through the proxy, and the other server when the
//! first one dies.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use rustix::process::{Signal, geteuid};
use tempfile::TempDir;

use crate::server::{Server, before, finish, free_port, run};
use crate::support::{Peer, eventually, peer};

/// A database without anything in it, to start servers on copies of.
struct Database {
    folder: TempDir,
    postgres: Peer,
    psql: Peer,
    pgbench: Peer,
}

impl Database {
    /// Makes it; `None` when PostgreSQL is not installed.
    fn make() -> Option<Self> {
        let initdb = peer("initdb")?;
        let (postgres, psql, pgbench) = (peer("postgres")?, peer("psql")?, peer("pgbench")?);
        let folder = tempfile::tempdir().unwrap();
        // The server runs as somebody else where we are root.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let mut command = unprivileged(&initdb);
        command.args(["-A", "trust", "-U", "test", "-E", "UTF8", "--locale=C", "--no-sync", "-D"]);
        run(command.arg(folder.path().join("empty")));
        Some(Self { folder, postgres, psql, pgbench })
    }

    /// Starts a server on a copy.
    fn serve(&self, name: &str) -> Server {
        let data = self.folder.path().join(name);
        let mut copy = unprivileged_program("cp");
        run(copy.arg("-r").arg(self.folder.path().join("empty")).arg(&data));
        let address = free_port();
        let mut command = unprivileged(&self.postgres);
        command.arg("-D").arg(&data).arg("-p").arg(address.port().to_string());
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"] {
            command.arg("-c").arg(setting);
        }
        let folder = self.folder.path().join(format!("{name}-log"));
        fs::create_dir(&folder).unwrap();
        // What it calls an immediate shutdown: nobody is told.
        let server = Server::start(command, address, (&folder, Signal::QUIT));
        eventually("PostgreSQL to take queries", || {
            finish(self.psql(address).args(["-c", "SELECT 1"])).status.success()
        });
        server
    }

    fn psql(&self, address: SocketAddr) -> Command {
        let mut command = self.psql.command();
        command.args(["-X", "-At", "-v", "ON_ERROR_STOP=1", "-U", "test", "-d", "postgres"]);
        to(&mut command, address);
        command
    }

    /// The answer to one query on a connection of its own.
    #[track_caller]
    fn ask(&self, address: SocketAddr, query: &str) -> String {
        run(self.psql(address).args(["-c", query])).trim_end().to_owned()
    }

    fn pgbench(&self, address: SocketAddr) -> Command {
        let mut command = self.pgbench.command();
        to(command.args(["-U", "test"]), address);
        command
    }
}

fn to(command: &mut Command, address: SocketAddr) {
    command.env("PGCONNECT_TIMEOUT", "10").env("PGSSLMODE", "prefer");
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
}

/// PostgreSQL refuses to run as root.
fn unprivileged(program: &Peer) -> Command {
    unprivileged_program(program.command().get_program())
}

fn unprivileged_program(program: impl AsRef<std::ffi::OsStr>) -> Command {
    if !geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"]).arg(program);
    command
}

#[test]
fn queries_and_pgbench() {
    let Some(database) = Database::make() else { return };
    let server = database.serve("one");
    let proxy = before(&[server.address()]);
    let address = proxy.address("db");
    assert_eq!(database.ask(address, "SELECT inet_server_port()"), server.address().port().to_string());
    let large = database.ask(address, "SELECT repeat('forebay;', 1000000)");
    assert!(large == "forebay;".repeat(1_000_000), "{} bytes", large.len());
    let mut copy = database.psql(address);
    copy.args(["-c", "CREATE TABLE lines (line text)", "-c", "COPY lines FROM STDIN"]);
    copy.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut copying = copy.spawn().unwrap();
    let mut lines = copying.stdin.take().unwrap();
    lines.write_all("a line of some length\n".repeat(100_000).as_bytes()).unwrap();
    drop(lines);
    assert!(copying.wait().unwrap().success());
    assert_eq!(database.ask(address, "SELECT count(*), sum(length(line)) FROM lines"), "100000|2100000");
    run(database.pgbench(address).args(["-i", "-q", "postgres"]));
    for more in [&["-t", "50"][..], &["-t", "10", "--connect"], &["-t", "200", "-S", "-M", "prepared"]] {
        let printed = run(database.pgbench(address).args(["-c", "8", "-n"]).args(more).arg("postgres"));
        let of: u64 = more.get(1).unwrap().parse().unwrap();
        let all = of * 8;
        assert!(printed.contains(&format!("actually processed: {all}/{all}")), "{printed}");
        assert!(printed.contains("number of failed transactions: 0 "), "{printed}");
    }
}

#[test]
fn the_other_server_when_the_first_dies() {
    let Some(database) = Database::make() else { return };
    let (first, second) = (database.serve("first"), database.serve("second"));
    let (one, other) = (first.address().port().to_string(), second.address().port().to_string());
    let proxy = before(&[first.address(), second.address()]);
    let address = proxy.address("db");
    assert_eq!(database.ask(address, "SELECT inet_server_port()"), one);
    // A session that is in the middle of a query.
    let mut session = database.psql(address);
    session.args(["-c", "SELECT pg_sleep(600)"]).stdin(Stdio::null());
    let session = session.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'";
    eventually("the query to run", || database.ask(address, sleeping) == "1");
    first.kill();
    let ended = session.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    // What it says depends on whether the server's last words came before the end.
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(said.contains("terminat") || said.contains("closed the connection"), "{said}");
    // Whoever comes now is refused there, and gets the other.
    for _ in 0..5 {
        assert_eq!(database.ask(address, "SELECT inet_server_port()"), other);
    }
}
