//! An HTTP/2 client that sees what the proxy did to each stream: every wait has a deadline.

use std::future::Future;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::DEADLINE;

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) send: SendRequest<Bytes>,
    ended: watch::Receiver<Option<Result<(), String>>>,
    _task: JoinSet<()>,
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Client {
    /// Connects by prior knowledge.
    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self::with(address, &Builder::new()).await
    }

    /// Connects with settings of one's own.
    pub(crate) async fn with(address: SocketAddr, settings: &Builder) -> Self {
        let tcp = within(TcpStream::connect(address)).await.expect("somebody listens");
        tcp.set_nodelay(true).expect("a socket takes an option");
        Self::over(tcp, settings).await
    }

    /// A client on a stream that is open already.
    pub(crate) async fn over<T>(io: T, settings: &Builder) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (send, connection) = within(settings.handshake(io)).await.expect("the proxy speaks HTTP/2");
        let (end, ended) = watch::channel(None);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let how = connection.await.map_err(|error| error.to_string());
            end.send_replace(Some(how));
        });
        Self { send, ended, _task: task }
    }

    /// Sends a request with a body that is there already, and reads the whole response.
    pub(crate) async fn ask(&self, request: Request<()>, body: &[u8]) -> Result<Answer, h2::Error> {
        let (response, mut stream) = self.start(request, body.is_empty()).await?;
        if !body.is_empty() {
            // An answer may be whole before the body is, and then ends the stream (RFC 9113 §8.1).
            let _ = within(send_all(&mut stream, Bytes::copy_from_slice(body), true)).await;
        }
        whole(response).await
    }

    /// The response to `GET` of a path.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(get(path), b"").await.expect("there is an answer")
    }

    /// Sends a request head.
    pub(crate) async fn start(
        &self,
        request: Request<()>,
        is_over: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut ready = within(self.send.clone().ready()).await?;
        ready.send_request(request, is_over)
    }

    /// Waits until the connection has ended; an error's text if it was one.
    pub(crate) async fn ended(&self) -> Result<(), String> {
        let mut ended = self.ended.clone();
        let how = within(ended.wait_for(Option::is_some)).await.expect("the task runs");
        how.clone().unwrap_or(Ok(()))
    }
}

/// Reads a whole response.
pub(crate) async fn whole(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut body) = within(response).await?.into_parts();
    let (bytes, trailers) = drained(&mut body).await?;
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: bytes, trailers })
}

/// Reads a body to its end, giving the window back at once.
pub(crate) async fn drained(body: &mut RecvStream) -> Result<(Bytes, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = within(body.data()).await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    let trailers = within(body.trailers()).await?;
    Ok((all.into(), trailers))
}

/// Sends a piece of body as the window allows.
pub(crate) async fn send_all(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    is_over: bool,
) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        while stream.capacity() == 0 {
            match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(assigned) => assigned?,
                None => return Err(Reason::STREAM_CLOSED.into()),
            };
        }
        let piece = data.split_to(stream.capacity().min(data.len()));
        let last = is_over && data.is_empty();
        stream.send_data(piece, last)?;
    }
    Ok(())
}

/// A `GET` of a path at `test`.
pub(crate) fn get(path: &str) -> Request<()> {
    Request::get(format!("http://test{path}")).body(()).expect("a path is given")
}

/// A `POST` to a path at `test`.
pub(crate) fn post(path: &str) -> Request<()> {
    Request::post(format!("http://test{path}")).body(()).expect("a path is given")
}

/// Waits with a deadline.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("it happens in time")
}

/// A response with this status and nothing else yet.
pub(crate) fn status(code: u16) -> Response<()> {
    Response::builder().status(code).body(()).expect("a status is given")
}

/// Bytes of which no two pieces are alike.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(31) ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}
