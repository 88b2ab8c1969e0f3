//! Settings of connections and flows that are passed on without a look at what they carry.

use std::time::Duration;

use super::HeadersIn;

/// Time limits of a `tcp` or `tls` listener.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamTimeouts {
    /// From accept to the last byte of a PROXY protocol header, where one is read.
    pub proxy_protocol: Duration,
    /// From accept to the end of the TLS handshake, where TLS is terminated.
    pub tls_handshake: Duration,
    /// From accept to the last byte of the `ClientHello`, where that is looked at.
    pub client_hello: Duration,
    /// Without a byte either way.
    pub idle: Duration,
    /// For a whole connection, from accept on. Off when unset.
    pub max_duration: Option<Duration>,
}

impl Default for StreamTimeouts {
    fn default() -> Self {
        Self {
            proxy_protocol: HeadersIn::TIMEOUT,
            tls_handshake: Duration::from_secs(5),
            client_hello: Duration::from_secs(5),
            idle: Duration::from_secs(3600),
            max_duration: None,
        }
    }
}

/// What is a flow to a `udp` listener, and how many there may be.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowSettings {
    /// Whether the client's port tells its flows apart.
    pub by_port: bool,
    /// Without a datagram either way.
    pub idle: Duration,
    /// Flows of the listener at once, shared out evenly among the workers: past it the one idle longest
    /// gives way.
    pub most: u32,
    /// Datagrams from the client that are one flow, at least 1: the next begins another. Any number when
    /// unset.
    pub requests: Option<u32>,
    /// Datagrams to the client that answer each of its own, as 1 for DNS: with the last one that is due
    /// the flow ends. Any number when unset.
    pub replies: Option<u32>,
}

impl Default for FlowSettings {
    fn default() -> Self {
        Self { by_port: true, idle: Duration::from_secs(30), most: 65_536, requests: None, replies: None }
    }
}
