//! Temporary stand-in for the server, so that the face compiles: it forwards by hyper, badly.

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Empty, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use thiserror::Error;

use crate::ambient;
use crate::balance::Gauge;
use crate::config::Plan;
use crate::model::{Address, Name, Target};
use crate::observe::metrics::{EndpointMetrics, EndpointTotals, FailureKind, Registry, Shard};

/// How to start.
#[derive(Debug, Default)]
pub struct Options {
    /// Worker threads.
    pub workers: Option<NonZeroUsize>,
}

/// Why it did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Not bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// Where.
        address: Address,
        /// Why.
        source: std::io::Error,
    },
}

/// An endpoint.
#[derive(Debug)]
pub struct EndpointReading {
    /// Its pool.
    pub pool: Name,
    /// Its address.
    pub endpoint: String,
    /// Its state.
    pub state: &'static str,
    /// Its counts.
    pub totals: EndpointTotals,
}

struct E {
    pool: Name,
    addr: std::net::SocketAddr,
    m: Arc<EndpointMetrics>,
    g: Arc<Gauge>,
}

/// The server.
pub struct Server {
    listeners: Vec<(Name, Vec<Address>)>,
    admin: Option<Address>,
    eps: Arc<Vec<E>>,
}

#[allow(
    missing_docs,
    clippy::allow_attributes_without_reason,
    clippy::missing_errors_doc,
    clippy::must_use_candidate,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]
impl Server {
    pub fn start(plan: Plan, _options: Options) -> Result<Self, StartError> {
        let reg = Registry::new(1);
        let mut eps = vec![];
        for pool in &plan.pools {
            for e in &pool.endpoints {
                let Target::Address(Address::Inet(addr)) = &e.target else { continue };
                let g = Arc::new(Gauge::new(1));
                eps.push(E {
                    pool: pool.name.clone(),
                    addr: *addr,
                    m: reg.endpoint(&pool.name, &addr.to_string(), &g),
                    g,
                });
            }
        }
        let eps = Arc::new(eps);
        let mut listeners = vec![];
        let bind = |a: &Address| -> Result<std::net::TcpListener, StartError> {
            let s = a.inet().unwrap();
            let l = std::net::TcpListener::bind(s)
                .map_err(|source| StartError::Bind { address: a.clone(), source })?;
            l.set_nonblocking(true).unwrap();
            Ok(l)
        };
        for l in &plan.listeners {
            let mut bound = vec![];
            for a in &l.bind {
                let std = bind(a)?;
                bound.push(Address::Inet(std.local_addr().unwrap()));
                let eps = eps.clone();
                std::thread::spawn(move || {
                    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    let local = tokio::task::LocalSet::new();
                    local.block_on(&rt, async move {
                        let l = tokio::net::TcpListener::from_std(std).unwrap();
                        let turn = Arc::new(AtomicUsize::new(0));
                        loop {
                            let (s, _) = l.accept().await.unwrap();
                            let eps = eps.clone();
                            let turn = turn.clone();
                            tokio::task::spawn_local(async move {
                                let _ = hyper::server::conn::http1::Builder::new()
                                    .serve_connection(
                                        TokioIo::new(s),
                                        service_fn(move |r| forward(r, eps.clone(), turn.clone())),
                                    )
                                    .await;
                            });
                        }
                    });
                });
            }
            listeners.push((l.name.clone(), bound));
        }
        let admin = match &plan.admin {
            Some(a) => {
                let std = bind(&a.bind)?;
                let at = Address::Inet(std.local_addr().unwrap());
                std::thread::spawn(move || {
                    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    let local = tokio::task::LocalSet::new();
                    local.block_on(&rt, async move {
                        let l = tokio::net::TcpListener::from_std(std).unwrap();
                        loop {
                            let (s, _) = l.accept().await.unwrap();
                            let reg = reg.clone();
                            tokio::task::spawn_local(async move {
                                let _ = hyper::server::conn::http1::Builder::new()
                                    .serve_connection(
                                        TokioIo::new(s),
                                        service_fn(move |_| {
                                            let b = reg.render();
                                            async move {
                                                Ok::<_, std::convert::Infallible>(http::Response::new(
                                                    Full::<Bytes>::new(b.into()),
                                                ))
                                            }
                                        }),
                                    )
                                    .await;
                            });
                        }
                    });
                });
                Some(at)
            }
            None => None,
        };
        Ok(Self { listeners, admin, eps })
    }
    pub fn listeners(&self) -> &[(Name, Vec<Address>)] {
        &self.listeners
    }
    pub fn admin(&self) -> Option<&Address> {
        self.admin.as_ref()
    }
    pub fn endpoints(&self) -> Vec<EndpointReading> {
        self.eps
            .iter()
            .map(|e| EndpointReading {
                pool: e.pool.clone(),
                endpoint: e.addr.to_string(),
                state: "up",
                totals: e.m.totals(),
            })
            .collect()
    }
    pub fn run_until_signal(self) -> ExitCode {
        loop {
            std::thread::park()
        }
    }
    pub fn drain(&self) {}
    pub fn wait(self) {}
}

async fn forward(
    r: http::Request<hyper::body::Incoming>,
    eps: Arc<Vec<E>>,
    turn: Arc<AtomicUsize>,
) -> Result<http::Response<Either<hyper::body::Incoming, Empty<Bytes>>>, std::io::Error> {
    let e = &eps[turn.fetch_add(1, Ordering::Relaxed) % eps.len()];
    let s = Shard::worker(0);
    e.m.requested(s);
    e.g.begin();
    let began = ambient::now();
    let out = async {
        let stream = tokio::net::TcpStream::connect(e.addr).await?;
        let (mut tx, conn) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        tokio::task::spawn_local(async {
            let _ = conn.await;
        });
        let resp = tx.send_request(r).await.map_err(std::io::Error::other)?;
        Ok::<_, std::io::Error>(resp)
    }
    .await;
    e.g.end();
    match out {
        Ok(resp) => {
            e.m.responded(s, resp.status().as_u16(), ambient::now() - began);
            let _ = resp.body().size_hint();
            Ok(resp.map(Either::Left))
        }
        Err(_) => {
            e.m.failed(s, FailureKind::Reset);
            let mut x = http::Response::new(Either::Right(Empty::new()));
            *x.status_mut() = http::StatusCode::BAD_GATEWAY;
            Ok(x)
        }
    }
}
#[allow(unused_imports)]
use BodyExt as _;
use hyper::body::Body as _;
