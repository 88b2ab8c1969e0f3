//! What tells two things apart that were made from different configuration, without keeping what they
//! were made from.

use std::fmt;

use super::options::{Data, Key, Value};

/// A digest of what was written: equal for what means the same word by word, whatever its place, the
/// order of its keys and its comments. Not for secrets: it is no cryptographic hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(u128);

impl Fingerprint {
    /// Of a table.
    #[must_use]
    pub fn of_entries(entries: &[(Key, Value)]) -> Self {
        let mut bytes = Vec::new();
        write_table(entries, &mut bytes);
        Self::of_bytes(&bytes)
    }

    /// Of bytes, such as a file's.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(twox_hash::XxHash3_128::oneshot(bytes))
    }

    /// Of both, in this order.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let bytes = [self.0.to_le_bytes(), other.0.to_le_bytes()].concat();
        Self::of_bytes(&bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Each value with a letter for its kind and, where it has one, its length, so that no two trees read
/// alike.
fn write(value: &Value, out: &mut Vec<u8>) {
    match &value.data {
        Data::String(text) => {
            out.push(b's');
            write_bytes(text.as_bytes(), out);
        }
        Data::Integer(number) => {
            out.push(b'i');
            out.extend_from_slice(&number.to_le_bytes());
        }
        Data::Float(number) => {
            out.push(b'f');
            out.extend_from_slice(&number.to_le_bytes());
        }
        Data::Boolean(flag) => out.extend_from_slice(&[b'b', u8::from(*flag)]),
        Data::Array(items) => {
            out.push(b'a');
            out.extend_from_slice(&(items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| write(item, out));
        }
        Data::Table(entries) => {
            out.push(b't');
            write_table(entries, out);
        }
        Data::Broken => out.push(b'x'),
    }
}

fn write_table(entries: &[(Key, Value)], out: &mut Vec<u8>) {
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    out.extend_from_slice(&(sorted.len() as u64).to_le_bytes());
    for (key, value) in sorted {
        write_bytes(key.name.as_bytes(), out);
        write(value, out);
    }
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}
