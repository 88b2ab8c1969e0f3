//! Debian's dnsmasq in the place of a DNS server that a test wrote.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, getuid, kill_process};

use crate::support::*;
use crate::{config, expect_endpoints};

/// A running dnsmasq, ended with the test.
struct Dnsmasq(Child);

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    for _ in 0..100 {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = udp.local_addr().unwrap().port();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free for both")
}

#[test]
fn endpoints_follow_dnsmasq() {
    let Some(dnsmasq) = peer("dnsmasq") else { return };
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    fs::write(&hosts, "127.0.0.2 app.test\n::1 app.test\n127.0.0.9 one.test\n").unwrap();
    let port = free_port();
    let mut command = dnsmasq.command();
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--pid-file",
        "--no-resolv",
        "--no-hosts",
    ]);
    command.args(["--listen-address=127.0.0.1", "--bind-interfaces", "--local=/test/"]);
    command.arg(format!("--port={port}")).arg(format!("--addn-hosts={}", hosts.display()));
    command.arg("--srv-host=_http._tcp.app.test,one.test,9001,5,7");
    if getuid().is_root() {
        // It would leave for a user who cannot read the folder.
        command.arg("--user=root");
    }
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let dnsmasq = Dnsmasq(child);
    eventually("dnsmasq listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let asks = |name: &str, lines: &str| {
        format!(
            "[[pool.app.dns]]\nname = \"{name}\"\nservers = \"127.0.0.1:{port}\"\nmin_ttl = \"100ms\"\n{lines}\n"
        )
    };
    let pool = asks("app.test", "port = 80") + &asks("_http._tcp.app.test", "record = \"srv\"");
    let proxy = Proxy::start(&config(&pool));
    expect_endpoints(&proxy, &["127.0.0.2:80", "[::1]:80", "127.0.0.9:9001"]);
    fs::write(&hosts, "127.0.0.2 app.test\n127.0.0.3 app.test\n127.0.0.8 one.test\n").unwrap();
    let id = Pid::from_raw(i32::try_from(dnsmasq.0.id()).unwrap()).unwrap();
    kill_process(id, Signal::HUP).unwrap();
    expect_endpoints(&proxy, &["127.0.0.2:80", "127.0.0.3:80", "127.0.0.8:9001"]);
    // The name is gone, and then the server.
    fs::write(&hosts, "127.0.0.8 one.test\n").unwrap();
    kill_process(id, Signal::HUP).unwrap();
    let sources = || proxy.server().running().discovery().sources("app").unwrap();
    eventually("it is known that there is nothing", || sources()[0].state == "empty");
    drop(dnsmasq);
    eventually("nobody is there", || sources().iter().all(|source| source.state == "failing"));
    expect_endpoints(&proxy, &["127.0.0.2:80", "127.0.0.3:80", "127.0.0.8:9001"]);
}
