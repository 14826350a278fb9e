//! Moments as the S3 wire writes them, counted in seconds or milliseconds since 1970 everywhere else.
//!
//! ```text
//!   HTTP          Wed, 21 Oct 2015 07:28:00 GMT      headers (Last-Modified, If-Modified-Since, Date)
//!   basic ISO     20151021T072800Z                   SigV4 (x-amz-date)
//!   RFC 3339      2015-10-21T07:28:00.000Z           XML bodies, x-amz-object-lock-retain-until-date
//! ```
//! Always true: what is written here is read back as the same second; years outside 1970..=9999 are refused.

/// A moment cut into the fields that people read. UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Civil {
    year: u32,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
}

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
/// 9999-12-31T23:59:59Z.
const LAST: u64 = 253_402_300_799;

fn civil(seconds: u64) -> Civil {
    let seconds = seconds.min(LAST);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Count years from March, so that the leap day comes last.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    Civil {
        year: year as u32,
        month: month as u32,
        day: day as u32,
        hour: (rest / 3_600) as u32,
        minute: (rest / 60 % 60) as u32,
        second: (rest % 60) as u32,
    }
}

fn unix(c: Civil) -> Option<u64> {
    let leap =
        c.year.is_multiple_of(4) && (!c.year.is_multiple_of(100) || c.year.is_multiple_of(400));
    let longest = match c.month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if !(1970..=9999).contains(&c.year) || !(1..=longest).contains(&c.day) {
        return None;
    }
    if c.hour > 23 || c.minute > 59 || c.second > 59 {
        return None;
    }
    let year = u64::from(c.year) - u64::from(c.month <= 2);
    let month = (u64::from(c.month) + 9) % 12;
    let of_year = (153 * month + 2) / 5 + u64::from(c.day) - 1;
    let (era, year_of_era) = (year / 400, year % 400);
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    let days = era * 146_097 + of_era - 719_468;
    Some(days * 86_400 + u64::from(c.hour) * 3_600 + u64::from(c.minute) * 60 + u64::from(c.second))
}

fn digits(out: &mut String, value: u32, width: u32) {
    for place in (0..width).rev() {
        out.push((b'0' + (value / 10_u32.pow(place) % 10) as u8) as char);
    }
}

fn number(text: &str, range: std::ops::Range<usize>) -> Option<u32> {
    let part = text.get(range)?;
    if part.bytes().all(|b| b.is_ascii_digit()) {
        part.parse().ok()
    } else {
        None
    }
}

/// Year, month and day.
pub fn civil_date(seconds: u64) -> (i32, u8, u8) {
    let c = civil(seconds);
    (c.year as i32, c.month as u8, c.day as u8)
}

/// `Wed, 21 Oct 2015 07:28:00 GMT`.
pub fn http_date(seconds: u64) -> String {
    let c = civil(seconds);
    let mut out = String::with_capacity(29);
    out.push_str(DAYS[(seconds.min(LAST) / 86_400 % 7) as usize]);
    out.push_str(", ");
    digits(&mut out, c.day, 2);
    out.push(' ');
    out.push_str(MONTHS[c.month as usize - 1]);
    out.push(' ');
    digits(&mut out, c.year, 4);
    for (before, value) in [(' ', c.hour), (':', c.minute), (':', c.second)] {
        out.push(before);
        digits(&mut out, value, 2);
    }
    out.push_str(" GMT");
    out
}

/// Seconds of an IMF-fixdate; the day's name is not looked at. Other forms: `None`.
pub fn parse_http_date(text: &str) -> Option<u64> {
    if text.len() != 29 || !text.is_ascii() || &text[3..5] != ", " || &text[25..] != " GMT" {
        return None;
    }
    let separators = [(7, ' '), (11, ' '), (16, ' '), (19, ':'), (22, ':')];
    if separators
        .iter()
        .any(|(at, what)| text.as_bytes()[*at] != *what as u8)
    {
        return None;
    }
    let month = MONTHS.iter().position(|name| *name == &text[8..11])?;
    unix(Civil {
        year: number(text, 12..16)?,
        month: month as u32 + 1,
        day: number(text, 5..7)?,
        hour: number(text, 17..19)?,
        minute: number(text, 20..22)?,
        second: number(text, 23..25)?,
    })
}

/// `20151021T072800Z`.
pub fn amz_date(seconds: u64) -> String {
    let c = civil(seconds);
    let mut out = String::with_capacity(16);
    digits(&mut out, c.year, 4);
    digits(&mut out, c.month, 2);
    digits(&mut out, c.day, 2);
    out.push('T');
    digits(&mut out, c.hour, 2);
    digits(&mut out, c.minute, 2);
    digits(&mut out, c.second, 2);
    out.push('Z');
    out
}

