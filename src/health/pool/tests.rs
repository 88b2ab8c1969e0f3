//! Stories of a pool, in virtual time.
