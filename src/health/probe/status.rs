//! Sets of HTTP statuses as people write them: `200`, `"2xx"`, `"200-399"`.

use std::fmt;
use std::ops::RangeInclusive;

use crate::model::options::{Data, Fault, FromValue, Value};

/// Statuses that are expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statuses(RangeInclusive<u16>);

impl Statuses {
    /// Successes and redirections.
    pub(super) const WELL: Self = Self(200..=399);

    pub(super) fn has(&self, status: u16) -> bool {
        self.0.contains(&status)
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.0.start(), self.0.end());
        match (from, to) {
            _ if from == to => write!(f, "{from}"),
            _ if from % 100 == 0 && from + 99 == *to => write!(f, "{}xx", from / 100),
            _ => write!(f, "{from}-{to}"),
        }
    }
}

impl FromValue for Statuses {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let range = match &value.data {
            Data::Integer(_) => {
                let status = u16::from_value(value)?;
                Some(status..=status)
            }
            _ => range(value.text("statuses such as 200, \"2xx\" or \"200-399\"")?),
        };
        let possible = range.clone().filter(|r| FINAL.contains(r.start()) && FINAL.contains(r.end()));
        match (possible, range) {
            (Some(possible), _) if possible.is_empty() => {
                Err(Fault::new("the range is empty").hint("write the lower status first"))
            }
            (Some(possible), _) => Ok(Self(possible)),
            (None, Some(_)) => Err(Fault::new("the statuses of answers go from 200 to 599")),
            (None, None) => {
                let text = value.text("statuses")?;
                Err(Fault::new(format_args!("{text:?} is no status"))
                    .hint("write 200, \"2xx\" or \"200-399\", or a list of these"))
            }
        }
    }
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    if let Some(class) = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX")) {
        let class: u16 = digits(class)?;
        return Some(class.checked_mul(100)?..=class.checked_mul(100)?.checked_add(99)?);
    }
    match text.split_once('-') {
        Some((from, to)) => Some(digits(from.trim())?..=digits(to.trim())?),
        None => digits(text).map(|status| status..=status),
    }
}

fn digits(text: &str) -> Option<u16> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

/// What a final response may have (RFC 9110 §15).
const FINAL: RangeInclusive<u16> = 200..=599;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: Data) -> Result<Statuses, String> {
        Statuses::from_value(&Value::new(0..0, data)).map_err(|fault| fault.text)
    }

    #[test]
    fn statuses_are_written_in_three_ways() {
        for (text, from, to, shown) in [
            ("2xx", 200, 299, "2xx"),
            ("4XX", 400, 499, "4xx"),
            ("200-399", 200, 399, "200-399"),
            ("200 - 299", 200, 299, "2xx"),
            ("204", 204, 204, "204"),
        ] {
            let statuses = read(Data::String(text.to_owned())).unwrap();
            assert_eq!((&statuses, statuses.to_string()), (&Statuses(from..=to), shown.to_owned()));
            assert!(statuses.has(from) && statuses.has(to) && !statuses.has(to + 1));
        }
        assert_eq!(read(Data::Integer(301)), Ok(Statuses(301..=301)));
    }

    #[test]
    fn what_is_no_status_is_refused() {
        for (text, fault) in [
            ("ok", "\"ok\" is no status"),
            ("+200", "\"+200\" is no status"),
            ("200-", "\"200-\" is no status"),
            ("xx", "\"xx\" is no status"),
            ("1xx", "the statuses of answers go from 200 to 599"),
            ("200-600", "the statuses of answers go from 200 to 599"),
            ("65000xx", "\"65000xx\" is no status"),
            ("299-200", "the range is empty"),
        ] {
            assert_eq!(read(Data::String(text.to_owned())), Err(fault.to_owned()), "{text}");
        }
        assert!(read(Data::Integer(99)).is_err() && read(Data::Integer(-1)).is_err());
        assert!(read(Data::Boolean(true)).is_err());
    }
}
