//! Lines of columns, and numbers that are read at a glance.

/// Lines of columns, the last of which is as long as it is.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// `taken/limit`, or what is taken where there is no limit.
pub(super) fn of_limit(taken: u64, limit: Option<u64>) -> String {
    limit.map_or_else(|| taken.to_string(), |limit| format!("{taken}/{limit}"))
}

/// A time in seconds, in three digits or so.
pub(super) fn brief(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds < 0.001 => format!("{:.0}us", seconds * 1e6),
        Some(seconds) if seconds < 0.01 => format!("{:.1}ms", seconds * 1e3),
        Some(seconds) if seconds < 1.0 => format!("{:.0}ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.1}s"),
    }
}

/// How long something has been, in its two greatest units.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["A".to_owned(), "B".to_owned()], ["long".to_owned(), "words of any length".to_owned()]];
        assert_eq!(table(&rows), "A     B\nlong  words of any length\n");
    }

    #[test]
    fn numbers_are_short() {
        let times = [None, Some(0.000_25), Some(0.0042), Some(0.25), Some(2.5)].map(brief);
        assert_eq!(times, ["-", "250us", "4.2ms", "250ms", "2.5s"]);
        assert_eq!([5, 65, 3700, 90_000].map(age), ["5s", "1m05s", "1h01m", "1d01h"]);
        assert_eq!((of_limit(3, Some(7)), of_limit(3, None)), ("3/7".to_owned(), "3".to_owned()));
    }
}
