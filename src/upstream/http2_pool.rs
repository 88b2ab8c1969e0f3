//! HTTP/2 connections of one worker to one endpoint. Requests share a connection until it has as
//! many streams as it may; then another is opened, by one request while the others wait for it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::connection::OpenConnection;
use super::{Endpoint, LocalEndpoint};
use crate::net::connect::{DialError, DialTimeouts, dial};

/// Open connections.
#[derive(Debug, Default)]
pub struct Http2Pool {
    open: RefCell<Vec<Rc<Http2Connection>>>,
    opening: Mutex<()>,
}

/// A connection, while any request or the pool holds it.
#[derive(Debug)]
struct Http2Connection {
    send: SendRequest<Bytes>,
    streams: Cell<usize>,
    closed: Rc<Cell<bool>>,
}

/// The right to one stream on a connection, given back when dropped.
#[derive(Debug)]
pub struct StreamPermit {
    connection: Rc<Http2Connection>,
    reused: bool,
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The endpoint does not speak HTTP/2.
    #[error("HTTP/2 handshake failed")]
    Handshake(#[source] h2::Error),
    /// The endpoint did not answer the HTTP/2 preface in time.
    #[error("HTTP/2 handshake timed out after {0:?}")]
    HandshakeTimeout(Duration),
}

impl Http2Pool {
    /// The right to a stream, on an open connection if one has room.
    ///
    /// # Errors
    /// When a connection had to be opened and could not be.
    pub async fn stream(
        &self,
        endpoint: &LocalEndpoint,
        limit: usize,
        timeouts: DialTimeouts,
    ) -> Result<StreamPermit, OpenError> {
        if let Some(permit) = self.room(limit) {
            return Ok(permit);
        }
        let _turn = self.opening.lock().await;
        if let Some(permit) = self.room(limit) {
            return Ok(permit);
        }
        self.fresh(endpoint, timeouts).await
    }

    /// The right to a stream on a connection that is opened for it.
    ///
    /// # Errors
    /// When the connection could not be opened.
    pub async fn fresh(
        &self,
        endpoint: &LocalEndpoint,
        timeouts: DialTimeouts,
    ) -> Result<StreamPermit, OpenError> {
        let open = OpenConnection::new(Arc::clone(&endpoint.shared), endpoint.shard);
        let connection = Rc::new(connect(&endpoint.shared, open, timeouts).await?);
        self.open.borrow_mut().push(Rc::clone(&connection));
        Ok(StreamPermit::new(connection, false))
    }

    fn room(&self, limit: usize) -> Option<StreamPermit> {
        let mut open = self.open.borrow_mut();
        open.retain(|connection| !connection.closed.get());
        let with_room = open.iter().find(|connection| connection.streams.get() < limit)?;
        Some(StreamPermit::new(Rc::clone(with_room), true))
    }
}

impl StreamPermit {
    fn new(connection: Rc<Http2Connection>, reused: bool) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        Self { connection, reused }
    }

    /// What sends a request on the connection.
    #[must_use]
    pub fn sender(&self) -> SendRequest<Bytes> {
        self.connection.send.clone()
    }

    /// Whether the connection was open before.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Lets no further request use the connection.
    pub fn retire(&self) {
        self.connection.closed.set(true);
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.connection.streams.set(self.connection.streams.get().saturating_sub(1));
    }
}

async fn connect(
    endpoint: &Endpoint,
    open: OpenConnection,
    timeouts: DialTimeouts,
) -> Result<Http2Connection, OpenError> {
    let stream = dial(&endpoint.dial, timeouts).await?;
    let mut settings = h2::client::Builder::new();
    settings
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_LIST);
    let handshake = timeout(timeouts.connect, settings.handshake(stream)).await;
    let (send, connection) = match handshake {
        Ok(done) => done.map_err(OpenError::Handshake)?,
        Err(_) => return Err(OpenError::HandshakeTimeout(timeouts.connect)),
    };
    let closed = Rc::new(Cell::new(false));
    let ended = Rc::clone(&closed);
    tokio::task::spawn_local(async move {
        let end = connection.await;
        ended.set(true);
        drop(open);
        if let Err(error) = end {
            tracing::debug!(%error, "HTTP/2 connection to an endpoint ended");
        }
    });
    Ok(Http2Connection { send, streams: Cell::new(0), closed })
}

/// Bytes that an endpoint may send on one stream before we have passed them on.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes that an endpoint may send on all streams of a connection before we have passed them on.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes of a response's header fields, uncompressed (RFC 9113 §6.5.2).
const MAX_HEADER_LIST: u32 = 128 * 1024;
