//! The civil week as a set of minutes. Windows repeat weekly on the calendar's axis, so all of them together are one
//! such set: what overlaps or touches is one opening (rule 5), and a window that runs past midnight belongs to the day
//! it starts on (rule 3) because it is written down as its start and its length.

use super::civil::Civil;

/// Minutes in a civil day.
pub(super) const DAY: u16 = 24 * 60;
/// Minutes in a civil week.
pub(super) const WEEK: u16 = 7 * DAY;

/// Consecutive minutes of the week; one that starts late on Sunday runs on into Monday.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Minutes since Monday 00:00, below [`WEEK`].
    pub(super) from: u16,
    /// Minutes, at most [`WEEK`].
    pub(super) length: u16,
}

/// A set of minutes of the week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Week {
    /// Whether the last minute of the week belongs to the set, so that Monday 00:00 starts out open.
    carried: bool,
    /// The minutes at which belonging changes, ascending; 0 is one if Monday 00:00 differs from Sunday 23:59.
    toggles: Vec<u16>,
}

impl Week {
    /// The minutes that any of the stretches covers.
    pub(super) fn union(stretches: &[Stretch]) -> Week {
        let mut covered = vec![false; usize::from(WEEK)];
        for stretch in stretches {
            for passed in 0..stretch.length.min(WEEK) {
                if let Some(minute) = covered.get_mut(usize::from((stretch.from + passed) % WEEK)) {
                    *minute = true;
                }
            }
        }
        let carried = covered.last().copied().unwrap_or(false);
        let mut toggles = Vec::new();
        let mut before = carried;
        for (minute, covered) in (0..WEEK).zip(covered) {
            if covered != before {
                toggles.push(minute);
            }
            before = covered;
        }
        Week { carried, toggles }
    }

    /// Whether the civil minute now under way belongs to the set.
    pub(super) fn contains(&self, civil: Civil) -> bool {
        let minute = civil.minute_of_week();
        let passed = self.toggles.partition_point(|toggle| *toggle <= minute);
        self.carried ^ (passed % 2 == 1)
    }

    /// The first change strictly after a civil time; `None` if nothing ever changes.
    pub(super) fn next_toggle(&self, after: Civil) -> Option<Civil> {
        let minute = after.minute_of_week();
        let passed = self.toggles.partition_point(|toggle| *toggle <= minute);
        match self.toggles.get(passed) {
            Some(toggle) => Some(after.in_week(0, *toggle)),
            None => self.toggles.first().map(|toggle| after.in_week(1, *toggle)),
        }
    }

    /// The last change at or before a civil time; `None` if nothing ever changes.
    pub(super) fn last_toggle(&self, up_to: Civil) -> Option<Civil> {
        let minute = up_to.minute_of_week();
        let passed = self.toggles.partition_point(|toggle| *toggle <= minute);
        match passed.checked_sub(1).and_then(|last| self.toggles.get(last)) {
            Some(toggle) => Some(up_to.in_week(0, *toggle)),
            None => self.toggles.last().map(|toggle| up_to.in_week(-1, *toggle)),
        }
    }

    /// The openings, by their start; the whole week is one of [`WEEK`] minutes from Monday.
    pub(super) fn stretches(&self) -> Vec<Stretch> {
        if self.toggles.is_empty() {
            return if self.carried { vec![Stretch { from: 0, length: WEEK }] } else { Vec::new() };
        }
        // Toggles alternate, so the openings start at every other one; the last may end in the next week.
        let opens = usize::from(self.carried);
        let ends = self.toggles.iter().cycle().skip(opens + 1).step_by(2);
        let starts = self.toggles.iter().skip(opens).step_by(2);
        starts
            .zip(ends)
            .map(|(from, to)| Stretch { from: *from, length: (WEEK + to - from) % WEEK })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn civil(text: &str) -> Civil {
        Civil::new(text.parse().unwrap()).unwrap()
    }

    /// Sunday 22:00 to Monday 06:00, and Wednesday 09:00 to 17:00.
    fn week() -> Week {
        let nights = Stretch { from: 6 * DAY + 22 * 60, length: 8 * 60 };
        let parts =
            [(9, 5), (12, 5)].map(|(hour, hours)| Stretch { from: 2 * DAY + hour * 60, length: hours * 60 });
        Week::union(&[nights, parts[0], parts[1]])
    }

    #[test]
    fn a_stretch_over_sunday_night_runs_on_into_monday() {
        assert!(week().contains(civil("2026-11-01T22:00")) && week().contains(civil("2026-11-02T05:59:59")));
        assert!(
            !week().contains(civil("2026-11-01T21:59:59")) && !week().contains(civil("2026-11-02T06:00"))
        );
    }

    #[test]
    fn changes_follow_one_another_from_week_to_week() {
        let expected = [
            "2026-11-02T06:00",
            "2026-11-04T09:00",
            "2026-11-04T17:00",
            "2026-11-08T22:00",
            "2026-11-09T06:00",
        ];
        let mut at = civil("2026-11-02T00:00");
        for change in expected {
            at = week().next_toggle(at).unwrap();
            assert_eq!(at, civil(change));
            assert_eq!(week().last_toggle(at), Some(at), "a change lies at or before itself");
        }
        assert_eq!(week().last_toggle(civil("2026-11-02T05:59:59")), Some(civil("2026-11-01T22:00")));
    }

    #[test]
    fn overlapping_stretches_are_one_and_a_week_is_the_union_of_its_own() {
        assert_eq!(week().stretches().len(), 2);
        assert_eq!(Week::union(&week().stretches()), week());
        let whole = Stretch { from: 0, length: WEEK };
        let halves = [Stretch { from: DAY, length: WEEK - 60 }, Stretch { from: 0, length: DAY }];
        assert_eq!(Week::union(&halves).stretches(), [whole]);
        assert_eq!(Week::union(&halves).next_toggle(civil("2026-11-02T00:00")), None);
        assert_eq!(Week::union(&[]).stretches(), []);
    }
}
