//! How values read in evidence.

use std::time::Duration;

/// A share of a whole, as in `30 %` or `0.1 %`.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let digits = usize::from(percent > 0.0 && percent < 9.95 && (percent - percent.round()).abs() > 0.04);
    format!("{percent:.digits$} %")
}

/// A time, as in `12 ms` or `1.5 s`.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        ..0.001 => format!("{:.2} ms", seconds * 1e3),
        ..0.01 => format!("{:.1} ms", seconds * 1e3),
        ..0.9995 => format!("{:.0} ms", seconds * 1e3),
        _ => format!("{seconds:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_people_write_them() {
        let shares = [0.3, 0.001, 0.05, 0.0, 1.0, 0.333].map(percent);
        assert_eq!(shares, ["30 %", "0.1 %", "5 %", "0 %", "100 %", "33 %"]);
        let times = [400, 4_200, 42_000, 999_900, 1_500_000].map(|us| time(Duration::from_micros(us)));
        assert_eq!(times, ["0.40 ms", "4.2 ms", "42 ms", "1.0 s", "1.5 s"]);
    }
}
