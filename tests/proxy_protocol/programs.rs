//! Other programs at either end.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};

use tempfile::TempDir;

use crate::support::*;
use crate::{REQUIRED, tells_what_it_was_told};

/// A program of others that runs as long as this lives.
struct Running {
    child: Child,
    _folder: TempDir,
}

impl Running {
    /// Runs `program` with `config` as its configuration, until it listens on `at`.
    fn start(program: &Peer, args: &[&str], config: &str, at: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        fs::write(&file, config.replace("FOLDER", &folder.path().display().to_string())).unwrap();
        let mut command = program.command();
        command.args(args).arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let running = Self { child: command.spawn().unwrap(), _folder: folder };
        eventually("its start", || TcpStream::connect(at).is_ok());
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// What curl gets from there, as a client whose address is 127.0.0.5.
fn curl(program: &Peer, args: &[&str], url: &str) -> String {
    let mut command = program.command();
    command.args(["-sS", "--max-time", "10", "--noproxy", "*", "--interface", "127.0.0.5"]);
    let output = command.args(args).arg(url).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn curl_sends_a_header() {
    let Some(program) = peer("curl") else { return };
    let origin = answers("hello");
    let proxy = Plain { listener: REQUIRED, ..Plain::default() }.to(&[origin.address()]);
    let url = format!("http://{}/", proxy.address("web"));
    assert_eq!(curl(&program, &["--haproxy-protocol"], &url), "hello");
    assert_eq!(origin.next_request().field("x-forwarded-for"), Some("127.0.0.5"));
}

#[test]
fn curl_sends_a_header_before_tls() {
    let Some(program) = peer("curl") else { return };
    let (pki, origin) = (Pki::new(), answers("hello"));
    pki.issue("web", &["web.example"]);
    let proxy = secured(&pki, &origin);
    let port = proxy.address("web").port();
    let (ca, resolve) = (pki.path().join("ca.pem"), format!("web.example:{port}:127.0.0.1"));
    for version in ["--http1.1", "--http2"] {
        let args = ["--haproxy-protocol", version, "--resolve", &resolve, "--cacert", ca.to_str().unwrap()];
        assert_eq!(curl(&program, &args, &format!("https://web.example:{port}/")), "hello");
        assert_eq!(origin.next_request().field("x-forwarded-for"), Some("127.0.0.5"));
    }
}

/// An `https` listener that takes headers only.
fn secured(pki: &Pki, origin: &Origin) -> Proxy {
    let text = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\nprotocol = \"https\"\n{REQUIRED}\n\
         certificates = [{{ cert = \"web.pem\", key = \"web.key\" }}]\n\
         [[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\"{}\"]\n",
        origin.address()
    );
    Proxy::start_in(pki.path(), &text)
}

#[test]
fn haproxy_begins_tls_behind_its_header() {
    let (Some(program), Some(haproxy)) = (peer("curl"), peer("haproxy")) else { return };
    let (pki, origin) = (Pki::new(), answers("hello"));
    pki.issue("web", &["web.example"]);
    let proxy = secured(&pki, &origin);
    let (front, forebay) = (free_port(), proxy.address("web"));
    let ca = pki.path().join("ca.pem").display().to_string();
    let config = format!(
        "defaults\n timeout connect 5s\n timeout client 9s\n timeout server 9s\n\
         listen front\n mode tcp\n bind {front}\n\
         server forebay {forebay} send-proxy-v2 ssl verify required ca-file {ca} sni str(web.example) \
         verifyhost web.example\n"
    );
    let _haproxy = Running::start(&haproxy, &["-db", "-f"], &config, front);
    assert_eq!(curl(&program, &[], &format!("http://{front}/")), "hello");
    let request = origin.next_request();
    assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.5"));
    assert_eq!(request.field("x-forwarded-proto"), Some("https"));
}

#[test]
fn haproxy_ends_tls_and_tells_of_it() {
    let (Some(program), Some(haproxy)) = (peer("curl"), peer("haproxy")) else { return };
    let (pki, origin) = (Pki::new(), tells_what_it_was_told());
    pki.issue("web", &["web.example"]);
    let both = ["web.pem", "web.key"].map(|file| fs::read_to_string(pki.path().join(file)).unwrap());
    fs::write(pki.path().join("both.pem"), both.concat()).unwrap();
    let pool = "proxy_protocol = \"v2\"\nproxy_protocol_tlvs = [\"sni\", \"alpn\", \"tls\", \"crc32c\"]";
    let proxy = Plain { listener: REQUIRED, pool, ..Plain::default() }.to(&[origin.address()]);
    let (front, forebay) = (free_port(), proxy.address("web"));
    let both = pki.path().join("both.pem").display().to_string();
    let config = format!(
        "defaults\n timeout connect 5s\n timeout client 9s\n timeout server 9s\n\
         listen front\n mode tcp\n bind {front} ssl crt {both} alpn http/1.1\n\
         server forebay {forebay} send-proxy-v2-ssl proxy-v2-options authority,crc32c\n"
    );
    let _haproxy = Running::start(&haproxy, &["-db", "-f"], &config, front);
    let port = front.port();
    let (ca, resolve) = (pki.path().join("ca.pem"), format!("web.example:{port}:127.0.0.1"));
    let args = ["--resolve", &resolve, "--cacert", ca.to_str().unwrap()];
    let text = curl(&program, &args, &format!("https://web.example:{port}/"));
    assert!(text.starts_with("127.0.0.5:"), "{text}");
    let rest =
        "sni=Some(\"web.example\") alpn=Some(\"http/1.1\") tls=Some((Some(\"TLSv1.3\"), None, false)) id=-";
    assert!(text.ends_with(rest), "{text}");
}

#[test]
fn haproxy_at_both_ends() {
    let (Some(program), Some(haproxy)) = (peer("curl"), peer("haproxy")) else { return };
    for (sends, pool) in [("send-proxy", "v1"), ("send-proxy-v2", "v2")] {
        let (front, back) = (free_port(), free_port());
        let pool = format!("proxy_protocol = \"{pool}\"");
        let proxy = Plain { listener: REQUIRED, pool: &pool, ..Plain::default() }.to(&[back]);
        let forebay = proxy.address("web");
        let config = format!(
            "defaults\n timeout connect 5s\n timeout client 9s\n timeout server 9s\n\
             listen front\n mode tcp\n bind {front}\n server forebay {forebay} {sends}\n\
             frontend back\n mode http\n bind {back} accept-proxy\n\
             \x20http-request return status 200 content-type text/plain lf-string \"%[src] %[dst_port]\"\n"
        );
        let _haproxy = Running::start(&haproxy, &["-db", "-f"], &config, front);
        let text = curl(&program, &[], &format!("http://{front}/"));
        assert_eq!(text, format!("127.0.0.5 {}", front.port()), "{sends}");
    }
}

#[test]
fn nginx_learns_the_client() {
    let (Some(program), Some(nginx)) = (peer("curl"), peer("nginx")) else { return };
    for version in ["v1", "v2"] {
        let back = free_port();
        let pool = format!("proxy_protocol = \"{version}\"");
        let proxy = Plain { pool: &pool, ..Plain::default() }.to(&[back]);
        let config = format!(
            "daemon off; master_process off; pid FOLDER/pid; error_log FOLDER/error.log;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; client_body_temp_path FOLDER/a; proxy_temp_path FOLDER/b;\n\
             fastcgi_temp_path FOLDER/c; uwsgi_temp_path FOLDER/d; scgi_temp_path FOLDER/e;\n\
             server {{ listen {back} proxy_protocol; return 200 \"$proxy_protocol_addr\"; }} }}\n"
        );
        let _nginx = Running::start(&nginx, &["-e", "stderr", "-c"], &config, back);
        let url = format!("http://{}/", proxy.address("web"));
        assert_eq!(curl(&program, &[], &url), "127.0.0.5", "{version}");
    }
}
