//! Unpacks an exported file: gzip, byte order mark, UTF-8.

use std::io::Read;

use flate2::bufread::GzDecoder;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Reason why a file cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The file is damaged, or something else follows its gzip members.
    #[error("the gzip file is damaged after {0} unpacked bytes")]
    Gzip(usize, #[source] std::io::Error),
    /// The file is larger than allowed when unpacked.
    #[error("the file has more than {0} bytes when unpacked: split it")]
    TooLarge(usize),
    /// The file is UTF-16, as some spreadsheets write it.
    #[error("the file is UTF-16: save it as UTF-8")]
    Utf16,
    /// The file is not UTF-8.
    #[error("the file is not UTF-8, from byte {0} on: convert it")]
    NotUtf8(usize),
}

/// Unpacks a file: plain, or gzip with one or more members and zero padding between and after them. Removes the byte
/// order mark. The text has at most `limit` bytes.
///
/// # Errors
/// The file is damaged, too large, or not UTF-8.
pub fn decode(file: &[u8], limit: usize) -> Result<String, DecodeError> {
    let bytes = if file.starts_with(GZIP_MAGIC) { unpack(file, limit)? } else { file.to_vec() };
    if bytes.len() > limit {
        return Err(DecodeError::TooLarge(limit));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(DecodeError::Utf16);
    }
    let text =
        String::from_utf8(bytes).map_err(|error| DecodeError::NotUtf8(error.utf8_error().valid_up_to()))?;
    match text.strip_prefix(BYTE_ORDER_MARK) {
        Some(rest) => Ok(rest.to_owned()),
        None => Ok(text),
    }
}

fn unpack(file: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    let mut unpacked = Vec::new();
    let mut rest = file;
    while !rest.is_empty() {
        let mut member = GzDecoder::new(rest);
        let room = limit.saturating_sub(unpacked.len()) as u64;
        let read = member.by_ref().take(room.saturating_add(1)).read_to_end(&mut unpacked);
        read.map_err(|error| DecodeError::Gzip(unpacked.len(), error))?;
        if unpacked.len() > limit {
            return Err(DecodeError::TooLarge(limit));
        }
        let after = member.into_inner();
        let padding = after.iter().take_while(|byte| **byte == 0).count();
        rest = &after[padding..];
    }
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).expect("memory");
        encoder.finish().expect("memory")
    }

    fn decoded(file: &[u8]) -> Result<String, String> {
        decode(file, 10_000).map_err(|error| error.to_string())
    }

    #[test]
    fn plain_text_and_gzip_members_with_padding_are_unpacked() {
        let members = [gzip(b"\xef\xbb\xbfa\r\n"), gzip(b""), gzip(b"b")].concat();
        let padded = [gzip(b"a\r\n"), vec![0; 512], gzip(b"b"), vec![0; 100_000]].concat();
        for file in [b"a\r\nb".to_vec(), b"\xef\xbb\xbfa\r\nb".to_vec(), members, padded] {
            assert_eq!(decoded(&file).as_deref(), Ok("a\r\nb"));
        }
        assert_eq!(decoded(b"").as_deref(), Ok(""));
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let whole = gzip(b"some text");
        for file in [whole[..whole.len() - 3].to_vec(), [whole.clone(), b"rest".to_vec()].concat()] {
            assert!(decoded(&file).expect_err("damage").contains("damaged"));
        }
        assert!(decoded(b"a\xff").expect_err("no UTF-8").contains("from byte 1 on"));
        assert!(decoded(b"\xff\xfea\0").expect_err("UTF-16").contains("UTF-16"));
    }

    #[test]
    fn the_unpacked_size_is_bounded() {
        assert!(decoded(&gzip(&vec![b'x'; 10_000])).is_ok());
        for file in [
            gzip(&vec![b'x'; 10_001]),
            vec![b'x'; 10_001],
            gzip(&vec![b'x'; 6_000]).repeat(2),
            gzip(&vec![0; 50_000_000]),
        ] {
            assert!(decoded(&file).expect_err("too large").contains("more than 10000 bytes"));
        }
    }
}
