//! End of the period of validity of a certificate (RFC 5280, section 4.1), for a gauge. rustls verifies certificates of
//! others, and does not say when its own one expires.

use chrono::{DateTime, NaiveDateTime, Utc};

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// Tag of the version, which version 1 omits.
const VERSION: u8 = 0xa0;

/// Returns the time at which a certificate in DER expires; `None` if it is malformed.
pub(super) fn not_after(certificate: &[u8]) -> Option<DateTime<Utc>> {
    let certificate = Elements(certificate).next(SEQUENCE)?;
    let mut fields = Elements(Elements(certificate).next(SEQUENCE)?);
    // Absent in version 1.
    let _ = fields.next(VERSION);
    let _serial_number = fields.next(INTEGER)?;
    let _signature_algorithm = fields.next(SEQUENCE)?;
    let _issuer = fields.next(SEQUENCE)?;
    let mut validity = Elements(fields.next(SEQUENCE)?);
    let _not_before = validity.next_time()?;
    validity.next_time()
}

/// Elements of DER, one after the other.
struct Elements<'d>(&'d [u8]);

impl<'d> Elements<'d> {
    /// Takes the contents of the next element, if it has this tag.
    fn next(&mut self, tag: u8) -> Option<&'d [u8]> {
        let (&found, rest) = self.0.split_first()?;
        if found != tag {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        // Up to 127, the length is one byte; beyond, the first byte has the number of bytes of the length.
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let has_room = !bytes.is_empty() && bytes.len() < size_of::<usize>();
            let length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            (has_room.then_some(length)?, rest)
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(contents)
    }

    fn next_time(&mut self) -> Option<DateTime<Utc>> {
        let text = |contents: &'d [u8]| str::from_utf8(contents).ok();
        let text = match self.next(GENERALIZED_TIME).and_then(text) {
            Some(full) => full.to_owned(),
            None => {
                let short = self.next(UTC_TIME).and_then(text)?;
                // Two digits of a year mean 1950 to 2049.
                let century = if short.get(..2)? < "50" { "20" } else { "19" };
                format!("{century}{short}")
            }
        };
        NaiveDateTime::parse_from_str(&text, "%Y%m%d%H%M%SZ").ok().map(|time| time.and_utc())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(year: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        params.not_before = date_time_ymd(1990, 1, 1);
        params.not_after = date_time_ymd(year, 2, 3);
        params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate").der().to_vec()
    }

    #[test]
    fn both_forms_of_a_time_are_read() {
        for year in [1999, 2030, 2049, 2050, 2150] {
            let expected = format!("{year}-02-03T00:00:00+00:00");
            assert_eq!(not_after(&certificate(year)).map(|time| time.to_rfc3339()), Some(expected));
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let certificate = certificate(2030);
        assert_eq!(not_after(&[]), None);
        assert_eq!(not_after(&[SEQUENCE, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1]), None);
        for length in 0..certificate.len() {
            assert_eq!(not_after(&certificate[..length]), None, "{length}");
        }
    }
}
