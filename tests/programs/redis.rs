//! Redis: commands, values of several megabytes, its benchmark and what is pushed, through the proxy.

use std::fs::File;
use std::net::SocketAddr;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::server::{Server, before, free_port, run};
use crate::support::{Link, Peer, peer};

/// A Redis that keeps nothing on disk; `None` when it is not installed.
fn redis() -> Option<(Server, TempDir)> {
    let program = peer("redis-server")?;
    let folder = tempfile::tempdir().unwrap();
    let address = free_port();
    let mut command = program.command();
    command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
    command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(folder.path());
    Some((Server::start(command, address, (folder.path(), Signal::KILL)), folder))
}

fn to(program: &Peer, address: SocketAddr) -> Command {
    let mut command = program.command();
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
    command
}

#[test]
fn commands_and_values_of_megabytes() {
    let (Some(cli), Some((server, folder))) = (peer("redis-cli"), redis()) else { return };
    let proxy = before(&[server.address()]);
    let address = proxy.address("db");
    assert_eq!(run(to(&cli, address).arg("PING")), "PONG\n");
    let value: String = (0..1_000_000).map(|number| format!("{number:06};")).collect();
    let file = folder.path().join("value");
    std::fs::write(&file, &value).unwrap();
    let mut set = to(&cli, address);
    set.args(["-x", "SET", "large"]).stdin(File::open(&file).unwrap());
    assert_eq!(set.output().unwrap().stdout, b"OK\n");
    assert_eq!(run(to(&cli, address).args(["STRLEN", "large"])), "7000000\n");
    let got = run(to(&cli, address).args(["GET", "large"]));
    assert!(got.trim_end() == value, "{} bytes", got.len());
}

#[test]
fn its_benchmark() {
    let (Some(benchmark), Some((server, _folder))) = (peer("redis-benchmark"), redis()) else { return };
    let proxy = before(&[server.address()]);
    let address = proxy.address("db");
    for more in [&["-c", "50", "-n", "10000"][..], &["-c", "50", "-n", "50000", "-P", "16"]] {
        let mut command = to(&benchmark, address);
        let printed = run(command.args(more).args(["-t", "set,get,lrange_600", "--csv"]));
        let rows: Vec<_> = printed.lines().skip(1).collect();
        for name in ["SET", "GET", "LRANGE_600"] {
            let row = rows.iter().find(|row| row.starts_with(&format!("\"{name}"))).unwrap();
            let rate: f64 = row.split("\",\"").nth(1).unwrap().parse().unwrap();
            assert!(rate > 0.0, "{row}");
        }
    }
}

#[test]
fn what_is_pushed_and_the_end_of_the_server() {
    let Some((server, _folder)) = redis() else { return };
    let proxy = before(&[server.address()]);
    let address = proxy.address("db");
    let mut readers: Vec<_> = (0..20).map(|_| Link::to(address)).collect();
    for reader in &mut readers {
        reader.send("SUBSCRIBE news\r\n");
        assert!(reader.take_until(b":1\r\n").unwrap().starts_with(b"*3\r\n$9\r\nsubscribe"));
    }
    let mut writer = Link::to(address);
    for round in 0..50 {
        writer.send(format!("PUBLISH news {round:04}\r\n"));
        assert_eq!(writer.take_until(b"\r\n").unwrap(), b":20\r\n");
        for reader in &mut readers {
            let got = reader.take_until(format!("{round:04}\r\n").as_bytes()).unwrap();
            assert!(got.starts_with(b"*3\r\n$7\r\nmessage"), "{}", String::from_utf8_lossy(&got));
        }
    }
    server.kill();
    for reader in &mut readers {
        reader.expect_end();
    }
    writer.expect_end();
}