/// Seconds of `20151021T072800Z`; nothing else is taken.
pub fn parse_amz_date(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    unix(Civil {
        year: number(text, 0..4)?,
        month: number(text, 4..6)?,
        day: number(text, 6..8)?,
        hour: number(text, 9..11)?,
        minute: number(text, 11..13)?,
        second: number(text, 13..15)?,
    })
}

/// `2015-10-21T07:28:00.123Z` of milliseconds.
pub fn rfc3339(ms: u64) -> String {
    let mut out = String::with_capacity(24);
    write_rfc3339(&mut out, ms);
    out
}

/// The same, behind what is there already.
pub fn write_rfc3339(out: &mut String, ms: u64) {
    let c = civil(ms / 1_000);
    digits(out, c.year, 4);
    for (before, value) in [
        ('-', c.month),
        ('-', c.day),
        ('T', c.hour),
        (':', c.minute),
        (':', c.second),
    ] {
        out.push(before);
        digits(out, value, 2);
    }
    out.push('.');
    digits(out, (ms % 1_000) as u32, 3);
    out.push('Z');
}

/// Milliseconds of `2015-10-21T07:28:00Z`, with a fraction of a second or not, with `Z` or an offset like `+02:00`.
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    if !text.is_ascii() || text.len() < 20 {
        return None;
    }
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators
        .iter()
        .any(|(at, what)| text.as_bytes()[*at] != *what)
    {
        return None;
    }
    let seconds = unix(Civil {
        year: number(text, 0..4)?,
        month: number(text, 5..7)?,
        day: number(text, 8..10)?,
        hour: number(text, 11..13)?,
        minute: number(text, 14..16)?,
        second: number(text, 17..19)?,
    })?;
    let (fraction, zone) = match text[19..].strip_prefix('.') {
        None => ("", &text[19..]),
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?),
    };
    if text[19..].starts_with('.') && fraction.is_empty() {
        return None;
    }
    let digit = |at: usize| u64::from(fraction.as_bytes().get(at).map_or(0, |digit| digit - b'0'));
    let ms = seconds * 1_000 + digit(0) * 100 + digit(1) * 10 + digit(2);
    let offset = match zone.as_bytes() {
        b"Z" => return Some(ms),
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (number(zone, 1..3)?, number(zone, 4..6)?);
            let offset = i64::from(hours * 60 + minutes) * 60_000;
            let sane = hours <= 23 && minutes <= 59;
            sane.then_some(if *sign == b'+' { -offset } else { offset })?
        }
        _ => return None,
    };
    ms.checked_add_signed(offset)
        .filter(|ms| ms / 1_000 <= LAST)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_three_forms_are_as_the_wire_has_them() {
        let seconds = 1_445_412_480;
        assert_eq!(http_date(seconds), "Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(amz_date(seconds), "20151021T072800Z");
        assert_eq!(rfc3339(seconds * 1_000 + 7), "2015-10-21T07:28:00.007Z");
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        for bad in [
            "20150230T000000Z",
            "20151301T000000Z",
            "20151021T240000Z",
            "20151021T072800",
            "19691231T235959Z",
            "2015102+T072800Z",
            "20151021t072800z",
            "",
        ] {
            assert_eq!(parse_amz_date(bad), None, "{bad}");
        }
        assert_eq!(parse_http_date("Wed, 31 Feb 2015 07:28:00 GMT"), None);
        assert_eq!(parse_http_date("2015-10-21T07:28:00Z"), None);
        assert_eq!(parse_http_date("Wed, 21 Oct 2015 07:28:00 ÄT"), None);
        assert!(parse_amz_date("20160229T000000Z").is_some());
    }

    #[test]
    fn dates_of_the_internet_are_read_in_any_zone() {
        let at = 1_445_412_480_000;
        for (text, ms) in [
            ("2015-10-21T07:28:00Z", at),
            ("2015-10-21T07:28:00.1Z", at + 100),
            ("2015-10-21T07:28:00.123456789Z", at + 123),
            ("2015-10-21T09:28:00+02:00", at),
            ("2015-10-21T02:58:00.5-04:30", at + 500),
        ] {
            assert_eq!(parse_rfc3339(text), Some(ms), "{text}");
        }
        for bad in [
            "",
            "2015-10-21",
            "2015-10-21T07:28:00",
            "2015-10-21T07:28:00.Z",
            "2015-10-21T07:28:00.5",
            "2015-10-21 07:28:00Z",
            "2015-02-30T07:28:00Z",
            "2015-10-21T07:28:00+2:00",
            "2015-10-21T07:28:00+24:00",
            "1970-01-01T00:00:00+00:01",
            "2015-10-21T07:28:00Zz",
        ] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_second_is_read_back(seconds in 0..=LAST) {
            prop_assert_eq!(parse_amz_date(&amz_date(seconds)), Some(seconds));
            prop_assert_eq!(parse_http_date(&http_date(seconds)), Some(seconds));
            prop_assert_eq!(parse_rfc3339(&rfc3339(seconds * 1_000 + 7)), Some(seconds * 1_000 + 7));
        }
    }
}
