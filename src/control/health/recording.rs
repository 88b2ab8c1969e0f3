//! A recording: intervals and journal entries as lines of JSON, written by the admin listener and read
//! by `simulate`. Every line is an object whose `kind` says what it is; the first names the version.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Value, json};
use thiserror::Error;

use super::Record;
use super::intervals::{Interval, Members};
use crate::health::latency::BUCKETS;
use crate::health::{Failure, Sample, Trial};
use crate::model::{Name, json as field};
use crate::observe::civil;

/// What was recorded.
#[derive(Debug, Default)]
pub struct Recording {
    /// The pools, in the order in which intervals count them. One that changed is there more than once.
    pub pools: Vec<Members>,
    /// What happened at endpoints, the oldest first.
    pub intervals: Vec<Interval>,
    /// What was made of it then, the oldest first.
    pub entries: Vec<Told>,
}

/// An entry of the journal, as told.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// When.
    pub at: SystemTime,
    /// To which pool.
    pub pool: String,
    /// To which endpoint; `None` for what concerns the pool as a whole.
    pub endpoint: Option<String>,
    /// All of it, as [`Entry::to_json`](super::journal::Entry::to_json) has it.
    pub object: Value,
}

/// Why a line is not of a recording.
#[derive(Debug, Error)]
#[error("line {line}: {fault}")]
pub struct BadLine {
    /// The line's number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: String,
}

/// All that `record` keeps, as lines of JSON.
#[must_use]
pub fn write(record: &Record) -> String {
    let mut lines = vec![json!({ "kind": "recording", "version": VERSION })];
    // Making lines takes many times as long as a copy, and health is not to wait for that.
    let intervals = record.with_intervals(|intervals| intervals.clone());
    let mut told = BTreeMap::new();
    for (number, pool) in intervals.pools() {
        lines.push(members(pool));
        told.insert(&pool.pool, number);
    }
    for interval in intervals.kept() {
        let Some(pool) = intervals.members(interval.pool) else { continue };
        // A pool that changed is introduced again, whenever intervals are of another than before.
        if told.insert(&pool.pool, interval.pool) != Some(interval.pool) {
            lines.push(members(pool));
        }
        lines.extend(line(interval, pool));
    }
    for entry in record.entries() {
        let mut object = entry.to_json();
        if let Value::Object(fields) = &mut object {
            fields.insert("kind".to_owned(), json!("entry"));
        }
        lines.push(object);
    }
    let mut text = String::new();
    for line in lines {
        text.push_str(&line.to_string());
        text.push('\n');
    }
    text
}

fn members(members: &Members) -> Value {
    let endpoint = |(endpoint, level): &(String, u32)| json!({ "endpoint": endpoint, "level": level });
    let endpoints: Vec<_> = members.endpoints.iter().map(endpoint).collect();
    json!({ "kind": "pool", "pool": members.pool.as_str(), "endpoints": endpoints })
}

fn line(interval: &Interval, members: &Members) -> Option<Value> {
    let (endpoint, _) = members.endpoints.get(usize::try_from(interval.endpoint).ok()?)?;
    let sample = interval.sample();
    let failures = Failure::ALL.iter().zip(sample.failures).filter(|(_, count)| *count > 0);
    let failures: serde_json::Map<_, _> =
        failures.map(|(failure, count)| (failure.name().to_owned(), json!(count))).collect();
    let mut line = json!({
        "kind": "interval",
        "at": civil::rfc3339(interval.at),
        "pool": members.pool.as_str(),
        "endpoint": endpoint,
        "successes": sample.successes,
        "failures": failures,
        "streak": sample.streak,
        "connect_streak": sample.connect_streak,
        "latency_buckets": sample.latencies.counts().collect::<Vec<_>>(),
        "waiting": sample.waiting,
        "waiting_age_seconds": sample.waiting_age.as_secs_f64(),
    });
    if let (Some(trial), Value::Object(fields)) = (sample.trial, &mut line) {
        let word = if trial == Trial::Passed { "passed" } else { "failed" };
        fields.insert("trial".to_owned(), json!(word));
    }
    Some(line)
}

