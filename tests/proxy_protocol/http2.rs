//! HTTP/2 for these tests: a client that says what it got, and an endpoint that says what it was told.

use std::net::TcpStream;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::runtime::{Builder, Runtime};

use crate::support::*;
use crate::{header_of, shown};

/// A client's connection.
pub(crate) struct Http2 {
    runtime: Runtime,
    send: SendRequest<Bytes>,
}

impl Http2 {
    /// Speaks it over `tcp`, on which nothing was sent yet.
    pub(crate) fn over(tcp: TcpStream) -> Self {
        let runtime = runtime();
        let opened = async { h2::client::handshake(nonblocking(tcp)).await.unwrap() };
        let (send, connection) = runtime.block_on(opened);
        runtime.spawn(connection);
        Self { runtime, send }
    }

    /// The body of the answer to a `GET`.
    pub(crate) fn get(&mut self) -> String {
        let request = http::Request::get("http://test/").body(()).unwrap();
        let answer = async {
            let mut send = self.send.clone().ready().await.unwrap();
            let (response, _) = send.send_request(request, true).unwrap();
            let mut body = response.await.unwrap().into_body();
            let mut text = Vec::new();
            while let Some(data) = body.data().await {
                text.extend_from_slice(&data.unwrap());
            }
            String::from_utf8(text).unwrap()
        };
        self.runtime.block_on(async { tokio::time::timeout(DEADLINE, answer).await.unwrap() })
    }
}

/// Answers requests with what it was told when the connection began.
pub(crate) fn tells_what_it_was_told() -> Origin {
    Origin::run(|conn| {
        let Some(header) = header_of(conn.link.tcp()) else { return };
        let text = Bytes::from(shown(header));
        let tcp = conn.link.tcp().try_clone().unwrap();
        runtime().block_on(async {
            let mut connection = h2::server::handshake(nonblocking(tcp)).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let mut body = respond.send_response(http::Response::new(()), false).unwrap();
                body.send_data(text.clone(), true).unwrap();
            }
        });
    })
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn nonblocking(tcp: TcpStream) -> tokio::net::TcpStream {
    tcp.set_nonblocking(true).unwrap();
    tokio::net::TcpStream::from_std(tcp).unwrap()
}
