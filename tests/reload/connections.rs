//! The connections that are open, as whoever asks the workers sees them.

use std::sync::Arc;

use forebay::observe::connections::{Connection, Listing, Protocol};
use tokio::runtime::Runtime;

use crate::client::{self, Client, within};
use crate::support::*;

fn listed(runtime: &Runtime, proxy: &Proxy, most: usize) -> Listing {
    runtime.block_on(proxy.server().running().connections().list(most))
}

#[test]
fn workers_tell_of_their_connections_and_the_requests_on_them() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let gate = Arc::new(Gate::default());
    let origin = answers_slow_requests_through(&gate, "hello");
    let toml = |pool: &str| {
        format!(
            "workers = 2\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
             [[route]]\nname = \"all\"\npool = \"{pool}\"\n[pool.{pool}]\nendpoints = [\"{}\"]\n",
            origin.address()
        )
    };
    let proxy = Proxy::start(&toml("app"));
    let all = || listed(&runtime, &proxy, 100);
    assert_eq!((all().open, all().silent), (0, 0));
    let mut idle = proxy.connect();
    let mut slow = proxy.connect();
    idle.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(idle.response().status(), 200);
    slow.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(slow.head().expect("the answer begins").status(), 200);
    let of = |listing: &Listing, client: &Link| -> Connection {
        let peer = client.tcp().local_addr().ok();
        listing.connections.iter().find(|one| one.peer == peer).expect("it is listed").clone()
    };
    proxy.reload(&toml("other")).unwrap();
    eventually("the first request is over", || of(&all(), &idle).latest.is_none());
    let listing = all();
    assert_eq!((listing.open, listing.silent), (2, 0));
    let shown = of(&listing, &idle);
    assert_eq!((shown.listener.as_str(), shown.protocol, shown.requests), ("web", Protocol::Http1, 1));
    assert_eq!((shown.under_way, shown.ending, shown.tls_version), (0, false, None));
    let shown = of(&listing, &slow);
    assert_eq!((shown.requests, shown.under_way), (1, 1));
    let request = shown.latest.expect("it is under way");
    let names = [request.route, request.pool].map(|name| name.map(|name| name.to_string()));
    assert_eq!(names, ["all", "app"].map(|name| Some(name.to_owned())));
    assert_eq!(request.endpoint, Some(origin.address().to_string()));
    assert_eq!((request.generation, request.tunnel), (1, false));
    assert_eq!(listed(&runtime, &proxy, 1).connections.len(), 1);
    let (two, response) = runtime.block_on(async {
        let client = Client::to(proxy.address("web")).await;
        let (response, _) = client.start(client::get("/slow"), true).await.unwrap();
        (client, within(response).await.unwrap())
    });
    let listing = all();
    let shown = listing.connections.iter().find(|one| one.protocol == Protocol::Http2).expect("it is listed");
    assert_eq!((shown.requests, shown.under_way), (1, 1));
    assert_eq!(shown.latest.as_ref().map(|request| request.generation), Some(2));
    drop((response, two, idle, slow));
    gate.open();
    eventually("all are gone", || all().open == 0);
}