/// Reads what [`write()`] wrote. What it knows nothing of is passed over.
///
/// # Errors
/// When a line is not JSON, or lacks what its kind has, or the recording is of another version.
pub fn read(text: &str) -> Result<Recording, BadLine> {
    let (mut recording, mut present) = (Recording::default(), Present::new());
    for (number, line) in (1..).zip(text.lines()) {
        let bad = |fault: String| BadLine { line: number, fault };
        let object: Value = serde_json::from_str(line).map_err(|error| bad(error.to_string()))?;
        if number == 1 {
            head(&object).map_err(bad)?;
        }
        take(&mut recording, &mut present, object)
            .map_err(|field| bad(format!("`{field}` is missing or wrong")))?;
    }
    if text.is_empty() {
        return Err(BadLine { line: 1, fault: "there is none".to_owned() });
    }
    Ok(recording)
}

fn head(object: &Value) -> Result<(), String> {
    match (field::text(object, "kind"), field::number(object, "version")) {
        (Some("recording"), Some(VERSION)) => Ok(()),
        (Some("recording"), Some(version)) => {
            Err(format!("it is of version {version}, and this program reads version {VERSION}"))
        }
        _ => Err("it is no recording: the first line has no `\"kind\": \"recording\"`".to_owned()),
    }
}

/// What each pool is at present, as an index into [`Recording::pools`].
type Present = BTreeMap<Name, usize>;

/// Adds what a line says; fails with the field that is at fault.
fn take(recording: &mut Recording, present: &mut Present, object: Value) -> Result<(), &'static str> {
    match field::text(&object, "kind") {
        Some("pool") => {
            let members = members_of(&object)?;
            let pool = members.pool.clone();
            let known = recording.pools.iter().position(|known| *known == members);
            let index = known.unwrap_or(recording.pools.len());
            if known.is_none() {
                recording.pools.push(members);
            }
            present.insert(pool, index);
        }
        Some("interval") => {
            let pool = field::text(&object, "pool").and_then(|name| Name::new(name).ok()).ok_or("pool")?;
            let index = *present.get(&pool).ok_or("pool")?;
            let interval = interval(&object, index, recording.pools.get(index).ok_or("pool")?)?;
            recording.intervals.push(interval);
        }
        Some("entry") => recording.entries.push(Told::take(object)?),
        _ => {}
    }
    Ok(())
}

fn members_of(object: &Value) -> Result<Members, &'static str> {
    let pool = field::text(object, "pool").and_then(|name| Name::new(name).ok()).ok_or("pool")?;
    let endpoint =
        |object: &Value| Some((field::text(object, "endpoint")?.to_owned(), field::number(object, "level")?));
    let endpoints =
        field::list(object, "endpoints").iter().map(endpoint).collect::<Option<_>>().ok_or("endpoints")?;
    Ok(Members { pool, endpoints })
}

/// What a line says of the pool with this index.
fn interval(object: &Value, pool: usize, members: &Members) -> Result<Interval, &'static str> {
    let at = field::text(object, "at").and_then(civil::parse_rfc3339).ok_or("at")?;
    let shown = field::text(object, "endpoint").ok_or("endpoint")?;
    let endpoint = members.endpoints.iter().position(|(endpoint, _)| endpoint == shown).ok_or("endpoint")?;
    let small = |name: &'static str| field::number(object, name).ok_or(name);
    let mut sample = Sample {
        successes: field::number(object, "successes").ok_or("successes")?,
        streak: small("streak")?,
        connect_streak: small("connect_streak")?,
        waiting: small("waiting")?,
        trial: match field::text(object, "trial") {
            Some("passed") => Some(Trial::Passed),
            Some("failed") => Some(Trial::Failed),
            _ => None,
        },
        ..Sample::default()
    };
    let failures = object.get("failures");
    for (failure, count) in Failure::ALL.iter().zip(&mut sample.failures) {
        *count = failures.and_then(|failures| field::number(failures, failure.name())).unwrap_or(0);
    }
    let age = object.get("waiting_age_seconds").and_then(Value::as_f64).ok_or("waiting_age_seconds")?;
    sample.waiting_age = std::time::Duration::try_from_secs_f64(age).map_err(|_| "waiting_age_seconds")?;
    for pair in field::list(object, "latency_buckets") {
        let (bucket, count) = bucket(pair).ok_or("latency_buckets")?;
        sample.latencies.add(bucket, count);
    }
    let index = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
    Ok(Interval::new(at, index(pool), index(endpoint), &sample))
}

