//! A thousand configurations, one right after the other, while clients of every kind go on: none of them
//! is to notice, and what has been replaced is not to stay in memory.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use forebay::ambient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::client::{self, Client};
use crate::support::*;

#[test]
fn a_thousand_reloads_under_load_fail_nobody() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("there are threads");
    let origins = [(); 2].map(|()| origin(&runtime));
    let process = Process::run_on_small_pages(&config(0, origins));
    let extra = process.folder().join("extra.sock");
    let began = ambient::now();
    let load = Load::start(&runtime, process.address("web"));
    let mut steady = process.connect();
    let mut leaving = None;
    let mut settled = 0;
    for number in 1..=RELOADS {
        reload(&process, &config(number, origins));
        steady.send("GET /generation HTTP/1.1\r\nHost: test\r\n\r\n");
        let response = steady.response();
        assert_eq!((response.text(), response.field("connection")), (number.to_string(), None));
        if has_extra(number) && leaving.is_none() {
            let mut client = UnixStream::connect(&extra).expect("it is open");
            assert!(!ask(&mut client).contains("connection:"));
            leaving = Some(client);
        } else if !has_extra(number)
            && let Some(mut client) = leaving.take()
        {
            assert!(ask(&mut client).contains("connection: close"));
            assert_eq!(client.read(&mut [0]).ok(), Some(0), "it ends");
        }
        if number == RELOADS / 10 {
            settled = process.resident();
        }
    }
    let (took, resident) = (began.elapsed(), process.resident());
    let Counts { requests, messages, pieces } = load.stop(&runtime);
    let figures = format!(
        "{RELOADS} reloads in {took:?}, {requests} requests, {messages} messages, {pieces} pieces of downloads, \
         {settled} kB after a tenth, {resident} kB at the end"
    );
    let enough = u64::try_from(RELOADS).unwrap_or_default();
    assert!(requests > enough && messages > enough && pieces > enough, "there was load: {figures}");
    assert!(resident < settled * 105 / 100, "{figures}");
}

/// Has it read `toml` and run that.
#[track_caller]
fn reload(process: &Process, toml: &str) {
    let (next, file) = (process.folder().join("next"), process.folder().join("f.toml"));
    std::fs::write(&next, toml).expect("the folder takes a file");
    std::fs::rename(next, file).expect("and lets it be renamed");
    let mut admin = Link::to(process.admin());
    admin.send("POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    let told = admin.response();
    assert!(told.status() == 200 && told.text().contains("\"replaced\""), "{told:?}");
}

/// The answer to a request, in lower case.
#[track_caller]
fn ask(client: &mut UnixStream) -> String {
    client.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("it is read");
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        let mut buffer = [0; 1024];
        let n = client.read(&mut buffer).expect("there is an answer");
        assert!(n > 0, "an end after {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(buffer.get(..n).unwrap_or_default());
    }
    let answer = String::from_utf8_lossy(&answer).to_lowercase();
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    answer
}

const RELOADS: usize = 1000;

/// Each differs from the one before in one thing: a route always, and in turn a pool, a listener, and the
/// endpoints.
fn config(number: usize, origins: [SocketAddr; 2]) -> String {
    let extra =
        if has_extra(number) { "[[listener]]\nname = \"extra\"\nbind = \"unix:extra.sock\"\n" } else { "" };
    let policy = if (number / 4).is_multiple_of(2) { "round_robin" } else { "least_requests" };
    let second =
        if ((number + 1) / 4).is_multiple_of(2) { format!(", \"{}\"", origins[1]) } else { String::new() };
    format!(
        "workers = 2\n[admin]\nbind = \"127.0.0.1:0\"\n[reload]\nwatch = false\n\
         [[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n{extra}\
         [[route]]\nname = \"all\"\npool = \"app\"\n\
         [[route]]\nname = \"generation\"\npath = \"/generation\"\n\
         filters = [{{ respond = {{ status = 200, body = \"{number}\" }} }}]\n\
         [pool.app]\npolicy = \"{policy}\"\nendpoints = [\"{}\"{second}]\n",
        origins[0]
    )
}

fn has_extra(number: usize) -> bool {
    (number + 2) / 4 % 2 == 1
}

/// Clients of every kind, until they are told to end.
struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<Result<(), String>>,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    requests: AtomicU64,
    messages: AtomicU64,
    pieces: AtomicU64,
    failures: Mutex<Vec<String>>,
}

