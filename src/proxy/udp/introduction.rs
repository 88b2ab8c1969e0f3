//! What datagrams begin with where endpoints are told of clients: a PROXY protocol header of version 2
//! before each of them, since any may be lost or come before another. Does not know what they carry.

use std::cell::RefCell;
use std::net::SocketAddr;

use crate::model::settings::{HeaderVersion, HeadersOut};
use crate::proxy::proxy_protocol::made;
use crate::wire::proxy_protocol::v2::{Style, Transport, encode};
use crate::wire::proxy_protocol::{Ends, Header, Told};

/// What an endpoint is told of a flow.
#[derive(Debug)]
pub(super) struct Introduction {
    header: RefCell<Header>,
    style: Style,
}

impl Introduction {
    /// For a new flow. `None` in version 1, which has no word for datagrams.
    pub(super) fn new(headers: HeadersOut) -> Option<Self> {
        let unique_id = headers.told.unique_id.then(made);
        let style = Style { transport: Transport::Datagram, checksum: headers.told.checksum };
        let header = Header { ends: None, told: Told { unique_id, ..Told::default() } };
        (headers.version == HeaderVersion::V2).then(|| Self { header: RefCell::new(header), style })
    }

    /// Writes the header of a datagram: that a flow is one does not mean that its client has one port.
    pub(super) fn write(&self, client: SocketAddr, local: SocketAddr, out: &mut Vec<u8>) {
        let mut header = self.header.borrow_mut();
        header.ends = Some(Ends { source: client, destination: local });
        encode(&header, self.style, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::settings::HeaderValues;
    use crate::wire::proxy_protocol::v2::parse;

    #[test]
    fn datagrams_of_a_flow_have_their_own_ports_and_one_id() {
        let told = HeaderValues { unique_id: true, checksum: true, ..HeaderValues::default() };
        let introduction = Introduction::new(HeadersOut { version: HeaderVersion::V2, told }).unwrap();
        let local = "[2001:db8::1]:53".parse().unwrap();
        let read = |port: u16| {
            let mut out = Vec::new();
            introduction.write(SocketAddr::from(([192, 0, 2, 1], port)), local, &mut out);
            assert_eq!(out[12..14], [0x21, 0x22], "of a proxy, UDP over IPv6");
            parse(&out).unwrap().unwrap().0
        };
        let (first, second) = (read(1000), read(2000));
        assert_eq!(first.told.unique_id.as_ref().map(|id| id.len()), Some(32));
        assert_eq!(first.told, second.told);
        assert_eq!(first.ends.unwrap().source.port(), 1000);
        assert_eq!(second.ends.unwrap().source.port(), 2000);
    }

    #[test]
    fn version_1_tells_nothing_of_datagrams() {
        let told = HeaderValues::default();
        assert!(Introduction::new(HeadersOut { version: HeaderVersion::V1, told }).is_none());
    }
}
