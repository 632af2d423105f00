//! Durations as Go writes them (`1h2m3.5s`), which v1beta1 of Cluster API has and v1beta2 has no more.
//!
//! Pure.

/// Whole seconds, cut off as Cluster API's own conversion to v1beta2 does; `None` for what Go would not read.
pub fn seconds(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut nanoseconds = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let (digits, after) = rest.split_at(number);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let factor = match unit {
            "h" => 3600e9,
            "m" => 60e9,
            "s" => 1e9,
            "ms" => 1e6,
            "us" | "µs" | "μs" => 1e3,
            "ns" => 1.0,
            _ => return None,
        };
        nanoseconds += digits.parse::<f64>().ok()? * factor;
        rest = after;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a duration is not negative here, and a limit of centuries may saturate"
    )]
    (!text.is_empty()).then_some((nanoseconds / 1e9) as u64)
}

/// Whole seconds for Go.
pub fn text(seconds: u64) -> String {
    format!("{seconds}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_writes_is_read_in_whole_seconds() {
        for (text, expected) in [
            ("0s", 0),
            ("0", 0),
            ("10s", 10),
            ("5m0s", 300),
            ("1h2m3s", 3723),
            ("1.5h", 5400),
            ("500ms", 0),
            ("1999ms", 1),
            ("3m0.5s", 180),
            ("1000000µs", 1),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for text in ["", "s", "5", "5 s", "5d", "-5s", "m5", "1..2s"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn what_we_write_is_what_we_read() {
        for given in [1, 59, 60, 90, 960, 86_400] {
            assert_eq!(seconds(&text(given)), Some(given));
        }
    }
}
