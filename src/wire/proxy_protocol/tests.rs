use super::v2::{Style, Transport};
use super::*;

fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn v1_of(text: &str) -> Result<Option<(Header, usize)>, Malformed> {
    parse(text.as_bytes())
}

const STREAM: Style = Style { transport: Transport::Stream, checksum: false };

fn v2_of(header: &Header, style: Style) -> Vec<u8> {
    let mut out = Vec::new();
    v2::encode(header, style, &mut out);
    out
}

/// A header of version 2 of this kind with these bytes behind its fixed part.
fn raw(kind: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [v2::SIGNATURE, &[kind, family], &length, rest].concat()
}

/// Two IPv4 ends, then `values`.
fn with_values(values: &[u8]) -> Vec<u8> {
    raw(0x21, 0x11, &[&[10, 0, 0, 1, 10, 0, 0, 2, 4, 210, 1, 187], values].concat())
}

fn full() -> Header {
    let mut header = Header::between(end("192.0.2.7:1234"), end("198.51.100.1:443"));
    header.told = Told {
        alpn: Some(b"h2"[..].into()),
        authority: Some("shop.example".into()),
        unique_id: Some(b"0123"[..].into()),
        tls: Some(ToldTls {
            version: Some("TLSv1.3".into()),
            subject: Some("Jo".into()),
            shown: 2,
            verified: true,
        }),
    };
    header
}

#[test]
fn a_line_says_who_is_connected_to_whom() {
    let line = "PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\r\nGET /";
    let (header, used) = v1_of(line).unwrap().unwrap();
    assert_eq!(header, Header::between(end("192.0.2.7:1234"), end("198.51.100.1:443")));
    assert_eq!(&line[used..], "GET /");
    let (header, _) = v1_of("PROXY TCP6 2001:db8::1 ::1 0 65535\r\n").unwrap().unwrap();
    assert_eq!(header, Header::between(end("[2001:db8::1]:0"), end("[::1]:65535")));
}

#[test]
fn a_line_may_know_nothing() {
    for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 what ever 65535\r\n"] {
        assert_eq!(v1_of(line), Ok(Some((Header::default(), line.len()))), "{line:?}");
    }
}

#[test]
fn lines_that_are_not_exact_are_refused() {
    let malformed = [
        "PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1234\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1234 443 \r\n",
        "PROXY TCP4  192.0.2.7 198.51.100.1 1234 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 01234 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 +1234 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1234 65536\r\n",
        "PROXY TCP4 192.0.2.007 198.51.100.1 1234 443\r\n",
        "PROXY TCP4 ::1 ::1 1234 443\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.1 1234 443\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1234 443\r\n",
        "PROXY UDP4 192.0.2.7 198.51.100.1 1234 443\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\r\r\n",
        "PROXY \r\n",
        "PROXY TCP4 192.0.2.\u{e9} 198.51.100.1 1234 443\r\n",
    ];
    for line in malformed {
        assert_eq!(v1_of(line), Err(Malformed::Line), "{line:?}");
    }
    assert_eq!(v1_of("GET / HTTP/1.1\r\n"), Err(Malformed::Signature));
    assert_eq!(v1_of("proxy UNKNOWN\r\n"), Err(Malformed::Signature));
}

#[test]
fn a_line_has_107_bytes_at_most() {
    let line = |filling: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(filling));
    assert_eq!(v1_of(&line(107 - 16)), Ok(Some((Header::default(), 107))));
    assert_eq!(v1_of(&line(107 - 15)), Err(Malformed::TooLong));
    let open = format!("PROXY UNKNOWN {}", "x".repeat(92));
    assert_eq!(v1_of(&open), Ok(None));
    assert_eq!(v1_of(&format!("{open}x")), Err(Malformed::TooLong));
}

