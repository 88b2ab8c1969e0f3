use std::sync::Arc;

use rustls_pki_types::ServerName;

use super::*;

/// What a ClientHello is made of here; the fields that are not named are as a client of today has them.
#[derive(Clone)]
struct Made {
    legacy_version: u16,
    extensions: Option<Vec<u8>>,
}

impl Made {
    fn new(extensions: &[(u16, Vec<u8>)]) -> Self {
        let one = |(kind, data): &(u16, Vec<u8>)| [kind.to_be_bytes().to_vec(), long(data)].concat();
        Self { legacy_version: TLS12, extensions: Some(extensions.iter().flat_map(one).collect()) }
    }

    fn body(&self) -> Vec<u8> {
        let mut body = self.legacy_version.to_be_bytes().to_vec();
        body.extend([7; 32]);
        body.extend(short(&[9; 32]));
        body.extend(long(&[0x13, 0x01, 0x13, 0x02]));
        body.extend(short(&[0]));
        body.extend(self.extensions.iter().flat_map(|list| long(list)));
        body
    }

    fn message(&self) -> Vec<u8> {
        as_message(&self.body())
    }

    fn read(&self) -> Result<Option<ClientHello>, NoHello> {
        read(&records(&self.message(), MAX_RECORD))
    }
}

fn short(data: &[u8]) -> Vec<u8> {
    [&[u8::try_from(data.len()).unwrap()], data].concat()
}

fn long(data: &[u8]) -> Vec<u8> {
    [&u16::try_from(data.len()).unwrap().to_be_bytes(), data].concat()
}

fn as_message(body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap() | u32::from(CLIENT_HELLO) << 24;
    [&len.to_be_bytes(), body].concat()
}

/// The message over records of `size` bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|piece| [&[HANDSHAKE, 3, 1], &*long(piece)].concat()).collect()
}

fn sni(name: &[u8]) -> (u16, Vec<u8>) {
    (SERVER_NAME, long(&[&[HOST_NAME], &*long(name)].concat()))
}

fn offered(protocols: &[&[u8]]) -> (u16, Vec<u8>) {
    (ALPN, long(&protocols.iter().flat_map(|protocol| short(protocol)).collect::<Vec<_>>()))
}

fn versions(versions: &[u16]) -> (u16, Vec<u8>) {
    let list: Vec<u8> = versions.iter().flat_map(|version| version.to_be_bytes()).collect();
    (SUPPORTED_VERSIONS, short(&list))
}

fn read(bytes: &[u8]) -> Result<Option<ClientHello>, NoHello> {
    Reader::default().read(bytes)
}

