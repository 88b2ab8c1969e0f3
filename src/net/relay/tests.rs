use std::net::Ipv4Addr;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle, LocalSet, spawn_local};
use tokio::time::timeout;

use super::*;
use crate::net::stream::Socket;

/// The far ends of a relay, and what becomes of it.
struct Story<S> {
    client: S,
    endpoint: S,
    progress: Rc<Progress>,
    tell: Option<oneshot::Sender<()>>,
    end: JoinHandle<End>,
}

impl<S> Story<S> {
    async fn end(self) -> (End, u64, u64) {
        let end = timeout(LONG, self.end).await.expect("the relay ends").expect("and does not panic");
        (end, self.progress.up(), self.progress.down())
    }
}

async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

fn begin<S>(far: (S, S), near: (Socket, Socket), first: &'static [u8], limits: Limits) -> Story<S> {
    let progress = Rc::new(Progress::default());
    let (tell, mut told) = oneshot::channel::<()>();
    let pair = Pair {
        client: Stream::Plain(near.0),
        endpoint: Stream::Plain(near.1),
        first: Bytes::from_static(first),
    };
    let counted = Rc::clone(&progress);
    let end = spawn_local(async move {
        relay(pair, &limits, &counted, |cx| match std::pin::Pin::new(&mut told).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(()),
            _ => Poll::Pending,
        })
        .await
    });
    Story { client: far.0, endpoint: far.1, progress, tell: Some(tell), end }
}

async fn over_tcp(first: &'static [u8], limits: Limits) -> Story<TcpStream> {
    let (client, client_near) = tcp().await;
    let (endpoint, endpoint_near) = tcp().await;
    begin((client, endpoint), (Socket::Tcp(client_near), Socket::Tcp(endpoint_near)), first, limits)
}

fn over_unix(first: &'static [u8], limits: Limits) -> Story<UnixStream> {
    let (client, client_near) = UnixStream::pair().unwrap();
    let (endpoint, endpoint_near) = UnixStream::pair().unwrap();
    begin((client, endpoint), (Socket::Unix(client_near), Socket::Unix(endpoint_near)), first, limits)
}

/// Bytes of which each says where it belongs.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) ^ (at >> 8)) as u8).collect()
}

/// Runs a story on one thread, as a worker does.
fn told<T>(story: impl Future<Output = T>) -> impl Future<Output = T> {
    let story = Box::pin(timeout(LONG, story));
    async { LocalSet::new().run_until(story).await.expect("the story ends") }
}

const PATIENT: Limits = Limits { idle: Duration::from_secs(3600), until: None };
const LONG: Duration = Duration::from_secs(60);
const LARGE: usize = 8 * 1024 * 1024 + 17;

#[tokio::test]
async fn what_was_read_already_comes_first() {
    told(async {
        let mut story = over_tcp(b"first, ", PATIENT).await;
        story.client.write_all(b"then this").await.unwrap();
        story.client.shutdown().await.unwrap();
        let mut text = String::new();
        story.endpoint.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "first, then this");
        story.endpoint.write_all(b"still heard").await.unwrap();
        story.endpoint.shutdown().await.unwrap();
        text.clear();
        story.client.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "still heard");
        assert!(matches!(story.end().await, (End::Done, 16, 11)));
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_has_said_all_still_listens() {
    told(async {
        let mut story = over_unix(b"", PATIENT);
        story.endpoint.shutdown().await.unwrap();
        assert_eq!(story.client.read(&mut [0; 8]).await.unwrap(), 0);
        story.client.write_all(b"late").await.unwrap();
        story.client.shutdown().await.unwrap();
        let mut text = String::new();
        story.endpoint.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "late");
        assert!(matches!(story.end().await, (End::Done, 4, 0)));
    })
    .await;
}

