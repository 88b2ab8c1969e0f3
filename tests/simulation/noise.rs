//! Healthy noise, on which no detector may say anything: ten thousand pools of 4 to 20 endpoints with
//! 100 to 500 requests a second that come at random, errors of up to one in a hundred, and times that
//! are log-normal with spikes. What an endpoint tells in a tick is drawn as a whole, to be quick.

use std::time::{Duration, Instant};

use forebay::health::detector::{Detector, Finding, Seen};
use forebay::health::{Failure, Latencies, Sample, latency};

use crate::lots::Lots;
use crate::scenarios::detectors;

macro_rules! shards {
    ($($name:ident: $seeds:expr;)+) => {$(
        #[test]
        fn $name() {
            for seed in $seeds {
                let found = Noise::new(seed).findings();
                assert!(found.is_empty(), "seed {seed}: {found:?}");
            }
        }
    )+};
}

shards! {
    healthy_noise_is_let_be_1: 0..2_500;
    healthy_noise_is_let_be_2: 2_500..5_000;
    healthy_noise_is_let_be_3: 5_000..7_500;
    healthy_noise_is_let_be_4: 7_500..10_000;
}

/// A healthy pool.
struct Noise {
    lots: Lots,
    endpoints: Vec<Endpoint>,
    /// Requests in a tick at each endpoint, on average.
    requests: f64,
    /// The share of requests that fail, of 2^32, and of those that take ten times as long.
    errors: u64,
    spikes: u64,
    /// Buckets of times, each as likely as the other; and the same of spikes.
    times: Vec<usize>,
    tenfold: Vec<usize>,
    median: Duration,
}

#[derive(Clone, Copy, Default)]
struct Endpoint {
    streak: u32,
}

impl Noise {
    fn new(seed: u64) -> Self {
        let mut lots = Lots::new(seed);
        let number = 4 + (lots.draw() % 17) as usize;
        let rate = 100.0 + 400.0 * lots.unit();
        // One in a thousand to one in a hundred, on a logarithmic scale.
        let share = |lots: &mut Lots| (10_f64.powf(-3.0 + lots.unit()) * (1_u64 << 32) as f64) as u64;
        let median = Duration::from_secs_f64(10_f64.powf(-3.0 + 2.0 * lots.unit()));
        let sigma = 0.3 + 0.5 * lots.unit();
        let times: Vec<_> = (0..256).map(|_| lots.time(median, sigma)).collect();
        Self {
            endpoints: vec![Endpoint::default(); number],
            requests: rate / number as f64 * TICK.as_secs_f64(),
            errors: share(&mut lots),
            spikes: share(&mut lots),
            tenfold: times.iter().map(|time| latency::bucket(*time * 10)).collect(),
            times: times.into_iter().map(latency::bucket).collect(),
            median,
            lots,
        }
    }

    /// What all detectors say of 20 s.
    fn findings(mut self) -> Vec<Finding> {
        let mut detectors: Vec<Box<dyn Detector>> =
            detectors().iter().map(|chosen| chosen.make.make()).collect();
        #[expect(clippy::disallowed_methods, reason = "some time to count from; all else is relative to it")]
        let start = Instant::now();
        let mut found = Vec::new();
        for tick in 1..=100 {
            let samples: Vec<_> = (0..self.endpoints.len()).map(|endpoint| self.sample(endpoint)).collect();
            let seen: Vec<_> = samples
                .iter()
                .enumerate()
                .map(|(endpoint, sample)| Seen { endpoint, level: 0, serving: true, sample })
                .collect();
            for detector in &mut detectors {
                found.extend(detector.judge(&seen, start + TICK * tick));
            }
        }
        found
    }

    fn sample(&mut self, endpoint: usize) -> Sample {
        let mut sample = Sample { latencies: Latencies::default(), ..Sample::default() };
        let endpoint = &mut self.endpoints[endpoint];
        for _ in 0..self.lots.poisson(self.requests) {
            let draw = self.lots.draw();
            let place = (draw >> 56) as usize;
            if draw & 0xFFFF_FFFF < self.errors {
                sample.failures[Failure::Gateway as usize] += 1;
                endpoint.streak += 1;
                continue;
            }
            sample.successes += 1;
            endpoint.streak = 0;
            let is_spike = (draw >> 20) & 0xFFFF_FFFF < self.spikes;
            sample.latencies.add(if is_spike { self.tenfold[place] } else { self.times[place] }, 1);
        }
        sample.streak = endpoint.streak;
        sample.waiting = (self.lots.draw() % 4) as u32;
        sample.waiting_age = if sample.waiting > 0 { self.median } else { Duration::ZERO };
        sample
    }
}

const TICK: Duration = Duration::from_millis(200);

#[test]
#[ignore = "prints what a look at 5,000 endpoints costs, of which 50 had traffic"]
#[expect(clippy::disallowed_methods, reason = "this is what is measured")]
fn cost() {
    let mut noise = Noise::new(1);
    noise.endpoints = vec![Endpoint::default(); 5000];
    noise.requests = 1.0;
    let start = Instant::now();
    for chosen in detectors() {
        let mut detector = chosen.make.make();
        let mut took = Duration::ZERO;
        for tick in 1..=500 {
            let sample = |endpoint: usize| match (endpoint + tick) % 100 {
                0 => noise.sample(endpoint),
                _ => Sample::default(),
            };
            let samples: Vec<_> = (0..5000).map(sample).collect();
            let seen: Vec<_> = samples
                .iter()
                .enumerate()
                .map(|(endpoint, sample)| Seen { endpoint, level: 0, serving: true, sample })
                .collect();
            let began = Instant::now();
            let found = detector.judge(&seen, start + TICK * tick as u32);
            took += began.elapsed();
            assert_eq!(found, []);
        }
        println!("{}: {:?} a look", chosen.kind.name, took / 500);
    }
}
