//! A course of numbers as a line of text: eight heights of blocks, one for each equal part of the time.
//! Pure.

/// The course in at most `width` signs, and how many values each stands for. A sign shows the greatest of
/// its values, against the greatest of all; what is above nothing is higher than nothing.
pub(super) fn sparkline(values: &[f64], width: usize) -> (String, usize) {
    let each = values.len().div_ceil(width.max(1)).max(1);
    let greatest = values.iter().copied().fold(0.0, f64::max);
    let sign = |part: &[f64]| {
        let value = part.iter().copied().fold(0.0, f64::max);
        let height = if value > 0.0 { (value / greatest * 7.0).round().max(1.0) } else { 0.0 };
        HEIGHTS.get(height as usize).copied().unwrap_or(' ')
    };
    (values.chunks(each).map(sign).collect(), each)
}

/// From nothing to the greatest.
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heights_are_shares_of_the_greatest() {
        assert_eq!(sparkline(&[0.0, 1.0, 50.0, 100.0], 60), ("▁▂▅█".to_owned(), 1));
        assert_eq!(sparkline(&[0.0; 3], 60), ("▁▁▁".to_owned(), 1));
        assert_eq!(sparkline(&[], 60), (String::new(), 1));
    }

    #[test]
    fn a_long_course_fits_and_keeps_its_peaks() {
        let mut values = vec![1.0; 601];
        values[333] = 7.0;
        let (line, each) = sparkline(&values, 60);
        assert_eq!((line.chars().count(), each), (55, 11));
        assert_eq!(line.chars().position(|c| c == '█'), Some(333 / 11));
    }
}
