//! A check over HTTP/2: a connection, one request on it, and its answer as far as it is needed for a
//! verdict.

use std::future::pending;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use http::Request;

use super::ask::{Failed, Open, Progress, failed};
use crate::health::probe::{Call, Judgement};
use crate::net::stream::Stream;

/// Sends the request and has the answer judged.
pub(super) async fn carry_out(
    request: (Request<()>, Bytes),
    call: &dyn Call,
    stream: Stream,
    progress: &mut Progress,
) -> Result<(), Failed> {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .max_header_list_size(LONGEST_HEAD)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    let (send, connection) = builder.handshake(stream).await.map_err(not_http2)?;
    let mut connection = Box::new(connection);
    let exchange = exchange(request, call, send, progress);
    let verdict = tokio::select! {
        biased;
        verdict = exchange => verdict,
        verdict = driving(&mut connection) => verdict,
    };
    progress.open = Some(Open::Http2(connection));
    verdict
}

/// Moves the connection. How it ends, the exchange learns when it goes on.
async fn driving(connection: &mut Connection<Stream, Bytes>) -> Result<(), Failed> {
    let _ = connection.await;
    pending().await
}

async fn exchange(
    (request, message): (Request<()>, Bytes),
    call: &dyn Call,
    send: SendRequest<Bytes>,
    progress: &mut Progress,
) -> Result<(), Failed> {
    let mut send = send.ready().await.map_err(not_http2)?;
    let (answer, mut body) = send.send_request(request, message.is_empty()).map_err(not_http2)?;
    if !message.is_empty() {
        body.send_data(message, true).map_err(not_http2)?;
    }
    let (head, mut body) = answer.await.map_err(not_http2)?.into_parts();
    progress.answered = true;
    let mut came = Vec::new();
    let mut judgement = call.judge(&head, &came, None);
    while judgement == Judgement::More {
        judgement = match body.data().await {
            Some(data) => {
                let data = data.map_err(not_http2)?;
                came.extend_from_slice(&data);
                if came.len() > LONGEST_BODY {
                    return Err(Failed::Endpoint(format!("no verdict in {} bytes", came.len())));
                }
                call.judge(&head, &came, None)
            }
            None => {
                let trailers = body.trailers().await.map_err(not_http2)?.unwrap_or_default();
                match call.judge(&head, &came, Some(&trailers)) {
                    Judgement::More => Judgement::Fail("no verdict in the whole answer".to_owned()),
                    verdict => verdict,
                }
            }
        };
    }
    match judgement {
        Judgement::Fail(why) => Err(Failed::Endpoint(why)),
        Judgement::Pass | Judgement::More => Ok(()),
    }
}

fn not_http2(error: h2::Error) -> Failed {
    let words = format!("HTTP/2 failed: {error}");
    match error.into_io() {
        Some(error) => failed("before the end of the answer", error),
        None => Failed::Endpoint(words),
    }
}

/// Of header fields, in bytes.
const LONGEST_HEAD: u32 = 32 * 1024;
/// More of a body than this is not judged, in bytes.
const LONGEST_BODY: usize = 80 * 1024;
/// So much may come without being asked for: as much as is judged.
const WINDOW: u32 = 96 * 1024;
