//! The loads that proxies are compared under, as a table: what a client does, over which
//! listener, and the ratio to the better peer that Forebay aims at.

use clap::ValueEnum;

use crate::peers::Door;

/// One kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// Kept HTTP/1.1 connections, small bodies
    H1,
    /// The same over TLS
    TlsH1,
    /// HTTP/2 over TLS, small bodies
    H2Tls,
    /// Kept HTTP/1.1 connections, bodies of 1 MiB
    #[value(name = "h1-1mib")]
    H1Mebibyte,
    /// A connection from the client per request
    H1Close,
    /// HTTP/2 by prior knowledge, without TLS
    H2c,
    /// Kept connections passed on unread, small bodies
    #[value(skip)]
    Stream,
    /// The same with bodies of 1 MiB
    #[value(skip)]
    StreamMebibyte,
    /// Connections passed on unread, each for one small body
    #[value(skip)]
    StreamClose,
}

/// What a load generator is told to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// In words, for the report.
    pub(crate) words: &'static str,
    /// The listener it goes to.
    pub(crate) door: Door,
    /// The origin's path, with its leading slash.
    pub(crate) path: &'static str,
    /// The program that makes it.
    pub(crate) generator: Generator,
    /// The most CPU per request, relative to the better peer's, that is aimed at.
    pub(crate) target: Option<f64>,
}

/// A load generator and how it is set.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Generator {
    /// HTTP/1.1 connections, each with one request at a time.
    Wrk { connections: u32, close: bool },
    /// HTTP/2 connections, each with several requests at a time.
    H2load { connections: u32, streams: u32 },
}

impl Case {
    /// Those with a target.
    pub(crate) const TARGETED: [Self; 5] =
        [Self::H1, Self::TlsH1, Self::H2Tls, Self::H1Mebibyte, Self::H1Close];

    /// Those of proxies that read nothing.
    pub(crate) const LAYER4: [Self; 3] = [Self::Stream, Self::StreamMebibyte, Self::StreamClose];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::H1 => "h1",
            Self::TlsH1 => "tls-h1",
            Self::H2Tls => "h2-tls",
            Self::H1Mebibyte => "h1-1mib",
            Self::H1Close => "h1-close",
            Self::H2c => "h2c",
            Self::Stream => "tcp",
            Self::StreamMebibyte => "tcp-1mib",
            Self::StreamClose => "tcp-close",
        }
    }

    pub(crate) fn shape(self) -> Shape {
        let kept = Generator::Wrk { connections: 64, close: false };
        let streams = Generator::H2load { connections: 8, streams: 8 };
        match self {
            Self::H1 => Shape {
                words: "64 kept HTTP/1.1 connections, 100-byte bodies",
                door: Door::Plain,
                path: SMALL,
                generator: kept,
                target: Some(1.00),
            },
            Self::TlsH1 => Shape {
                words: "the same over TLS 1.3 (AES-256-GCM, ECDSA P-256)",
                door: Door::Tls,
                path: SMALL,
                generator: kept,
                target: Some(1.05),
            },
            Self::H2Tls => Shape {
                words: "HTTP/2 over TLS 1.3, 8 connections of 8 streams, 100-byte bodies",
                door: Door::Tls,
                path: SMALL,
                generator: streams,
                target: Some(1.10),
            },
            Self::H1Mebibyte => Shape {
                words: "16 kept HTTP/1.1 connections, bodies of 1 MiB",
                door: Door::Plain,
                path: MEBIBYTE,
                generator: Generator::Wrk { connections: 16, close: false },
                target: Some(0.65),
            },
            Self::H1Close => Shape {
                words: "64 clients, each request on a new connection (`Connection: close`)",
                door: Door::Plain,
                path: SMALL,
                generator: Generator::Wrk { connections: 64, close: true },
                target: Some(1.15),
            },
            Self::H2c => Shape {
                words: "HTTP/2 by prior knowledge, 8 connections of 8 streams, 100-byte bodies",
                door: Door::H2c,
                path: SMALL,
                generator: streams,
                target: None,
            },
            Self::Stream | Self::StreamMebibyte | Self::StreamClose => self.stream(),
        }
    }

    /// The loads of connections that are passed on unread.
    fn stream(self) -> Shape {
        let small = Shape {
            words: "64 kept connections, requests of 45 bytes, answers of 266",
            door: Door::Plain,
            path: SMALL,
            generator: Generator::Wrk { connections: 64, close: false },
            target: Some(1.00),
        };
        match self {
            Self::StreamMebibyte => Shape {
                words: "16 kept connections, answers of 1 MiB",
                path: MEBIBYTE,
                generator: Generator::Wrk { connections: 16, close: false },
                target: Some(0.60),
                ..small
            },
            Self::StreamClose => Shape {
                words: "64 clients, each answer on a new connection, which the origin closes",
                path: CLOSING,
                ..small
            },
            _ => small,
        }
    }
}

/// Answered with a body of 100 bytes.
pub(crate) const SMALL: &str = "/small";
/// The same, after which the origin closes the connection.
pub(crate) const CLOSING: &str = "/closing";
/// Answered with a body of 1 MiB.
pub(crate) const MEBIBYTE: &str = "/mebibyte";
/// Answered with the request head as the origin received it.
pub(crate) const ECHO: &str = "/echo";