struct Counts {
    requests: u64,
    messages: u64,
    pieces: u64,
}

impl Load {
    fn start(runtime: &Runtime, web: SocketAddr) -> Self {
        let shared = Arc::<Shared>::default();
        let mut clients = JoinSet::new();
        for _ in 0..4 {
            clients.spawn_on(Arc::clone(&shared).asks(web), runtime.handle());
            clients.spawn_on(Arc::clone(&shared).chats(web), runtime.handle());
            clients.spawn_on(Arc::clone(&shared).downloads(web), runtime.handle());
        }
        for _ in 0..2 {
            clients.spawn_on(Arc::clone(&shared).streams(web), runtime.handle());
        }
        Self { shared, clients }
    }

    #[track_caller]
    fn stop(mut self, runtime: &Runtime) -> Counts {
        self.shared.over.store(true, Ordering::SeqCst);
        while let Some(ended) = runtime.block_on(self.clients.join_next()) {
            assert_eq!(ended.expect("clients do not panic"), Ok(()));
        }
        let failures = self.shared.failures.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(failures.is_empty(), "{failures:#?}");
        let count = |counted: &AtomicU64| counted.load(Ordering::Relaxed);
        let Shared { requests, messages, pieces, .. } = &*self.shared;
        Counts { requests: count(requests), messages: count(messages), pieces: count(pieces) }
    }
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::SeqCst)
    }

    /// One request after the other on one connection of HTTP/1.1, which is never told to end.
    async fn asks(self: Arc<Self>, web: SocketAddr) -> Result<(), String> {
        let mut link = Wire::to(web).await?;
        while self.goes_on() {
            link.send("GET /a HTTP/1.1\r\nHost: test\r\n\r\n").await?;
            let head = link.head().await?;
            let body = link.take(5).await?;
            let fine = head.starts_with("HTTP/1.1 200") && !head.to_ascii_lowercase().contains("connection:");
            if !fine || body != b"hello" {
                return Err(format!("{head}{body:?}"));
            }
            self.requests.fetch_add(1, Ordering::Relaxed);
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Several at a time on one connection of HTTP/2, which lives as long as the load.
    async fn streams(self: Arc<Self>, web: SocketAddr) -> Result<(), String> {
        let client = Arc::new(Client::to(web).await);
        let mut streams = JoinSet::new();
        for _ in 0..4 {
            let (shared, client) = (Arc::clone(&self), Arc::clone(&client));
            streams.spawn(async move {
                while shared.goes_on() {
                    match client.ask(client::get("/b"), b"").await {
                        Ok(answer) if answer.status == 200 && answer.body == Bytes::from_static(b"hello") => {
                        }
                        other => return Err(format!("{other:?}")),
                    }
                    shared.requests.fetch_add(1, Ordering::Relaxed);
                    sleep(PAUSE).await;
                }
                Ok(())
            });
        }
        while let Some(ended) = streams.join_next().await {
            ended.map_err(|error| error.to_string())??;
        }
        Ok(())
    }

    /// Says something and hears it again, through one tunnel from the first to the last.
    async fn chats(self: Arc<Self>, web: SocketAddr) -> Result<(), String> {
        let mut link = Wire::to(web).await?;
        link.send("GET /chat HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await?;
        let head = link.head().await?;
        if !head.starts_with("HTTP/1.1 101") {
            return Err(head);
        }
        for number in 0_u64.. {
            if !self.goes_on() {
                break;
            }
            let message = format!("message {number:08}");
            link.send(&message).await?;
            let heard = link.take(message.len()).await?;
            if heard != message.as_bytes() {
                return Err(format!("{:?} instead of {message}", String::from_utf8_lossy(&heard)));
            }
            self.messages.fetch_add(1, Ordering::Relaxed);
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Takes a long answer, piece by piece, and then the next.
    async fn downloads(self: Arc<Self>, web: SocketAddr) -> Result<(), String> {
        let mut link = Wire::to(web).await?;
        while self.goes_on() {
            link.send("GET /download HTTP/1.1\r\nHost: test\r\n\r\n").await?;
            let head = link.head().await?;
            if !head.starts_with("HTTP/1.1 200") {
                return Err(head);
            }
            for number in 0..PIECES {
                if link.take(PIECE).await? != piece(number) {
                    return Err(format!("piece {number} of a download is another"));
                }
                self.pieces.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

/// A raw connection.
struct Wire {
    tcp: TcpStream,
    unread: Vec<u8>,
}

impl Wire {
    async fn to(address: SocketAddr) -> Result<Self, String> {
        let tcp = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        tcp.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Self { tcp, unread: Vec::new() })
    }

    async fn send(&mut self, text: &str) -> Result<(), String> {
        self.tcp.write_all(text.as_bytes()).await.map_err(|error| format!("not sent: {error}"))
    }

    async fn fill(&mut self) -> Result<(), String> {
        match timeout(DEADLINE, self.tcp.read_buf(&mut self.unread)).await {
            Ok(Ok(0)) => Err(format!("an end after {:?}", String::from_utf8_lossy(&self.unread))),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("nothing came".to_owned()),
        }
    }

    async fn head(&mut self) -> Result<String, String> {
        loop {
            if let Some(end) = head_end(&self.unread) {
                let head = self.unread.drain(..end).collect();
                return String::from_utf8(head).map_err(|error| error.to_string());
            }
            self.fill().await?;
        }
    }

    async fn take(&mut self, n: usize) -> Result<Vec<u8>, String> {
        while self.unread.len() < n {
            self.fill().await?;
        }
        Ok(self.unread.drain(..n).collect())
    }
}

/// Answers on kept connections: `/download` with many pieces and a pause before each, `/chat` with a
/// tunnel in which it repeats what it hears, and everything else with a greeting.
fn origin(runtime: &Runtime) -> SocketAddr {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("there is a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    runtime.spawn(async move {
        let mut answering = JoinSet::new();
        while let Ok((tcp, _)) = listener.accept().await {
            // Who leaves is of no interest here: the other side tells.
            answering.spawn(answer(Wire { tcp, unread: Vec::new() }));
            while answering.try_join_next().is_some() {}
        }
    });
    address
}

async fn answer(mut link: Wire) -> Result<(), String> {
    loop {
        let head = link.head_of_request().await?;
        match head.split(' ').nth(1) {
            Some("/download") => {
                link.send(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", PIECES * PIECE)).await?;
                for number in 0..PIECES {
                    sleep(PAUSE).await;
                    link.tcp.write_all(&piece(number)).await.map_err(|error| error.to_string())?;
                }
            }
            Some("/chat") => {
                link.send(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                )
                .await?;
                loop {
                    let heard = std::mem::take(&mut link.unread);
                    link.tcp.write_all(&heard).await.map_err(|error| error.to_string())?;
                    link.fill_for_ever().await?;
                }
            }
            _ => link.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await?,
        }
    }
}

impl Wire {
    /// As an origin, which waits for requests for as long as it takes.
    async fn head_of_request(&mut self) -> Result<String, String> {
        while head_end(&self.unread).is_none() {
            self.fill_for_ever().await?;
        }
        self.head().await
    }

    async fn fill_for_ever(&mut self) -> Result<(), String> {
        match self.tcp.read_buf(&mut self.unread).await {
            Ok(n) if n > 0 => Ok(()),
            _ => Err("gone".to_owned()),
        }
    }
}

fn piece(number: usize) -> Vec<u8> {
    let byte = u8::try_from(number % 251).unwrap_or_default();
    vec![byte; PIECE]
}

/// Between two requests of a client, and two pieces of a download.
const PAUSE: Duration = Duration::from_millis(5);
/// Bytes of a piece.
const PIECE: usize = 2048;
/// Pieces of a download, so that each lasts over many reloads.
const PIECES: usize = 300;
