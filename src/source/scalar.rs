//! Scalars with a meaning: durations, sizes, ranges. Each says what it expects.

use std::time::Duration;

use crate::model::desired::PortRange;

/// What a duration looks like.
pub(in crate::source) const DURATION: &str = "a duration like `500ms`, `30s`, `5m`, `1m30s` or `1h`";
/// What a memory size looks like.
pub(in crate::source) const SIZE: &str = "a size like `512MiB` or `2GiB`, at least `6MiB`";
/// What a port looks like.
pub(in crate::source) const PORT: &str = "a port from 1 to 65535";
/// What a port range looks like.
pub(in crate::source) const PORTS: &str = "a port or a range like `3040-3049`, from 1 to 65535";
/// A year: longer waits are typing errors.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// `1m30s`: numbers with units from large to small, each unit once.
pub(in crate::source) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut last_unit = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..unit_len] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        if unit >= last_unit {
            return None;
        }
        last_unit = unit;
        total = total.checked_add(Duration::from_millis(number.checked_mul(unit)?))?;
        rest = &rest[unit_len..];
    }
    (!text.is_empty() && total <= LONGEST).then_some(total)
}

/// `512MiB`, `2GiB`, or the engine's own `512m`, `2g`, `1048576b`; bytes.
pub(in crate::source) fn size(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" | "b" | "B" => 0,
        "k" | "KiB" => 10,
        "m" | "MiB" => 20,
        "g" | "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole: i64 = whole.parse().ok()?;
    let places = u32::try_from(fraction.len()).ok().filter(|places| *places <= 3)?;
    let fraction: i64 = fraction.parse().ok()?;
    let unit = 1_i64 << shift;
    whole.checked_mul(unit)?.checked_add(fraction * unit / 10_i64.pow(places))
}

/// `0.5`: billionths of a CPU.
pub(in crate::source) fn nano_cpus(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !(1..=9).contains(&fraction.len()) || !fraction.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let whole: i64 = whole.parse().ok().filter(|whole| (0..=1024).contains(whole))?;
    let fraction: i64 = format!("{fraction:0<9}").parse().ok()?;
    Some(whole * 1_000_000_000 + fraction).filter(|nano| *nano > 0)
}

/// 1 to 65535.
pub(in crate::source) fn port(text: &str) -> Option<u16> {
    number(text, 1, u16::MAX)
}

/// `3040-3049` or `3040`.
pub(in crate::source) fn ports(text: &str) -> Option<PortRange> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = PortRange { first: port(first.trim())?, last: port(last.trim())? };
    (range.first <= range.last).then_some(range)
}

/// A decimal number of digits alone, within `low..=high`.
pub(in crate::source) fn number<T: std::str::FromStr + PartialOrd>(text: &str, low: T, high: T) -> Option<T> {
    if text.is_empty() || !text.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|number| (low..=high).contains(number))
}

/// `true` or `false`.
pub(in crate::source) fn flag(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, millis) in
            [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("1m30s", 90_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "30", "s", "-1s", "1.5s", "30s1m", "1s1s", "5 m", "1d", "99999999999999999999s", "9999999h"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        for (text, bytes) in
            [("512MiB", 512 << 20), ("512m", 512 << 20), ("2GiB", 2 << 30), ("4096", 4096), ("64k", 65536)]
        {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        assert_eq!(size("1.5GiB"), Some(3 << 29));
        for bad in ["", "512MB", "MiB", "-1MiB", "1.2345GiB", "99999999999TiB", "5 MiB", "."] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn cpus_are_exact() {
        assert_eq!(nano_cpus("0.5"), Some(500_000_000));
        assert_eq!(nano_cpus("2"), Some(2_000_000_000));
        for bad in ["", "0", "0.0", "-1", "1e3", "nan", "1.", "99999"] {
            assert_eq!(nano_cpus(bad), None, "{bad}");
        }
    }

    #[test]
    fn ranges_are_ordered() {
        assert_eq!(ports("3040-3049"), Some(PortRange { first: 3040, last: 3049 }));
        assert_eq!(ports("3040"), Some(PortRange { first: 3040, last: 3040 }));
        for bad in ["", "0", "0-5", "9-5", "a-b", "1-65536", "1-2-3", "+5"] {
            assert_eq!(ports(bad), None, "{bad}");
        }
    }
}
