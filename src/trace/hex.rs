//! Numbers as ids are written in fields: hexadecimal, of a fixed number of digits. Not what is shown to
//! people.

/// The number that these lower-case digits are; `None` when something else is among them, or when there
/// are none or too many.
pub(super) fn hex<T: TryFrom<u128>>(text: &[u8]) -> Option<T> {
    if text.is_empty() || text.len() > 32 {
        return None;
    }
    let number = text.iter().try_fold(0_u128, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    });
    T::try_from(number?).ok()
}

/// The last `N` digits of a number, an even number of them.
pub(super) fn digits<const N: usize>(number: u128) -> [u8; N] {
    const { assert!(N.is_multiple_of(2)) };
    let mut digits = [b'0'; N];
    for (pair, byte) in digits.rchunks_mut(2).zip(number.to_le_bytes()) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    digits
}

fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}
