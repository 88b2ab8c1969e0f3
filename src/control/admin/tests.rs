use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;

use super::*;
use crate::config;
use crate::control::healthcheck::healthcheck;
use crate::model::Name;
use crate::observe::metrics::Registry;

/// The least that can run.
const PLAN: &str = "[[listener]]\nname = \"main\"\nbind = \"127.0.0.1:0\"\n\
    [[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\"127.0.0.1:9\"]\n";

struct Served {
    address: Address,
    readiness: Arc<Readiness>,
    registry: Arc<Registry>,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<io::Result<()>>,
}

fn run(address: &str) -> Served {
    let mut admin = Admin::default();
    admin.open(&address.parse().unwrap(), None, &Inherited::default()).unwrap();
    let address = admin.addresses().unwrap().remove(0);
    let (registry, readiness) = (Registry::new(1), Arc::<Readiness>::default());
    let plan = config::from_str("t.toml", PLAN, &|_| None, Path::new(".")).unwrap();
    let running = Running::start(plan, Arc::clone(&registry), 1).unwrap();
    let state = Arc::new(AdminState::new(Arc::new(running), Arc::clone(&readiness)));
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        let _ = stopped.await;
    };
    let served = tokio::task::spawn_local(admin.serve(state, shutdown));
    Served { address, readiness, registry, stop, served }
}

/// Runs a test the way the control thread runs: one thread, real time.
fn on_one_thread(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let within = async { time::timeout(Duration::from_secs(30), local.run_until(test)).await };
    runtime.block_on(within).expect("the test ended in time");
}

async fn ask(address: &Address, method: &str, path: &str) -> String {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut answer = String::new();
    match address {
        Address::Inet(address) => {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.read_to_string(&mut answer).await.unwrap();
        }
        Address::Udp(_) => unreachable!("nobody listens there for requests"),
        Address::Unix(path) => {
            let mut stream = UnixStream::connect(path).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.read_to_string(&mut answer).await.unwrap();
        }
    }
    answer
}

#[test]
fn every_page_answers_get_and_head_alike() {
    on_one_thread(async {
        let admin = run("127.0.0.1:0");
        admin.readiness.enter(Phase::Ready);
        for path in ["/", "/livez", "/readyz", "/version", "/readyz?verbose"] {
            let (get, head) =
                (ask(&admin.address, "GET", path).await, ask(&admin.address, "HEAD", path).await);
            assert!(get.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {get}");
            let (get_head, body) = get.split_once("\r\n\r\n").unwrap();
            assert!(get_head.contains(&format!("content-length: {}", body.len())) && !body.is_empty());
            let length =
                |head: &str| head.lines().find(|line| line.starts_with("content-length")).map(str::to_owned);
            assert_eq!(length(&head), length(&get), "{path}");
            assert!(head.ends_with("\r\n\r\n"), "{path}: {head}");
        }
        assert!(ask(&admin.address, "GET", "/nothing").await.starts_with("HTTP/1.1 404 "));
        let post = ask(&admin.address, "POST", "/metrics").await;
        assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD\r\n"), "{post}");
        let version = ask(&admin.address, "GET", "/version").await;
        let version: serde_json::Value =
            serde_json::from_str(version.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(
            (&version["name"], &version["version"]),
            (&"forebay".into(), &env!("CARGO_PKG_VERSION").into())
        );
    });
}

#[test]
fn metrics_are_the_registrys() {
    on_one_thread(async {
        let admin = run("127.0.0.1:0");
        let _listener = admin.registry.listener(&Name::new("web").unwrap());
        let answer = ask(&admin.address, "GET", "/metrics").await;
        assert!(answer.contains("content-type: text/plain; version=0.0.4\r\n"), "{answer}");
        assert!(answer.contains("\nforebay_connections_active{listener=\"web\"} 0\n"), "{answer}");
    });
}

#[test]
fn readiness_follows_the_life_of_the_process() {
    on_one_thread(async {
        let admin = run("[::1]:0");
        for (phase, answer) in [
            (Phase::Starting, "503 Service Unavailable/starting"),
            (Phase::Ready, "200 OK/ready"),
            (Phase::Draining, "503 Service Unavailable/draining"),
            (Phase::Ready, "503 Service Unavailable/draining"),
        ] {
            admin.readiness.enter(phase);
            let (status, body) = answer.split_once('/').unwrap();
            let answer = ask(&admin.address, "GET", "/readyz").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
            assert!(answer.ends_with(&format!("\r\n\r\n{body}\n")), "{answer}");
            let (address, timeout) = (admin.address.clone(), Duration::from_secs(10));
            let healthy = tokio::task::spawn_blocking(move || healthcheck(&address.into(), timeout).is_ok());
            assert_eq!(healthy.await.unwrap(), status == "200 OK");
            assert!(ask(&admin.address, "GET", "/livez").await.starts_with("HTTP/1.1 200 "));
        }
    });
}

#[test]
fn a_socket_left_behind_is_replaced_and_a_live_one_is_not() {
    let home = tempfile::tempdir().unwrap();
    let path: PathBuf = home.path().join("admin.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let address = format!("unix:{}", path.display());
    on_one_thread(async {
        let admin = run(&address);
        assert!(ask(&admin.address, "GET", "/livez").await.ends_with("live\n"));
        let second = Admin::default().open(&admin.address, None, &Inherited::default()).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        admin.stop.send(()).unwrap();
        admin.served.await.unwrap().unwrap();
    });
    assert!(!path.exists());
}

#[test]
fn a_crowd_that_says_nothing_waits_its_turn() {
    on_one_thread(async {
        let admin = run("127.0.0.1:0");
        let address = admin.address.inet().unwrap();
        let mut crowd = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            crowd.push(TcpStream::connect(address).await.unwrap());
        }
        let mut next = Box::pin(ask(&admin.address, "GET", "/livez"));
        assert!(time::timeout(Duration::from_millis(100), &mut next).await.is_err(), "the cap holds");
        drop(crowd.pop());
        assert!(next.await.ends_with("live\n"));
        admin.stop.send(()).unwrap();
        admin.served.await.unwrap().unwrap();
    });
}
