//! A Prometheus of its own for a test: with the configuration from `config/examples`, but for what it scrapes and
//! how often.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::UNIX_EPOCH;

use forebay::ambient;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{DEADLINE, Link, peer};

/// It runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

/// Labels and values of an instant vector.
pub(crate) type Samples = Vec<(Value, f64)>;

impl Prometheus {
    /// Started to scrape `target` twice a second; `None` where it is not installed.
    pub(crate) fn scraping(target: SocketAddr) -> Option<Self> {
        let program = peer("prometheus")?;
        let folder = tempfile::tempdir().unwrap();
        for name in ["prometheus-rules.yml", "prometheus-alerts.yml"] {
            fs::copy(format!("config/examples/{name}"), folder.path().join(name)).unwrap();
        }
        let example = fs::read_to_string("config/examples/prometheus.yml").unwrap();
        let config = example.replace("127.0.0.1:9900", &target.to_string()).replace(": 15s", ": 500ms");
        assert!(
            config.contains(&target.to_string()) && config.contains("scrape_interval: 500ms"),
            "{config}"
        );
        fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let mut command = program.command();
        command.args([
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            "--web.listen-address=127.0.0.1:0",
        ]);
        command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (told, address) = mpsc::channel();
        let log = BufReader::new(child.stderr.take().unwrap());
        // Read to its end, so that it can always write.
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if line.contains("Listening on")
                    && let Some((_, address)) = line.rsplit_once("address=")
                {
                    let _ = told.send(address.trim().parse::<SocketAddr>().unwrap());
                }
            }
        });
        let address = address.recv_timeout(DEADLINE);
        let mut prometheus = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), _folder: folder };
        prometheus.address = address.unwrap();
        until("Prometheus is ready", || {
            let answer = prometheus.get("/-/ready");
            if answer.0 == 200 { Ok(()) } else { Err(answer.1) }
        });
        Some(prometheus)
    }

    /// What an expression gives now.
    pub(crate) fn ask(&self, expression: &str) -> Result<Samples, String> {
        let data = self.api(&format!("/api/v1/query?query={}", encoded(expression)))?;
        let samples = data["result"].as_array().ok_or("no result")?;
        let sample = |sample: &Value| {
            let value = sample["value"][1].as_str()?.parse().ok()?;
            Some((sample["metric"].clone(), value))
        };
        samples.iter().map(|one| sample(one).ok_or_else(|| one.to_string())).collect()
    }

    /// What the API says, as `data`.
    pub(crate) fn api(&self, target: &str) -> Result<Value, String> {
        let (_, text) = self.get(target);
        let mut answer: Value = serde_json::from_str(&text).map_err(|error| format!("{error} in {text}"))?;
        if answer["status"] == "success" { Ok(answer["data"].take()) } else { Err(text) }
    }

    /// Waits until it has scraped once more, from the beginning.
    pub(crate) fn wait_for_a_scrape(&self) {
        let began = ambient::wall().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        until("a scrape that began after now", || {
            let at = self.ask("timestamp(forebay_workers)")?.first().ok_or("none yet")?.1;
            if at > began { Ok(()) } else { Err(format!("{at} is before {began}")) }
        });
    }

    fn get(&self, target: &str) -> (u16, String) {
        let mut link = Link::to(self.address);
        link.send(format!("GET {target} HTTP/1.1\r\nHost: prometheus\r\nConnection: close\r\n\r\n"));
        let answer = link.response();
        (answer.status(), answer.text())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for what comes true at some time; says what it was instead where it does not.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let by = ambient::now() + DEADLINE;
    loop {
        match ask() {
            Ok(found) => return found,
            Err(why) => assert!(ambient::now() < by, "{what} did not come true in time: {why}"),
        }
        thread::sleep(DEADLINE / 200);
    }
}

/// Percent-encoded, for a query.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}