#[test]
fn what_is_cut_anywhere_waits_for_more() {
    let mut line = Vec::new();
    v1::encode(full().ends, &mut line);
    let checked = v2_of(&full(), Style { checksum: true, ..STREAM });
    for whole in [line, checked] {
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(parse(&whole).unwrap().unwrap().1, whole.len());
    }
}

#[test]
fn twelve_bytes_tell_what_begins() {
    let table: [(&[u8], Beginning); 9] = [
        (b"", Beginning::Undecided),
        (b"P", Beginning::Undecided),
        (b"PROXY", Beginning::Undecided),
        (b"PROXY ", Beginning::V1),
        (b"POST ", Beginning::Other),
        (b"\r\n\r\n\0\r\nQUIT", Beginning::Undecided),
        (b"\r\n\r\n\0\r\nQUIT\n", Beginning::V2),
        (b"\r\n\r\nGET", Beginning::Other),
        (b"\x16\x03\x01", Beginning::Other),
    ];
    for (first, expected) in table {
        assert_eq!(beginning(first), expected, "{first:?}");
    }
}

#[test]
fn all_that_is_written_is_read_again() {
    let unknown = Header { ends: None, ..full() };
    let ipv6 = Header::between(end("[2001:db8::1]:1"), end("[::1]:2"));
    for header in [full(), unknown, ipv6, Header::default()] {
        for checksum in [false, true] {
            for transport in [Transport::Stream, Transport::Datagram] {
                let bytes = v2_of(&header, Style { transport, checksum });
                assert_eq!(parse(&bytes), Ok(Some((header.clone(), bytes.len()))));
            }
        }
        let mut line = Vec::new();
        v1::encode(header.ends, &mut line);
        assert_eq!(parse(&line).unwrap().unwrap().0.ends, header.ends);
        assert!(line.len() <= v1::MAX);
    }
}

#[test]
fn the_bytes_are_those_of_the_specification() {
    let header = Header::between(end("10.0.0.1:1234"), end("10.0.0.2:443"));
    assert_eq!(v2_of(&header, STREAM), with_values(&[]));
    let mut local = Vec::new();
    v2::encode_local(&mut local);
    assert_eq!(local, raw(0x20, 0, &[]));
    assert_eq!(parse(&local), Ok(Some((Header::default(), 16))));
    let datagram = v2_of(&header, Style { transport: Transport::Datagram, checksum: false });
    assert_eq!(datagram[12..14], [0x21, 0x12]);
}