fn bucket(pair: &Value) -> Option<(usize, u32)> {
    let [bucket, count] = pair.as_array()?.as_slice() else { return None };
    let bucket = usize::try_from(bucket.as_u64()?).ok().filter(|bucket| *bucket < BUCKETS)?;
    Some((bucket, u32::try_from(count.as_u64()?).ok()?))
}

impl Told {
    /// Reads an entry of the journal.
    ///
    /// # Errors
    /// With the field that is missing.
    pub fn take(object: Value) -> Result<Self, &'static str> {
        let at = field::text(&object, "at").and_then(civil::parse_rfc3339).ok_or("at")?;
        let pool = field::text(&object, "pool").ok_or("pool")?.to_owned();
        let endpoint = field::text(&object, "endpoint").map(str::to_owned);
        Ok(Self { at, pool, endpoint, object })
    }

    /// What happened, in words.
    #[must_use]
    pub fn words(&self) -> &str {
        field::text(&self.object, "words").unwrap_or_default()
    }

    /// The word for the endpoint's state after it.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        field::text(&self.object, "state")
    }
}

/// The version of the form. It changes when what is written means something else.
const VERSION: u64 = 1;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::observe::metrics::Registry;

    #[test]
    fn what_is_written_can_be_read() {
        let record = Record::new(Registry::new(1));
        let members = Members {
            pool: Name::new("app").unwrap(),
            endpoints: vec![("a:1".into(), 0), ("a:2".into(), 1)],
        };
        let mut sample = Sample {
            successes: 3,
            failures: [1, 0, 0, 0, 0, 0, 2],
            streak: 2,
            waiting: 1,
            waiting_age: Duration::from_millis(20),
            trial: Some(Trial::Passed),
            ..Sample::default()
        };
        sample.latencies.record(Duration::from_millis(5));
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let interval = Interval::new(at, 0, 1, &sample);
        record.with_intervals(|intervals| {
            intervals.introduce(members.clone());
            intervals.push(interval.clone());
        });
        let text = write(&record);
        let recording = read(&text).unwrap();
        assert_eq!((recording.pools, recording.intervals), (vec![members], vec![interval]), "{text}");
        drop(Arc::new(record));
    }

    #[test]
    fn a_pool_that_changed_is_read_as_it_was_each_time() {
        let record = Record::new(Registry::new(1));
        let pool = |endpoints: &[&str]| Members {
            pool: Name::new("app").unwrap(),
            endpoints: endpoints.iter().map(|name| ((*name).to_owned(), 0)).collect(),
        };
        let pools = [pool(&["a:1", "a:2"]), pool(&["a:2", "a:3"]), pool(&["a:1", "a:2"])];
        let mut numbers = Vec::new();
        record.with_intervals(|intervals| {
            for (second, members) in (1..).zip(&pools) {
                let number = intervals.introduce(members.clone());
                numbers.push(number);
                let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
                intervals.push(Interval::new(at, number, 1, &Sample { successes: 1, ..Sample::default() }));
                intervals.retire(number);
            }
        });
        let recording = read(&write(&record)).unwrap();
        assert_eq!((&recording.pools[..], numbers), (&pools[..2], vec![0, 1, 0]));
        let read: Vec<_> =
            recording.intervals.iter().map(|interval| (interval.pool, interval.endpoint)).collect();
        assert_eq!(read, [(0, 1), (1, 1), (0, 1)]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let head = "{\"kind\":\"recording\",\"version\":1}\n";
        for (text, fault) in [
            ("", "line 1: there is none"),
            ("{}", "line 1: it is no recording"),
            ("{\"kind\":\"recording\",\"version\":2}", "it is of version 2"),
            (&format!("{head}x"), "line 2: expected value"),
            (&format!("{head}{{\"kind\":\"pool\"}}"), "line 2: `pool` is missing"),
            (&format!("{head}{{\"kind\":\"interval\",\"at\":\"now\"}}"), "line 2: `pool` is missing"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(fault), "{text}: {error}");
        }
        assert!(read(&format!("{head}{{\"kind\":\"later\"}}\n")).is_ok(), "what is new is passed over");
    }
}
