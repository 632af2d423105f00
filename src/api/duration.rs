//! Lengths of time as users write them: `90s`, `5m`, `12h`. One parser, everywhere.

use std::fmt;
use std::str::FromStr;
use std::time::Duration as Span;

/// The longest length accepted, 24 hours.
pub const LONGEST_SECONDS: u64 = 24 * 60 * 60;

/// A whole number of seconds, 0 to 86,400.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration {
    seconds: u64,
}

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationFault {
    /// Not digits followed by one unit.
    #[error("must be a whole number followed by s, m or h, like 90s, 5m or 12h")]
    Form,
    /// Over 24 hours.
    #[error("must be at most 24h")]
    TooLong,
}

impl Duration {
    /// None at all.
    pub const ZERO: Self = Self { seconds: 0 };

    /// Capped at 24 hours.
    pub const fn from_secs(seconds: u64) -> Self {
        Self { seconds: if seconds > LONGEST_SECONDS { LONGEST_SECONDS } else { seconds } }
    }

    /// In seconds.
    pub const fn as_secs(self) -> u64 {
        self.seconds
    }

    /// For timers.
    pub const fn as_std(self) -> Span {
        Span::from_secs(self.seconds)
    }

    /// For arithmetic on instants.
    pub fn as_signed(self) -> jiff::SignedDuration {
        jiff::SignedDuration::from_secs(i64::try_from(self.seconds).unwrap_or(i64::MAX))
    }

    /// `0s`: the user wants none.
    pub const fn is_zero(self) -> bool {
        self.seconds == 0
    }
}

impl FromStr for Duration {
    type Err = DurationFault;

    /// Blanks around it are let pass: the predecessor did, and its objects may hold them. New ones are refused by the API
    /// server, as its admission policy refused them.
    fn from_str(text: &str) -> Result<Self, DurationFault> {
        let text = text.trim();
        let unit = text.chars().last().ok_or(DurationFault::Form)?;
        let factor = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return Err(DurationFault::Form),
        };
        let digits = text.strip_suffix(unit).unwrap_or_default();
        // `parse` alone would take a leading plus sign, and digits of other scripts are not ASCII digits.
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(DurationFault::Form);
        }
        let count: u64 = digits.parse().map_err(|_| DurationFault::TooLong)?;
        match count.checked_mul(factor) {
            Some(seconds) if seconds <= LONGEST_SECONDS => Ok(Self { seconds }),
            _ => Err(DurationFault::TooLong),
        }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seconds {
            0 => f.write_str("0s"),
            s if s % 3600 == 0 => write!(f, "{}h", s / 3600),
            s if s % 60 == 0 => write!(f, "{}m", s / 60),
            s => write!(f, "{s}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_unit_is_read() {
        for (text, seconds) in
            [("0s", 0), ("90s", 90), ("5m", 300), ("24h", 86_400), ("007m", 420), (" 5m\n", 300)]
        {
            assert_eq!(text.parse::<Duration>().unwrap().as_secs(), seconds, "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused_by_form_or_by_length() {
        for text in ["", "s", "5", "5d", "+5m", "-5m", "1.5h", "1h30m", "5 m", " ", "٥m", "5M"] {
            assert_eq!(text.parse::<Duration>(), Err(DurationFault::Form), "{text:?}");
        }
        for text in ["25h", "1441m", "86401s", "99999999999999999999h", "18446744073709551615h"] {
            assert_eq!(text.parse::<Duration>(), Err(DurationFault::TooLong), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(seconds in 0..=LONGEST_SECONDS) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = text.parse::<Duration>();
        }
    }
}
