//! The same over HTTP/2, on both sides.

use std::sync::mpsc;

use crate::client::{Client, get};
use crate::origin::{Asked, Origin};
use crate::support::Plain;
use crate::{ALL, parent_of, requests, says, tracing, tries};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_parts_of_their_own_traces() {
    let (tell, told) = mpsc::channel();
    let origin = Origin::run(move |asked: Asked| {
        let parent =
            asked.request.headers().get("traceparent").map(|value| value.to_str().unwrap().to_owned());
        tell.send(parent).unwrap();
        asked.answer("hello")
    })
    .await;
    let plain = Plain { pool: "protocol = \"http2\"", ..Plain::default() };
    let proxy = tracing(ALL, plain, &[origin.address]);
    let client = Client::to(proxy.address("web")).await;
    for (parent, connects) in [(Some(PARENT), 1), (None, 0)] {
        let mut request = get("/");
        if let Some(parent) = parent {
            request.headers_mut().insert("traceparent", parent.parse().unwrap());
        }
        assert_eq!(client.ask(request, b"").await.unwrap().body, "hello");
        let spans = requests(&proxy, 1).remove(0);
        assert_eq!(spans[0].parent.is_some(), parent.is_some());
        assert_eq!(told.recv().unwrap(), Some(parent_of(tries(&spans)[0], true)));
        for span in [&spans[0], tries(&spans)[0]] {
            assert_eq!(says(span, "network.protocol.version"), "2");
        }
        assert_eq!(spans.iter().filter(|span| span.name == "connect").count(), connects);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_reset_is_a_try_that_failed() {
    let bad = Origin::run(|mut asked: Asked| async move {
        asked.respond.send_reset(h2::Reason::INTERNAL_ERROR);
    })
    .await;
    let good = Origin::run(|asked: Asked| asked.answer("hello")).await;
    let plain = Plain { pool: "protocol = \"http2\"", ..Plain::default() };
    let proxy = tracing(ALL, plain, &[bad.address, good.address]);
    let client = Client::to(proxy.address("web")).await;
    for _ in 0..2 {
        assert_eq!(client.ask(get("/"), b"").await.unwrap().body, "hello");
    }
    let spans = requests(&proxy, 2).into_iter().find(|spans| tries(spans).len() == 2).unwrap();
    let [first, second] = tries(&spans)[..] else { unreachable!("there are two: {spans:#?}") };
    assert_eq!((says(first, "error.type"), &second.failed), ("connection_terminated".into(), &None));
}
