//! What is on the wire, as bytes: HTTP/1.1 (RFC 9112), the PROXY protocol, and what a TLS client says first.
//! Pure: works on buffers, never on sockets. Strict in what it accepts, because whatever two readers of one
//! message could understand differently is how requests are smuggled.

pub mod chunked;
pub mod client_hello;
pub mod encode;
pub mod framing;
pub mod parse;
pub mod proxy_protocol;

pub use framing::Length;

/// What is wrong with the bytes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The request line cannot be read.
    #[error("malformed request line")]
    RequestLine,
    /// The status line cannot be read.
    #[error("malformed status line")]
    StatusLine,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("unsupported HTTP version")]
    Version,
    /// A field name is not a token, or white space stands before its colon.
    #[error("malformed field name")]
    FieldName,
    /// A field value holds a control character, a bare CR or a NUL.
    #[error("malformed field value")]
    FieldValue,
    /// A line ends in something other than CR LF or LF.
    #[error("malformed line ending")]
    LineEnding,
    /// More bytes before the first space or line end than a head may have.
    #[error("request target too long")]
    TargetTooLong,
    /// More bytes than a head may have.
    #[error("head too large")]
    HeadTooLarge,
    /// More fields than a head may have.
    #[error("too many header fields")]
    TooManyFields,
    /// The request target is in no form of RFC 9112 §3.2.
    #[error("malformed request target")]
    Target,
    /// An HTTP/1.1 request without `Host`.
    #[error("missing Host")]
    HostMissing,
    /// `Host` more than once.
    #[error("more than one Host")]
    HostRepeated,
    /// `Host` is not a host with an optional port.
    #[error("malformed Host")]
    HostInvalid,
    /// `Content-Length` is not one decimal number.
    #[error("invalid Content-Length")]
    ContentLength,
    /// Both `Content-Length` and `Transfer-Encoding`.
    #[error("both Content-Length and Transfer-Encoding")]
    BothLengths,
    /// `Transfer-Encoding` does not end in one `chunked`, or the version has none.
    #[error("invalid Transfer-Encoding")]
    TransferEncoding,
    /// A transfer coding other than `chunked`.
    #[error("unsupported transfer coding")]
    TransferCoding,
    /// A chunk's size, extension or end cannot be read.
    #[error("malformed chunk")]
    Chunk,
    /// Trailer fields are malformed or too large.
    #[error("malformed trailers")]
    Trailers,
}
