//! Bytes that a check sends or expects, as they are written in the configuration.

use bytes::Bytes;

use crate::model::options::{Fault, FromValue, Options, Value};

/// `"text"` or `{ hex = "0a 0b" }`; `None` when it is unfit and reported.
#[expect(clippy::option_option, reason = "absent and unfit are two things")]
pub(super) fn payload(options: &Options<'_>, key: &'static str) -> Option<Option<Bytes>> {
    let Some(given) = options.given(key) else { return Some(None) };
    let bytes = if given.is_table() {
        let options = given.table()?;
        let hex = options.require::<Hex>("hex");
        options.finish();
        hex?.0
    } else {
        given.read::<String>()?.into_bytes()
    };
    if bytes.is_empty() {
        given.fault(format!("there is nothing in `{key}`"), Some("leave it out".to_owned()));
        return None;
    }
    Some(Some(bytes.into()))
}

/// Bytes, written as pairs of hexadecimal digits with white space anywhere between them.
struct Hex(Vec<u8>);

impl FromValue for Hex {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("bytes such as \"0d 0a\"")?;
        let digits: Option<Vec<u32>> =
            text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16)).collect();
        let pair = |pair: &[u32]| match pair {
            [high, low] => u8::try_from(high << 4 | low).ok(),
            _ => None,
        };
        let bytes = digits.and_then(|digits| digits.chunks(2).map(pair).collect::<Option<_>>());
        bytes.map(Self).ok_or_else(|| {
            Fault::new(format_args!("{text:?} is not made of pairs of hexadecimal digits"))
                .hint("write bytes as in \"0d 0a ff\"")
        })
    }
}
