//! Healthy noise, on which no detector may say anything.
