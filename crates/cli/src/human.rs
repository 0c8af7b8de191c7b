//! Durations and sizes as people write and read them: `5us`, `10s`, `512k`; units in each cell.

use std::time::Duration;

/// Reads `250ns`, `5us`, `20ms`, `10s`, `1.5m`, `2h`; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit.trim() {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "" | "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit '{unit}': write 500ms, 10s, 2m or 1h")),
    };
    let value: f64 =
        number.parse().map_err(|_| "not a duration: write 500ms, 10s, 2m or 1h".to_string())?;
    Duration::try_from_secs_f64(value * factor).map_err(|_| "out of range".to_string())
}

/// Reads `65536`, `512k`, `64M`, `1GiB`; powers of 1024.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit.trim().to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b')
    {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(format!("unknown unit '{unit}': write 512k, 64M or 1G")),
    };
    let value: u64 = number.parse().map_err(|_| "not a size: write 512k, 64M or 1G".to_string())?;
    value
        .checked_shl(shift)
        .filter(|v| v >> shift == value)
        .ok_or_else(|| "out of range".to_string())
}

/// Three significant digits and a unit: `812 ns`, `1.24 us`, `38.0 ms`, `12.1 s`.
pub(crate) fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        n if n < 999.5 => (n, "ns"),
        n if n < 999_500.0 => (n / 1e3, "us"),
        n if n < 999_500_000.0 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    if unit == "ns" { format!("{value:.0} ns") } else { format!("{} {unit}", digits(value)) }
}

/// `0`, `812`, `1.24k`, `38.0M`, `7.65G`.
pub(crate) fn quantity(value: f64) -> String {
    let (value, unit) = match value {
        v if v < 999.5 => {
            return if v < 10.0 && v.fract() != 0.0 {
                format!("{v:.1}")
            } else {
                format!("{v:.0}")
            };
        }
        v if v < 999_500.0 => (v / 1e3, "k"),
        v if v < 999_500_000.0 => (v / 1e6, "M"),
        v => (v / 1e9, "G"),
    };
    format!("{}{unit}", digits(value))
}

/// `812 B`, `1.24 KiB`, `38.0 MiB`.
pub(crate) fn bytes(value: u64) -> String {
    let mut scaled = value as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if scaled < 1000.0 {
            return if unit == "B" {
                format!("{value} B")
            } else {
                format!("{} {unit}", digits(scaled))
            };
        }
        scaled /= 1024.0;
    }
    format!("{} TiB", digits(scaled))
}

/// A whole number with `,` between the thousands.
pub(crate) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds since 1970 as `2026-11-21 07:45:03 UTC`, by the Gregorian calendar.
pub(crate) fn date(seconds: u64) -> String {
    // In eras of 400 years from March 1st of the year 0, so that a leap day is the last of its
    // year.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) =
        (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// `12.3 %`.
pub(crate) fn percent(value: f64) -> String {
    format!("{value:.1} %")
}

fn digits(value: f64) -> String {
    match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{bytes, date, grouped, parse_duration, parse_size, quantity, time};
    use std::time::Duration;

    #[test]
    fn durations() {
        for (text, ns) in [
            ("5us", 5_000),
            ("10s", 10_000_000_000),
            ("10", 10_000_000_000),
            ("1.5m", 90_000_000_000),
            ("20 ms", 20_000_000),
        ] {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_nanos(ns), "{text}");
        }
        for text in ["", "s", "5 parsecs", "-1s", "1e400", "1..2s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, value) in
            [("0", 0), ("512k", 512 << 10), ("64M", 64 << 20), ("1GiB", 1 << 30), ("12B", 12)]
        {
            assert_eq!(parse_size(text).unwrap(), value, "{text}");
        }
        for text in ["", "k", "1x", "-1", "99999999999T"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn three_digits_and_a_unit() {
        for (ns, text) in [
            (0.0, "0 ns"),
            (812.4, "812 ns"),
            (999.6, "1.00 us"),
            (1_240.0, "1.24 us"),
            (38_000_000.0, "38.0 ms"),
            (1.21e10, "12.1 s"),
            (9.999e11, "1000 s"),
        ] {
            assert_eq!(time(ns), text);
        }
        for (value, text) in
            [(0.0, "0"), (0.5, "0.5"), (812.0, "812"), (999.7, "1.00k"), (7.654e9, "7.65G")]
        {
            assert_eq!(quantity(value), text);
        }
        for (value, text) in
            [(0, "0 B"), (812, "812 B"), (1024, "1.00 KiB"), (39_845_888, "38.0 MiB")]
        {
            assert_eq!(bytes(value), text);
        }
        for (value, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(value), text);
        }
    }

    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_700_000_000, "2023-11-14 22:13:20 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }
}