/// What a real client sends first.
fn of_rustls(name: &str, alpn: &[&str]) -> Vec<u8> {
    let mut config = rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_hello_of_a_real_client_is_read() {
    let hello = read(&of_rustls("DB.example.com", &["h2", "http/1.1"])).unwrap().unwrap();
    assert_eq!(hello.server_name.as_deref(), Some("db.example.com"));
    assert_eq!(hello.alpn.to_string(), "h2,http/1.1");
    assert!(hello.alpn.offers(b"h2") && !hello.alpn.offers(b"h3"));
    assert_eq!(hello.version_name(), Some("TLSv1.3"));
    let nameless = read(&of_rustls("127.0.0.1", &[])).unwrap().unwrap();
    assert_eq!((nameless.server_name, nameless.alpn.to_string()), (None, String::new()));
}

#[test]
fn records_and_pieces_of_any_size_make_the_same_message() {
    let made = Made::new(&[
        (0x3a3a, vec![]),
        sni(b"a.example"),
        offered(&[b"postgresql"]),
        versions(&[0x7a7a, TLS13]),
    ]);
    let message = made.message();
    let whole = made.read().unwrap().unwrap();
    assert_eq!(whole.server_name.as_deref(), Some("a.example"));
    for size in [1, 2, 3, 4, 5, 50, message.len() - 1, message.len()] {
        let bytes = [records(&message, size), b"\x17\x03\x03\x00".to_vec()].concat();
        for step in [1, 2, 7, bytes.len()] {
            let mut reader = Reader::default();
            let mut ends = (step..bytes.len()).step_by(step).chain([bytes.len()]);
            let found = ends.find_map(|end| reader.read(&bytes[..end]).transpose());
            assert_eq!(found, Some(Ok(whole.clone())), "records of {size}, pieces of {step}");
        }
        let almost = records(&message, size);
        assert_eq!(read(&almost[..almost.len() - 1]), Ok(None), "records of {size}");
    }
}

#[test]
fn bytes_that_are_no_handshake_are_known_at_once() {
    for (bytes, fault) in [
        (&b"G"[..], NoHello::NotTls),
        (b"\x16\x04", NoHello::NotTls),
        (b"\x16\x02", NoHello::NotTls),
        (b"\x16\x03\x05\x00\x05", NoHello::NotTls),
        (b"\x16\x03\x01\x00\x00", NoHello::NotTls),
        (b"\x16\x03\x01\x40\x01", NoHello::NotTls),
        (b"\x80\x2e\x01\x03\x01", NoHello::NotTls),
        (b"\x15\x03\x01\x00\x02\x02\x28", NoHello::NotTls),
        (b"\x16\x03\x01\x00\x05\x02", NoHello::OtherMessage),
        (b"\x16\x03\x01\x00\x01\x01\x17", NoHello::NotTls),
        (b"\x16\x03\x01\x00\x05\x01\x01\x00\x00", NoHello::TooLarge),
    ] {
        assert_eq!(read(bytes), Err(fault), "{bytes:02x?}");
    }
    for bytes in [&b""[..], b"\x16", b"\x16\x03", b"\x16\x03\x01\x00", b"\x16\x03\x01\x00\x05\x01\x00\xff"] {
        assert_eq!(read(bytes), Ok(None), "{bytes:02x?}");
    }
}

#[test]
fn a_hello_of_64_kib_is_read_and_a_larger_one_is_refused() {
    let padded = |len: usize| {
        let base = Made::new(&[sni(b"a.example")]).message().len();
        // An extension has 65,535 bytes at most, so the suites take what is left.
        let mut made = Made::new(&[sni(b"a.example"), (21, vec![0; 30_000])]).body();
        let suites = (len - base - 4 - 30_000) & !1;
        let at = 2 + 32 + 33;
        made.splice(at..at + 6, long(&vec![0x13; suites + 4]));
        as_message(&made)
    };
    let large = padded(MAX_MESSAGE);
    assert!((MAX_MESSAGE - 1..=MAX_MESSAGE).contains(&large.len()), "{}", large.len());
    for size in [MAX_RECORD, 200] {
        let hello = read(&records(&large, size)).unwrap().unwrap();
        assert_eq!(hello.server_name.as_deref(), Some("a.example"));
    }
    assert_eq!(read(&records(&padded(MAX_MESSAGE + 2), MAX_RECORD)), Err(NoHello::TooLarge));
    // Most of these bytes are headers.
    assert_eq!(read(&records(&large, 10)), Err(NoHello::TooLarge));
}

#[test]
fn versions_are_those_that_are_known() {
    let newest = |legacy_version, extensions: &[(u16, Vec<u8>)]| {
        Made { legacy_version, ..Made::new(extensions) }.read().unwrap().unwrap().version_name()
    };
    assert_eq!(newest(TLS12, &[versions(&[0x0303, 0x0304])]), Some("TLSv1.3"));
    assert_eq!(newest(TLS12, &[versions(&[0xdada, 0x0303])]), Some("TLSv1.2"));
    assert_eq!(newest(TLS12, &[]), Some("TLSv1.2"));
    assert_eq!(newest(TLS13, &[]), Some("TLSv1.2"), "only the extension offers TLS 1.3");
    assert_eq!(newest(0x0301, &[]), Some("TLSv1.0"));
    let old = Made { legacy_version: 0x0302, extensions: None };
    assert_eq!(old.read().unwrap().unwrap().version_name(), Some("TLSv1.1"));
}

#[test]
fn names_are_dns_names_in_lower_case() {
    let name = |text: &[u8]| Made::new(&[sni(text)]).read().map(|hello| hello.unwrap().server_name);
    assert_eq!(name(b"A.Example.").unwrap().as_deref(), Some("a.example"));
    assert_eq!(name(b"under_score").unwrap().as_deref(), Some("under_score"));
    assert_eq!(name(b"10.0.0.1").unwrap(), None);
    for bad in
        ["", ".", "a..b", "a b", "a\0.example", "*.example", "a:443", "b\u{fc}cher", "::1", &"a".repeat(64)]
    {
        assert_eq!(name(bad.as_bytes()), Err(NoHello::ServerName), "{bad:?}");
    }
    assert_eq!(name(&[b'a', 0xff]), Err(NoHello::ServerName));
    assert_eq!(name(["a"; 130].join(".").as_bytes()), Err(NoHello::ServerName));
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    let two_names = [&[HOST_NAME][..], &long(b"a.example"), &[HOST_NAME], &long(b"b.example")].concat();
    for (what, extensions, fault) in [
        ("the name twice", vec![sni(b"a.example"), sni(b"a.example")], NoHello::Malformed),
        ("two names", vec![(SERVER_NAME, long(&two_names))], NoHello::ServerName),
        ("an empty list of names", vec![(SERVER_NAME, vec![0, 0])], NoHello::Malformed),
        ("another kind of name", vec![(SERVER_NAME, long(&[1, 0, 1, b'a']))], NoHello::ServerName),
        ("bytes behind the name", vec![(SERVER_NAME, [sni(b"a").1, vec![0]].concat())], NoHello::Malformed),
        ("an empty list of protocols", vec![(ALPN, vec![0, 0])], NoHello::Malformed),
        ("an empty protocol", vec![offered(&[b"h2", b""])], NoHello::Malformed),
        ("a protocol cut off", vec![(ALPN, vec![0, 2, 2, b'h'])], NoHello::Malformed),
        ("the protocols twice", vec![offered(&[b"h2"]), offered(&[b"h2"])], NoHello::Malformed),
        ("half a version", vec![(SUPPORTED_VERSIONS, vec![3, 3, 4, 3])], NoHello::Malformed),
        ("no version that there is", vec![versions(&[0xdada])], NoHello::Malformed),
    ] {
        assert_eq!(Made::new(&extensions).read(), Err(fault), "{what}");
    }
    let made = Made::new(&[sni(b"a.example")]);
    assert_eq!(Made { legacy_version: 0x0203, ..made.clone() }.read(), Err(NoHello::Malformed));
    let cut = Made { extensions: Some(vec![0, 0, 0, 9, 1]), ..made };
    assert_eq!(cut.read(), Err(NoHello::Malformed));
    let behind_extensions = as_message(&[made.body(), vec![0]].concat());
    assert_eq!(read(&records(&behind_extensions, MAX_RECORD)), Err(NoHello::Malformed));
    let behind_message = [made.message(), vec![1]].concat();
    assert_eq!(read(&records(&behind_message, MAX_RECORD)), Err(NoHello::Malformed));
}

/// Where we and rustls both understand a damaged message, we understand the same.
#[test]
fn rustls_reads_the_same_name_and_protocols() {
    let sound = of_rustls("db.example.com", &["h2", "postgresql"]);
    let mut both = 0;
    for seed in 0..20_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bytes = sound.clone();
        for _ in 0..rng.usize(1..3) {
            let at = rng.usize(..bytes.len());
            bytes[at] = rng.u8(..);
        }
        let mut acceptor = rustls::server::Acceptor::default();
        acceptor.read_tls(&mut &*bytes).unwrap();
        let (Ok(Some(accepted)), Ok(Some(ours))) = (acceptor.accept(), read(&bytes)) else { continue };
        both += 1;
        let theirs = accepted.client_hello();
        let name = theirs.server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        assert_eq!(ours.server_name.as_deref(), name.as_deref(), "seed {seed}");
        let protocols: Alpn = theirs.alpn().into_iter().flatten().collect();
        assert_eq!(ours.alpn, protocols, "seed {seed}");
    }
    assert!(both > 1000, "{both}");
}
