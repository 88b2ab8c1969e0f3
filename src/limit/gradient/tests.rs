//! The limit against an origin that serves so many at once and has the rest wait in line, in virtual
//! time, under twice the load that it can serve.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::*;
use crate::model::mix::{STEP, mix};

/// How long the origin takes for one request once it has begun.
#[derive(Clone, Copy, Debug)]
enum Service {
    Constant,
    Exponential,
    /// One in ten takes ten times as long as the others.
    Bimodal,
}

/// A closed world: open arrivals, the limit, the origin.
struct World {
    draw: u64,
    service: Service,
    /// Mean service time, seconds.
    mean: f64,
    slots: usize,
    /// Arrivals per second.
    load: f64,
    /// By how much of its time the origin is slower for each `slots` of requests in its line.
    strain: f64,
    /// After how many seconds clients leave, of which the origin learns nothing.
    patience: f64,
    start: Instant,
    now: f64,
    next_arrival: f64,
    busy: usize,
    line: VecDeque<f64>,
    /// When each that is served ends, in nanoseconds, and when it arrived.
    ends: BinaryHeap<Reverse<(u64, u64)>>,
    gradient: Gradient,
    flow: Flow,
    latency: f64,
}

/// What a stretch of time brought.
#[derive(Debug)]
struct Stretch {
    /// Answers within the time that clients wait, of those that the origin could give.
    goodput: f64,
    /// The least limit and the greatest, for those who read a failure.
    #[expect(dead_code, reason = "shown by Debug")]
    limits: (u32, u32),
    /// Mean latency as a multiple of the mean service time.
    slowdown: f64,
}

impl World {
    fn new(seed: u64, service: Service, (slots, mean): (usize, f64), start: u32) -> Self {
        let settings = GradientSettings { min: 4, max: 1024, tolerance: 1.25, enforced: true };
        #[expect(clippy::disallowed_methods, reason = "some time to count from; all else is relative to it")]
        let now = Instant::now();
        Self {
            draw: mix(seed.wrapping_add(STEP)),
            service,
            mean,
            slots,
            load: 2.0 * slots as f64 / mean,
            strain: 0.0,
            patience: f64::INFINITY,
            start: now,
            now: 0.0,
            next_arrival: 0.0,
            busy: 0,
            line: VecDeque::new(),
            ends: BinaryHeap::new(),
            gradient: Gradient::new(settings, start),
            flow: Flow::default(),
            latency: 0.0,
        }
    }

    fn uniform(&mut self) -> f64 {
        self.draw = mix(self.draw.wrapping_add(STEP));
        (self.draw >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform()).ln()
    }

    fn service_time(&mut self) -> f64 {
        self.mean
            * match self.service {
                Service::Constant => 1.0,
                Service::Exponential => self.exponential(),
                Service::Bimodal => (if self.uniform() < 0.1 { 10.0 } else { 1.0 }) / 1.9,
            }
    }

    fn serve(&mut self) {
        while self.busy < self.slots
            && let Some(arrived) = self.line.pop_front()
        {
            self.busy += 1;
            let strain = 1.0 + self.strain * self.line.len() as f64 / self.slots as f64;
            let ends = self.now + self.service_time() * strain;
            self.ends.push(Reverse(((ends * 1e9) as u64, (arrived * 1e9) as u64)));
        }
    }

    fn in_flight(&self) -> u32 {
        let left = self.now - self.patience;
        let served = self.ends.iter().filter(|Reverse((_, arrived))| *arrived as f64 / 1e9 > left).count();
        (served + self.line.len() - self.line.partition_point(|arrived| *arrived <= left)) as u32
    }

    /// Lets `seconds` pass.
    fn run(&mut self, seconds: f64) -> Stretch {
        let end = self.now + seconds;
        let (mut good, mut answers, mut latencies) = (0, 0, 0.0);
        let mut limits = (u32::MAX, 0);
        let mut tick = self.now + 0.2;
        while self.now < end {
            let ended = self.ends.peek().map_or(f64::INFINITY, |Reverse((at, _))| *at as f64 / 1e9);
            self.now = ended.min(self.next_arrival).min(tick);
            if self.now == tick {
                tick += 0.2;
                self.tick();
                limits = (limits.0.min(self.gradient.limit()), limits.1.max(self.gradient.limit()));
            } else if self.now == self.next_arrival {
                self.next_arrival += self.exponential() / self.load;
                if self.in_flight() < self.gradient.limit() {
                    self.line.push_back(self.now);
                    self.serve();
                } else {
                    self.flow.held_back += 1;
                }
            } else if let Some(Reverse((_, arrived))) = self.ends.pop() {
                let took = self.now - arrived as f64 / 1e9;
                if took <= self.patience {
                    self.flow.answers += 1;
                    self.latency += took;
                    (answers, latencies) = (answers + 1, latencies + took);
                    good += u32::from(took <= PATIENCE_OF_CLIENTS * self.mean);
                }
                self.busy -= 1;
                self.serve();
            }
        }
        let capacity = seconds * self.slots as f64 / self.mean;
        Stretch {
            goodput: f64::from(good) / capacity,
            limits,
            slowdown: latencies / f64::from(answers) / self.mean,
        }
    }

