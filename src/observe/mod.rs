//! What the program tells about itself: metrics. Takes plain values and knows
//! neither configuration nor sockets, so that both planes can use it.

pub mod metrics;
