//! When a request is tried again, and when a second try is begun beside the first.

use std::time::Duration;

/// When a request that failed is tried again, per pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Further tries, 0 to 10.
    pub tries: u32,
    /// What is tried again.
    pub on: RetryOn,
    /// Whether requests whose method is not idempotent are, though they may have been processed.
    pub non_idempotent: bool,
    /// Bytes of a request body that are kept to be sent again.
    pub body: usize,
    /// The greatest pause before the first further try; each doubles it.
    pub backoff: Duration,
    /// The greatest of all.
    pub max_backoff: Duration,
    /// Retries at once, as a share of the pool's requests under way.
    pub budget: f64,
    /// Retries at once that are always allowed.
    pub min_budget: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            tries: 2,
            on: RetryOn::default(),
            non_idempotent: false,
            body: 64 * 1024,
            backoff: Duration::from_millis(25),
            max_backoff: Duration::from_millis(250),
            budget: 0.2,
            min_budget: 3,
        }
    }
}

/// What is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryOn {
    /// No connection.
    pub connect: bool,
    /// The endpoint declined the request unprocessed.
    pub refused: bool,
    /// The connection ended before the first byte of a response.
    pub reset: bool,
    /// The endpoint answered 502, 503 or 504.
    pub gateway_error: bool,
    /// The time for one try was over.
    pub try_timeout: bool,
    /// The endpoint answered one of these.
    pub statuses: Vec<u16>,
    /// It answered with one of these codes of gRPC, without a message.
    pub grpc: Vec<u32>,
}

impl Default for RetryOn {
    fn default() -> Self {
        Self {
            connect: true,
            refused: true,
            reset: true,
            gateway_error: false,
            try_timeout: false,
            statuses: Vec::new(),
            grpc: Vec::new(),
        }
    }
}

/// What a route changes of its pools' [`Retry`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteRetry {
    /// Overrides [`Retry::tries`].
    pub tries: Option<u32>,
    /// Overrides [`Retry::on`].
    pub on: Option<RetryOn>,
    /// Overrides [`Retry::non_idempotent`].
    pub non_idempotent: Option<bool>,
    /// Overrides [`Retry::body`].
    pub body: Option<usize>,
}

impl RouteRetry {
    /// What is in force on the route for a pool with `pool`.
    #[must_use]
    pub fn over(&self, pool: &Retry) -> Retry {
        Retry {
            tries: self.tries.unwrap_or(pool.tries),
            on: self.on.clone().unwrap_or_else(|| pool.on.clone()),
            non_idempotent: self.non_idempotent.unwrap_or(pool.non_idempotent),
            body: self.body.unwrap_or(pool.body),
            ..pool.clone()
        }
    }
}

/// How long one try may take to the head of its response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TryTimeout {
    /// So long.
    Fixed(Duration),
    /// A multiple of what 99 % of the route's requests take at most.
    Learned {
        /// The multiple, at least 1.
        factor: f64,
        /// The least.
        floor: Duration,
    },
}

/// When a second try is begun while the first is under way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hedge {
    /// After which time without a response.
    pub after: HedgeAfter,
    /// At most so many more requests, as a share of all.
    pub extra: f64,
}

/// After which time a second try is begun.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HedgeAfter {
    /// What this share of the route's requests takes at most.
    Quantile(f64),
    /// So long.
    Fixed(Duration),
}

impl Default for Hedge {
    fn default() -> Self {
        Self { after: HedgeAfter::Quantile(0.95), extra: 0.05 }
    }
}
