//! HTTP/2 origins. What one does with a stream is a handler of the test's; the rest is here.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, Connection, SendResponse};
use http::{HeaderMap, Request};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::client::{drained, send_all, status};

/// A running origin.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

/// One request at an origin.
pub(crate) struct Asked {
    pub(crate) request: Request<RecvStream>,
    pub(crate) respond: SendResponse<Bytes>,
    /// The number of the connection, from 0.
    pub(crate) connection: usize,
}

impl Origin {
    /// Runs `handle` for every request.
    pub(crate) async fn run<F, Fut>(handle: F) -> Self
    where
        F: Fn(Asked) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        // However many clients leave at once: their requests are reset on one connection to here.
        let mut settings = Builder::new();
        settings.max_pending_accept_reset_streams(10_000).max_concurrent_reset_streams(10_000);
        Self::with(settings, handle).await
    }

    /// As [`Self::run`], with settings of one's own.
    pub(crate) async fn with<F, Fut>(settings: Builder, handle: F) -> Self
    where
        F: Fn(Asked) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::scripted(settings, move |mut connection, number| {
            let handle = handle.clone();
            async move {
                let mut streams = JoinSet::new();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    streams.spawn(handle(Asked { request, respond, connection: number }));
                }
            }
        })
        .await
    }

    /// Runs `script` for every connection, after its handshake.
    pub(crate) async fn scripted<F, Fut>(settings: Builder, script: F) -> Self
    where
        F: Fn(Connection<TcpStream, Bytes>, usize) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let accepted = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&accepted);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let number = counted.fetch_add(1, Ordering::SeqCst);
                let (settings, script) = (settings.clone(), script.clone());
                connections.spawn(async move {
                    tcp.set_nodelay(true).expect("a socket takes an option");
                    if let Ok(connection) = settings.handshake(tcp).await {
                        script(connection, number).await;
                    }
                });
            }
        });
        Self { address, accepted, _tasks: tasks }
    }

    /// The number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Asked {
    /// Reads the request body.
    pub(crate) async fn body(&mut self) -> (Bytes, Option<HeaderMap>) {
        drained(self.request.body_mut()).await.unwrap_or_default()
    }

    /// Answers with 200 and a body.
    pub(crate) async fn answer(mut self, body: impl Into<Bytes>) {
        let body = body.into();
        // The proxy may have given up the stream, which is its affair.
        if let Ok(mut stream) = self.respond.send_response(status(200), body.is_empty())
            && !body.is_empty()
        {
            let _ = send_all(&mut stream, body, true).await;
        }
    }

    /// Answers with the request's body and its trailers.
    pub(crate) async fn echo(mut self) {
        // As for an answer.
        let Ok(mut stream) = self.respond.send_response(status(200), false) else { return };
        let (body, trailers) = self.body().await;
        let _ = send_all(&mut stream, body, false).await;
        let _ = stream.send_trailers(trailers.unwrap_or_default());
    }
}
