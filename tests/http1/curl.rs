//! curl as the client of refusals that come while it still sends.

use std::fs;
use std::process::Output;

use crate::support::*;

/// Runs curl with these arguments for the listener's address and `path`.
fn curl(peer: &Peer, proxy: &Proxy, args: &[&str], path: &str) -> Output {
    let mut command = peer.command();
    command.args(["--silent", "--show-error", "--max-time", "10", "--noproxy", "*"]).args(args);
    command.arg(format!("http://{}{path}", proxy.address("web")));
    command.output().expect("curl runs")
}

#[test]
fn curl_sees_an_early_refusal() {
    let Some(peer) = peer("curl") else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("up");
    fs::write(&file, vec![b'x'; 8_000_000]).unwrap();
    let origin = echoes();
    let route = "filters = [{ max_body = \"1MiB\" }]";
    let proxy = Plain { route, ..Plain::default() }.to(&[origin.address()]);
    let path = format!("@{}", file.to_str().unwrap());
    for coding in ["X-Coding: none", "Transfer-Encoding: chunked"] {
        for expect in ["Expect:", "Expect: 100-continue"] {
            let args =
                ["--http1.1", "--write-out", "%{http_code}", "--output", "/dev/null", "--data-binary", &path];
            let args = [&args[..], &["--header", coding, "--header", expect]].concat();
            let got = curl(&peer, &proxy, &args, "/up");
            assert_eq!(String::from_utf8_lossy(&got.stdout), "413", "{coding}, {expect}");
        }
    }
}