async fn both_ways<S: AsyncReadExt + AsyncWriteExt + Unpin>(mut story: Story<S>) {
    let sent = pattern(LARGE);
    async fn side<S: AsyncReadExt + AsyncWriteExt + Unpin>(far: &mut S, sent: &[u8]) -> Vec<u8> {
        let (mut reading, mut writing) = tokio::io::split(far);
        let write = async {
            writing.write_all(sent).await.unwrap();
            writing.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let (read, ()) = tokio::join!(reading.read_to_end(&mut received), write);
        read.unwrap();
        received
    }
    let (up, down) =
        tokio::join!(side(&mut story.endpoint, &sent[..LARGE / 2]), side(&mut story.client, &sent));
    assert!(up == sent && down == sent[..LARGE / 2]);
    let (end, up, down) = story.end().await;
    assert!(matches!(end, End::Done));
    assert_eq!((up, down), (LARGE as u64, (LARGE / 2) as u64));
}

#[tokio::test]
async fn large_amounts_arrive_whole_and_are_counted_when_spliced() {
    told(async { both_ways(over_tcp(b"", PATIENT).await).await }).await;
}

#[tokio::test]
async fn large_amounts_arrive_whole_and_are_counted_when_copied() {
    told(async { both_ways(over_unix(b"", PATIENT)).await }).await;
}

#[tokio::test]
async fn a_slow_reader_holds_the_writer_back_and_misses_nothing() {
    told(async {
        let mut story = over_tcp(b"", PATIENT).await;
        let sent = pattern(LARGE);
        let mut endpoint = story.endpoint;
        let expected = sent.clone();
        let writer = spawn_local(async move {
            endpoint.write_all(&sent).await.unwrap();
            endpoint
        });
        let mut received = Vec::new();
        let mut piece = vec![0; 3000];
        while received.len() < LARGE {
            let n = story.client.read(&mut piece).await.unwrap();
            received.extend_from_slice(&piece[..n]);
        }
        assert!(received == expected);
        story.endpoint = writer.await.unwrap();
        story.endpoint.shutdown().await.unwrap();
        story.client.shutdown().await.unwrap();
        assert!(matches!(story.end().await, (End::Done, 0, down) if down == LARGE as u64));
    })
    .await;
}

#[tokio::test]
async fn a_reset_is_passed_on_as_a_reset() {
    for reset in [Side::Client, Side::Endpoint] {
        told(async move {
            let mut story = over_tcp(b"", PATIENT).await;
            story.client.write_all(b"up").await.unwrap();
            story.endpoint.read_exact(&mut [0; 2]).await.unwrap();
            let (gone, mut left) = match reset {
                Side::Client => (story.client, story.endpoint),
                Side::Endpoint => (story.endpoint, story.client),
            };
            gone.set_zero_linger().unwrap();
            drop(gone);
            let seen = left.read(&mut [0; 8]).await.expect_err("a reset is no end of stream");
            assert_eq!(seen.kind(), io::ErrorKind::ConnectionReset);
            let end = story.end.await.unwrap();
            assert!(matches!(end, End::Reset(side) if side == reset), "{end:?}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_by_who_has_said_all_is_passed_on() {
    told(async {
        for side in [Side::Client, Side::Endpoint] {
            let Story { client, endpoint, end, .. } = over_tcp(b"", PATIENT).await;
            let (mut from, mut to) =
                if side == Side::Client { (client, endpoint) } else { (endpoint, client) };
            from.shutdown().await.unwrap();
            assert_eq!(to.read(&mut [0; 8]).await.unwrap(), 0);
            from.set_zero_linger().unwrap();
            drop(from);
            assert!(matches!(end.await.unwrap(), End::Reset(seen) if seen == side), "{side:?}");
            to.ready(Interest::ERROR).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn what_was_sent_before_a_reset_is_delivered() {
    told(async {
        let mut story = over_unix(b"", PATIENT);
        story.endpoint.write_all(b"too large").await.unwrap();
        drop(story.endpoint);
        story.client.write_all(b"more").await.unwrap();
        let mut text = String::new();
        story.client.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "too large");
        let end = story.end.await.unwrap();
        assert!(matches!(end, End::Reset(Side::Endpoint)), "{end:?}");
        assert_eq!(story.progress.down(), 9);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_connection_and_bytes_prolong_it() {
    told(async {
        let idle = Duration::from_secs(20);
        let start = tokio::time::sleep(Duration::ZERO).deadline();
        let mut story = over_unix(b"", Limits { idle, until: None });
        tokio::time::sleep(Duration::from_secs(18)).await;
        story.client.write_all(b"x").await.unwrap();
        story.endpoint.read_exact(&mut [0; 1]).await.unwrap();
        assert_eq!(story.client.read(&mut [0; 1]).await.unwrap(), 0);
        let lasted = tokio::time::sleep(Duration::ZERO).deadline() - start;
        assert!((38..=43).contains(&lasted.as_secs()), "{lasted:?}");
        assert!(matches!(story.end().await, (End::Idle, 1, 0)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_longest_duration_ends_a_busy_connection() {
    told(async {
        let until = tokio::time::sleep(Duration::from_millis(7)).deadline().into_std();
        let mut story = over_unix(b"", Limits { idle: Duration::from_secs(20), until: Some(until) });
        loop {
            let talk = async {
                story.client.write_all(b"x").await?;
                story.endpoint.read_exact(&mut [0; 1]).await
            };
            if talk.await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (end, up, _) = story.end().await;
        assert!(matches!(end, End::Expired) && up > 3, "{end:?} after {up}");
    })
    .await;
}

#[tokio::test]
async fn a_cut_with_bytes_under_way_is_a_reset() {
    told(async {
        let end = cut_while_full(|story| story.tell.take().unwrap().send(()).unwrap()).await.unwrap();
        assert!(matches!(end, End::Told), "{end:?}");
        let end = cut_while_full(|story| story.end.abort()).await;
        assert!(end.is_err_and(|error| error.is_cancelled()));
    })
    .await;
}

/// What comes of a relay that is `cut` with bytes under way, which its client sees as a reset.
async fn cut_while_full(cut: impl FnOnce(&mut Story<TcpStream>)) -> Result<End, JoinError> {
    let mut story = over_tcp(b"", PATIENT).await;
    let sent = pattern(64 * 1024);
    // Until nothing fits any more, for the client reads nothing.
    let mut full = 0;
    while full < 3 {
        match timeout(Duration::from_millis(100), story.endpoint.writable()).await {
            Ok(_) => full = if story.endpoint.try_write(&sent).is_ok() { 0 } else { full },
            Err(_) => full += 1,
        }
    }
    cut(&mut story);
    let end = (&mut story.end).await;
    let mut received = Vec::new();
    let seen = story.client.read_to_end(&mut received).await.expect_err("it was cut off");
    assert_eq!(seen.kind(), io::ErrorKind::ConnectionReset);
    end
}

#[tokio::test]
async fn a_quiet_connection_that_is_told_to_end_is_closed() {
    told(async {
        let mut story = over_tcp(b"", PATIENT).await;
        story.tell.take().unwrap().send(()).unwrap();
        assert_eq!(story.client.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(story.endpoint.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(matches!(story.end().await, (End::Told, 0, 0)));
    })
    .await;
}

mod over_tls {
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use std::sync::Arc;
    use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

    use super::*;

    /// A connection that speaks TLS: its connecting and its accepting end.
    async fn tls() -> (client::TlsStream<Socket>, server::TlsStream<Socket>) {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (near, far) = tcp().await;
        let name = ServerName::try_from("a.example").unwrap();
        let connect = TlsConnector::from(Arc::new(client)).connect(name, Socket::Tcp(near));
        let (client, server) =
            tokio::join!(connect, TlsAcceptor::from(Arc::new(server)).accept(Socket::Tcp(far)));
        (client.unwrap(), server.unwrap())
    }

    fn begin_with(client: Stream, endpoint: Stream) -> (Rc<Progress>, JoinHandle<End>) {
        let progress = Rc::new(Progress::default());
        let counted = Rc::clone(&progress);
        let pair = Pair { client, endpoint, first: Bytes::new() };
        let relayed = async move { relay(pair, &PATIENT, &counted, |_| Poll::Pending).await };
        (progress, spawn_local(relayed))
    }

    #[tokio::test]
    async fn large_amounts_pass_both_ways_and_ends_are_said_goodbye_to() {
        told(async {
            let (mut client, client_near) = tls().await;
            let (endpoint_near, mut endpoint) = tls().await;
            let (progress, end) = begin_with(
                Stream::ServerTls(Box::new(client_near)),
                Stream::ClientTls(Box::new(endpoint_near)),
            );
            let sent = pattern(LARGE);
            let echo = async {
                let mut heard = Vec::new();
                endpoint.read_to_end(&mut heard).await.unwrap();
                endpoint.write_all(&heard).await.unwrap();
                endpoint.shutdown().await.unwrap();
            };
            let talk = async {
                client.write_all(&sent).await.unwrap();
                client.shutdown().await.unwrap();
                let mut heard = Vec::new();
                client.read_to_end(&mut heard).await.unwrap();
                heard
            };
            let ((), heard) = tokio::join!(echo, talk);
            assert!(heard == sent);
            assert!(matches!(end.await.unwrap(), End::Done));
            assert_eq!((progress.up(), progress.down()), (LARGE as u64, LARGE as u64));
        })
        .await;
    }

    #[tokio::test]
    async fn a_client_may_hang_up_without_a_goodbye() {
        told(async {
            let (mut client, client_near) = tls().await;
            let (endpoint_near, mut endpoint) = tcp().await;
            let (_, end) = begin_with(
                Stream::ServerTls(Box::new(client_near)),
                Stream::Plain(Socket::Tcp(endpoint_near)),
            );
            client.write_all(b"quit").await.unwrap();
            client.get_mut().0.shutdown().await.unwrap();
            let mut heard = String::new();
            endpoint.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, "quit");
            drop(endpoint);
            assert!(matches!(end.await.unwrap(), End::Done));
        })
        .await;
    }

    #[tokio::test]
    async fn an_endpoint_that_is_cut_off_does_not_look_as_if_it_had_ended() {
        told(async {
            let (mut client, client_near) = tcp().await;
            let (endpoint_near, mut endpoint) = tls().await;
            let (_, end) = begin_with(
                Stream::Plain(Socket::Tcp(client_near)),
                Stream::ClientTls(Box::new(endpoint_near)),
            );
            endpoint.write_all(b"half of an ans").await.unwrap();
            client.read_exact(&mut [0; 14]).await.unwrap();
            endpoint.get_mut().0.shutdown().await.unwrap();
            let seen = client.read(&mut [0; 8]).await.expect_err("a reset, for there was no end");
            assert_eq!(seen.kind(), io::ErrorKind::ConnectionReset);
            let end = end.await.unwrap();
            assert!(matches!(end, End::Broken(Side::Endpoint, _)), "{end:?}");
        })
        .await;
    }
}
