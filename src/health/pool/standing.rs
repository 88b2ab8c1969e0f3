//! What the rest of the program learns of an endpoint: its state in one word, and what is to be
//! done with it. Decides nothing.

/// The state of an endpoint, by what keeps it from all of its traffic; the first that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Taken out by command.
    Disabled,
    /// Given no new requests, by command.
    Draining,
    /// Active checks fail.
    Down,
    /// No active check has passed yet.
    Unchecked,
    /// An outlier, for a time.
    Ejected,
    /// After ejection: one request at a time decides.
    OnTrial,
    /// A tenth of its weight, because it is slow.
    Degraded,
    /// On its way to its whole weight.
    Warming,
    /// Nothing.
    Up,
}

impl State {
    /// Every state, in the order of the variants.
    pub const ALL: [Self; 9] = [
        Self::Disabled,
        Self::Draining,
        Self::Down,
        Self::Unchecked,
        Self::Ejected,
        Self::OnTrial,
        Self::Degraded,
        Self::Warming,
        Self::Up,
    ];

    /// The word for it in metrics, the journal and the terminal.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Draining => "draining",
            Self::Down => "down",
            Self::Unchecked => "unchecked",
            Self::Ejected => "ejected",
            Self::OnTrial => "on_trial",
            Self::Degraded => "degraded",
            Self::Warming => "warming",
            Self::Up => "up",
        }
    }
}

/// What the rest of the program does with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its state.
    pub state: State,
    /// Whether it may get traffic as a rule. Also of an endpoint on trial when the pool has no other.
    pub available: bool,
    /// Whether it counts nowhere, so that it is not even tried when too few are available: it was taken
    /// out by command, or has joined others and was not checked yet.
    pub excluded: bool,
    /// Whether a trial request may go there.
    pub on_trial: bool,
    /// Its part of its weight, in thousandths.
    pub factor: u32,
}