#[test]
fn families_are_aligned() {
    let header = Header::between(end("192.0.2.7:1"), end("[2001:db8::1]:2"));
    let (read, _) = parse(&v2_of(&header, STREAM)).unwrap().unwrap();
    assert_eq!(read, Header::between(end("[::ffff:192.0.2.7]:1"), end("[2001:db8::1]:2")));
    let header = Header::between(end("[::ffff:192.0.2.7]:1"), end("[::ffff:192.0.2.8]:2"));
    let mut line = Vec::new();
    v1::encode(header.ends, &mut line);
    assert_eq!(line, b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n");
}

#[test]
fn a_proxy_that_speaks_for_itself_is_not_asked_for_more() {
    let odd = raw(0x20, 0x77, &[1, 2, 3]);
    assert_eq!(parse(&odd), Ok(Some((Header::default(), odd.len()))));
    let unspecified = raw(0x21, 0, b"not values");
    assert_eq!(parse(&unspecified), Ok(Some((Header::default(), unspecified.len()))));
    let unix = raw(0x21, 0x31, &[0; 216]);
    assert_eq!(parse(&unix), Ok(Some((Header::default(), unix.len()))));
}

#[test]
fn binary_headers_that_are_not_exact_are_refused() {
    let table = [
        (raw(0x11, 0x11, &[0; 12]), Malformed::Kind),
        (raw(0x22, 0x11, &[0; 12]), Malformed::Kind),
        (raw(0x21, 0x10, &[0; 12]), Malformed::Kind),
        (raw(0x21, 0x41, &[0; 12]), Malformed::Kind),
        (raw(0x21, 0x11, &[0; 11]), Malformed::Addresses),
        (raw(0x21, 0x21, &[0; 35]), Malformed::Addresses),
        (raw(0x21, 0x31, &[0; 215]), Malformed::Addresses),
        (raw(0x21, 0x11, &[0; 4097]), Malformed::TooLong),
        (with_values(&[1]), Malformed::Values),
        (with_values(&[1, 0, 2, b'h']), Malformed::Values),
        (with_values(&[&[5, 0, 129][..], &[b'x'; 129]].concat()), Malformed::Values),
        (with_values(&[3, 0, 3, 1, 2, 3]), Malformed::Values),
        (with_values(&[3, 0, 4, 1, 2, 3, 4]), Malformed::Checksum),
        (with_values(&[0x20, 0, 4, 1, 0, 0, 0]), Malformed::Values),
        (with_values(&[0x20, 0, 7, 1, 0, 0, 0, 0, 0x21, 0]), Malformed::Values),
    ];
    for (bytes, error) in table {
        assert_eq!(parse(&bytes), Err(error), "{bytes:?}");
    }
}

#[test]
fn a_header_that_is_too_long_is_refused_before_it_is_all_there() {
    let bytes = raw(0x21, 0x11, &[0; 65_535]);
    assert_eq!(parse(&bytes[..16]), Err(Malformed::TooLong));
}

#[test]
fn values_that_nobody_knows_are_ignored() {
    let bytes = with_values(&[0x04, 0, 2, 0, 0, 0xEE, 0, 0, 1, 0, 2, b'h', b'2']);
    let told = parse(&bytes).unwrap().unwrap().0.told;
    assert_eq!(told, Told { alpn: Some(b"h2"[..].into()), ..Told::default() });
}

#[test]
fn what_would_upset_a_log_is_not_taken() {
    for name in [&b"a\nb"[..], b"\xFF", b"", &[b'x'; 256]] {
        let length = u16::try_from(name.len()).unwrap().to_be_bytes();
        let bytes = with_values(&[&[2], &length[..], name].concat());
        assert_eq!(parse(&bytes).unwrap().unwrap().0.told, Told::default(), "{name:?}");
    }
}

#[test]
fn there_is_one_checksum_at_most() {
    let mut bytes = with_values(&[3, 0, 4, 0, 0, 0, 0, 3, 0, 4, 0, 0, 0, 0]);
    let sum = crc32c::crc32c(&[&bytes]).to_be_bytes();
    let first = bytes.len() - 11;
    bytes[first..first + 4].copy_from_slice(&sum);
    assert_eq!(parse(&bytes), Err(Malformed::Values));
}

#[test]
fn a_flipped_bit_is_found() {
    let bytes = v2_of(&full(), Style { checksum: true, ..STREAM });
    // Another type makes of the checksum a value that nobody knows.
    let checksum_type = bytes.len() - 7;
    for bit in (FIRST_ADDRESS_BIT..bytes.len() * 8).filter(|bit| bit / 8 != checksum_type) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let same = parse(&flipped).is_ok_and(|read| read == Some((full(), bytes.len())));
        assert!(!same, "bit {bit}");
    }
}

#[test]
fn a_certificate_that_was_not_shown_was_not_verified() {
    for (client, verify, verified) in [(1, 0, false), (3, 0, true), (3, 1, false), (5, 0, true)] {
        let bytes = with_values(&[0x20, 0, 5, client, 0, 0, 0, verify]);
        let tls = parse(&bytes).unwrap().unwrap().0.told.tls.unwrap();
        assert_eq!(tls.verified, verified, "{client} {verify}");
    }
    let plain = with_values(&[0x20, 0, 5, 0, 0, 0, 0, 1]);
    assert_eq!(parse(&plain).unwrap().unwrap().0.told.tls, None);
}

const FIRST_ADDRESS_BIT: usize = 16 * 8;
