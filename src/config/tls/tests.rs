use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConnection, ServerConnection};
use rustls_pki_types::ServerName;

use crate::config::{self, Plan};

/// A certificate for `names` with its key, as `NAME.pem` and `NAME.key` in `folder`.
fn write_pair(folder: &Path, file: &str, names: &[&str]) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(folder.join(format!("{file}.pem")), made.cert.pem()).unwrap();
    fs::write(folder.join(format!("{file}.key")), made.signing_key.serialize_pem()).unwrap();
}

fn plan(folder: &Path, listener: &str, tls: &str) -> Plan {
    let text = format!(
        "[[listener]]\nname = \"edge\"\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\n{listener}\n\
         [[route]]\npool = \"app\"\n[pool.app]\nendpoints = \"app.example:443\"\n{tls}"
    );
    config::from_str("test", &text, &|_| None, folder).unwrap_or_else(|report| panic!("{report}"))
}

/// Lets both sides talk until neither has anything to say; the client's error, if any.
fn shake_hands(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), rustls::Error> {
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).unwrap();
            let _ = server.process_new_packets();
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(())
}

fn connect(plan: &Plan, name: &str) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let client = Arc::clone(&plan.pools[0].tls.as_ref().unwrap().config);
    let server = Arc::clone(plan.listeners[0].tls.as_ref().unwrap());
    let mut client = ClientConnection::new(client, ServerName::try_from(name.to_owned()).unwrap()).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    shake_hands(&mut client, &mut server).map(|()| (client, server))
}

const TWO: &str =
    "certificates = [{ cert = \"a.pem\", key = \"a.key\" }, { cert = \"b.pem\", key = \"b.key\" }]";

#[test]
fn a_client_is_shown_the_certificate_for_its_name() {
    let folder = tempfile::tempdir().unwrap();
    write_pair(folder.path(), "a", &["a.example"]);
    write_pair(folder.path(), "b", &["B.example", "*.b.example"]);
    let shown = |tls: &str, name: &str| connect(&plan(folder.path(), TWO, tls), name).is_ok();
    let (a, b) = ("[pool.app.tls]\nca = \"a.pem\"", "[pool.app.tls]\nca = \"b.pem\"");
    assert!(shown(a, "a.example"));
    assert!(!shown(b, "a.example"));
    assert!(shown(b, "b.example"));
    assert!(shown(b, "x.b.example"));
    assert!(!shown(b, "x.y.b.example"), "a wildcard stands for one label");
    let plan = plan(folder.path(), TWO, "[pool.app.tls]\nverify = false");
    let (client, _) = connect(&plan, "127.0.0.1").unwrap();
    let default = fs::read_to_string(folder.path().join("a.pem")).unwrap();
    let der = rustls_pki_types::pem::PemObject::from_pem_slice(default.as_bytes()).unwrap();
    assert_eq!(client.peer_certificates().unwrap().first(), Some(&der), "the first for clients without SNI");
}

#[test]
fn names_may_be_given_instead() {
    let folder = tempfile::tempdir().unwrap();
    write_pair(folder.path(), "a", &["a.example"]);
    write_pair(folder.path(), "b", &["b.example", "c.example"]);
    let listener = TWO.replace("key = \"b.key\"", "key = \"b.key\", names = [\"C.example\"]");
    let plan = plan(folder.path(), &listener, "[pool.app.tls]\nca = \"b.pem\"");
    assert!(connect(&plan, "c.example").is_ok());
    assert!(connect(&plan, "b.example").is_err());
}

#[test]
fn the_protocol_is_agreed_on_and_sessions_are_resumed() {
    let folder = tempfile::tempdir().unwrap();
    write_pair(folder.path(), "a", &["a.example"]);
    write_pair(folder.path(), "b", &["b.example"]);
    for (protocol, alpn) in [("http1", b"http/1.1".as_slice()), ("http2", b"h2")] {
        let tls = format!("protocol = \"{protocol}\"\n[pool.app.tls]\nca = \"a.pem\"");
        let plan = plan(folder.path(), TWO, &tls);
        let (client, server) = connect(&plan, "a.example").unwrap();
        assert_eq!((client.alpn_protocol(), server.alpn_protocol()), (Some(alpn), Some(alpn)));
        assert_eq!(client.handshake_kind(), Some(rustls::HandshakeKind::Full));
        let (client, _) = connect(&plan, "a.example").unwrap();
        assert_eq!(client.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
    }
}

#[test]
fn a_client_certificate_is_presented() {
    let folder = tempfile::tempdir().unwrap();
    write_pair(folder.path(), "a", &["a.example"]);
    write_pair(folder.path(), "b", &["b.example"]);
    let tls = "[pool.app.tls]\nca = \"a.pem\"\nclient_cert = \"b.pem\"\nclient_key = \"b.key\"";
    let plan = plan(folder.path(), TWO, tls);
    assert!(plan.pools[0].tls.as_ref().unwrap().config.client_auth_cert_resolver.has_certs());
}
