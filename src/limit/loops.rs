//! Which loops watch a pool and adjust what is let through to it, and how each is set. Settings only.

use super::breaker::BreakerSettings;
use super::gradient::GradientSettings;
use super::throttle::ThrottleSettings;

/// The loops of one pool; none by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoopSettings {
    /// The adaptive limit on requests under way.
    pub adaptive: Option<GradientSettings>,
    /// Admission control.
    pub admission: Option<ThrottleSettings>,
    /// The breaker, and what it stands before.
    pub breaker: Option<(Scope, BreakerSettings)>,
}

/// What a breaker stands before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The pool as a whole.
    #[default]
    Pool,
    /// Each endpoint for itself.
    Endpoint,
}
