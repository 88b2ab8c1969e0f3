//! A DNS server on 127.0.0.1, over UDP and TCP, whose answers a test changes while it runs. Anything else
//! than what the test says, such as truncation, is hickory-server's.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hickory_resolver::net::runtime::Time;
use hickory_resolver::proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::oneshot;

/// A running server.
pub(crate) struct NameServer {
    address: SocketAddr,
    book: Book,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What is answered, by name in lower case; what is not there does not exist.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<HashMap<String, Page>>>);

#[derive(Clone, Default)]
struct Page {
    answer: Answer,
    asked: usize,
    over_tcp: usize,
}

/// An answer to a name.
#[derive(Clone, Debug, Default)]
pub(crate) enum Answer {
    /// Its addresses, and how many seconds they live.
    Addresses(Vec<IpAddr>, u32),
    /// SRV records: priority, weight, port, target.
    Services(Vec<(u16, u16, u16, &'static str)>, u32),
    /// The name is there and has no records.
    Nothing,
    /// There is no such name.
    #[default]
    NoName,
    /// SERVFAIL.
    Fails,
    /// None at all.
    Silence,
}

impl NameServer {
    pub(crate) fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap())
    }

    pub(crate) fn start_at(address: SocketAddr) -> Self {
        let book = Book::default();
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (udp, tcp) = runtime.block_on(bound(address));
        let address = udp.local_addr().unwrap();
        let mut server = Server::new(book.clone());
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                server.register_socket(udp);
                server.register_listener(tcp, Duration::from_secs(10), 16);
                let _ = ended.await;
                let _ = server.shutdown_gracefully().await;
            });
        });
        Self { address, book, end: Some(end), thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn answer(&self, name: &str, answer: Answer) {
        self.book.with(name, |page| page.answer = answer);
    }

    pub(crate) fn addresses(&self, name: &str, addresses: &[&str], ttl: u32) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.answer(name, Answer::Addresses(addresses, ttl));
    }

    /// How often the name was asked for.
    pub(crate) fn asked(&self, name: &str) -> usize {
        self.book.with(name, |page| page.asked)
    }

    /// How often over TCP.
    pub(crate) fn asked_over_tcp(&self, name: &str) -> usize {
        self.book.with(name, |page| page.over_tcp)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        drop(self.end.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Both sockets on one port.
async fn bound(address: SocketAddr) -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind(address).await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both");
}

impl Book {
    fn with<T>(&self, name: &str, job: impl FnOnce(&mut Page) -> T) -> T {
        job(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default())
    }

    async fn reply<R: ResponseHandler>(&self, request: &Request, mut response: R) -> ResponseInfo {
        let info = request.request_info().expect("there is one question");
        let name = info.query.name().to_string();
        let plain = name.trim_end_matches('.');
        let over_tcp = info.protocol == hickory_resolver::net::xfer::Protocol::Tcp;
        let answer = self.with(plain, |page| {
            page.asked += 1;
            page.over_tcp += usize::from(over_tcp);
            page.answer.clone()
        });
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let mut records = Vec::new();
        let owner = Name::from_ascii(&name).unwrap();
        match (&answer, info.query.query_type()) {
            (Answer::Silence, _) => return nothing(metadata),
            (Answer::Fails, _) => metadata.response_code = ResponseCode::ServFail,
            (Answer::NoName, _) => metadata.response_code = ResponseCode::NXDomain,
            (Answer::Addresses(addresses, ttl), kind @ (RecordType::A | RecordType::AAAA)) => {
                let fitting = addresses.iter().filter(|ip| ip.is_ipv4() == (kind == RecordType::A));
                records.extend(fitting.map(|ip| Record::from_rdata(owner.clone(), *ttl, RData::from(*ip))));
            }
            (Answer::Services(services, ttl), RecordType::SRV) => {
                records.extend(services.iter().map(|(priority, weight, port, target)| {
                    let target = Name::from_ascii(format!("{target}.")).unwrap();
                    let srv = SRV::new(*priority, *weight, *port, target);
                    Record::from_rdata(owner.clone(), *ttl, RData::SRV(srv))
                }));
            }
            _ => {}
        }
        let message =
            MessageResponseBuilder::from_message_request(request).build(metadata, &records, [], [], []);
        response.send_response(message).await.unwrap_or_else(|_| nothing(metadata))
    }
}

fn nothing(metadata: Metadata) -> ResponseInfo {
    Header { metadata, counts: HeaderCounts::default() }.into()
}

// Spelled out, for the macro that writes this is not among our dependencies.
impl RequestHandler for Book {
    fn handle_request<'a, 'b, 'c, R: ResponseHandler + 'c, T: Time + 'c>(
        &'a self,
        request: &'b Request,
        response_handle: R,
    ) -> Pin<Box<dyn Future<Output = ResponseInfo> + Send + 'c>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(self.reply(request, response_handle))
    }
}
