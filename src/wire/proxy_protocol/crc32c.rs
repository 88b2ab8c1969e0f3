//! The checksum of version 2: CRC-32C (RFC 3720 §B.4), over the whole header with zeros in its place.

/// The checksum of `parts`, one after the other.
#[must_use]
pub(super) fn crc32c(parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().copied().flatten();
    !bytes.fold(!0, |crc: u32, byte| {
        let entry = TABLE.get(usize::from((crc as u8) ^ byte)).copied().unwrap_or_default();
        (crc >> 8) ^ entry
    })
}

const TABLE: [u32; 256] = table();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, with an index that is in range")]
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

/// Castagnoli's, with the least significant bit first.
const POLYNOMIAL: u32 = 0x82F6_3B78;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_rfc_3720() {
        assert_eq!(crc32c(&[&[0; 32]]), 0x8A91_36AA);
        assert_eq!(crc32c(&[&[0xFF; 20], &[0xFF; 12]]), 0x62A8_AB43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&[&ascending]), 0x46DD_794E);
        assert_eq!(crc32c(&[b"123456789"]), 0xE306_9283);
    }
}