    fn tick(&mut self) {
        let answers = f64::from(self.flow.answers.max(1));
        let flow = Flow {
            latency: Duration::from_secs_f64(self.latency / answers),
            in_flight: self.in_flight(),
            ..self.flow
        };
        (self.flow, self.latency) = (Flow::default(), 0.0);
        self.gradient.on_flow(&flow, self.start + Duration::from_secs_f64(self.now));
    }
}

/// Slots and mean service times in seconds.
const ORIGINS: [(usize, f64); 3] = [(10, 0.1), (50, 0.02), (20, 0.4)];
const SERVICES: [Service; 3] = [Service::Constant, Service::Exponential, Service::Bimodal];
const SEEDS: u64 = 3;
/// How long clients wait, in mean service times.
const PATIENCE_OF_CLIENTS: f64 = 10.0;

/// What happened to each world in one stretch.
#[derive(Default)]
struct Tale {
    goodputs: Vec<(f64, String)>,
    greatest: f64,
}

impl Tale {
    fn add(&mut self, name: &str, stretch: &Stretch) {
        self.goodputs.push((stretch.goodput, format!("{name}: {stretch:?}")));
        self.greatest = self.greatest.max(stretch.slowdown);
    }

    /// Prints the figures that the documents quote.
    #[expect(clippy::print_stdout, reason = "for those who run it with --nocapture")]
    fn end(mut self, what: &str, mean: f64, least: f64) {
        self.goodputs.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let average =
            self.goodputs.iter().map(|(goodput, _)| goodput).sum::<f64>() / self.goodputs.len() as f64;
        let (worst, world) = &self.goodputs[0];
        println!("{what}: goodput {average:.3}, at worst {worst:.3}, slowdown at most {:.2}", self.greatest);
        assert!(average >= mean && *worst >= least, "{what}: {average} {world}");
    }
}

/// Every seed, service time and origin, each from a limit far too low and one far too high.
fn worlds(mut story: impl FnMut(&str, World)) {
    for seed in 0..SEEDS {
        for service in SERVICES {
            for origin in ORIGINS {
                for start in [4, 1024] {
                    let name = format!("seed {seed} {service:?} {origin:?} from {start}");
                    story(&name, World::new(seed, service, origin, start));
                }
            }
        }
    }
}

#[test]
fn twice_the_load_costs_little_goodput_from_any_start() {
    let mut tale = Tale::default();
    worlds(|name, mut world| {
        world.run(30.0);
        tale.add(name, &world.run(60.0));
    });
    tale.end("twice the load for 60 s", 0.95, 0.9);
}

/// The queue of the first second is longer than clients wait, and slows the origin down: unless the
/// limit comes down without any answer, there will be none.
#[test]
fn an_overload_that_begins_at_once_does_not_last() {
    let mut tale = Tale::default();
    worlds(|name, mut world| {
        world.load *= 0.4;
        world.run(10.0);
        world.load /= 0.4;
        (world.strain, world.patience) = (0.1, 30.0 * world.mean);
        world.run(30.0);
        tale.add(name, &world.run(60.0));
    });
    tale.end("twice the load all at once", 0.85, 0.2);
}

#[test]
fn half_of_the_capacity_goes_and_comes_back() {
    let (mut half, mut back) = (Tale::default(), Tale::default());
    worlds(|name, mut world| {
        world.run(30.0);
        world.slots /= 2;
        world.run(10.0);
        half.add(name, &world.run(60.0));
        world.slots *= 2;
        world.run(10.0);
        back.add(name, &world.run(60.0));
    });
    half.end("half of the slots", 0.9, 0.7);
    back.end("all slots again", 0.9, 0.8);
}

#[test]
fn a_service_that_becomes_slower_is_not_taken_for_a_queue_for_long() {
    let (mut slow, mut fast) = (Tale::default(), Tale::default());
    worlds(|name, mut world| {
        world.run(30.0);
        (world.mean, world.load) = (world.mean * 3.0, world.load / 3.0);
        world.run(30.0);
        slow.add(name, &world.run(60.0));
        (world.mean, world.load) = (world.mean / 3.0, world.load * 3.0);
        world.run(30.0);
        fast.add(name, &world.run(60.0));
    });
    slow.end("three times as slow", 0.9, 0.5);
    fast.end("as fast as before", 0.9, 0.5);
}
