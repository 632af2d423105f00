//! What is known of the Leases of others who share the objects out otherwise: no two counts may be in force at once. Pure.
//!
//! Whoever has won a Lease looks, before it acts, at all Leases of the other counts, live. So of two who win at one time
//! under two counts at least one sees the other's, and steps back; and whoever acted before is seen by both.

use std::collections::HashMap;

use super::candidate::{Moment, Record};

/// The Leases of other counts, by name.
#[derive(Clone, Debug, Default)]
pub struct Board(HashMap<String, Known>);

#[derive(Clone, Debug)]
struct Known {
    version: String,
    /// Until when its holder may act; as with the Lease that one stands for, by one's own clock.
    held_until: Moment,
}

impl Board {
    /// A Lease of another count, as a watch or the server itself says.
    pub fn note(&mut self, name: &str, lease: &Record, now: Moment) {
        if self.0.get(name).is_some_and(|known| known.version == lease.version) {
            return;
        }
        let held_until = if lease.holder.is_some() { now.after(lease.duration) } else { now };
        self.0.insert(name.to_owned(), Known { version: lease.version.clone(), held_until });
    }

    /// All that the server has now; whatever was known of others stays, for whoever had a Lease that somebody deleted
    /// may act for as long as before.
    pub fn listed<'a>(&mut self, leases: impl IntoIterator<Item = (&'a str, Record)>, now: Moment) {
        for (name, lease) in leases {
            self.note(name, &lease, now);
        }
    }

    /// Until when somebody may act under another count; `None`: nobody may.
    pub fn taken_until(&self, now: Moment) -> Option<Moment> {
        self.0.values().map(|known| known.held_until).max().filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn lease(holder: &str, version: &str) -> Record {
        let holder = (!holder.is_empty()).then(|| holder.to_owned());
        Record { holder, duration: Duration::from_secs(15), version: version.to_owned() }
    }

    #[test]
    fn another_count_is_in_force_until_each_of_its_leases_was_let_go_or_has_stood_still() {
        let mut board = Board::default();
        assert_eq!(board.taken_until(at(0)), None);
        board.note("l-0-of-2", &lease("a", "1"), at(0));
        board.note("l-1-of-2", &lease("b", "2"), at(3));
        board.note("l-0-of-2", &lease("a", "1"), at(9));
        assert_eq!(board.taken_until(at(9)), Some(at(18)));
        board.listed([("l-1-of-2", lease("", "3"))], at(10));
        assert_eq!(board.taken_until(at(10)), Some(at(15)));
        assert_eq!(board.taken_until(at(15)), None);
        board.note("l-0-of-2", &lease("a", "4"), at(16));
        assert_eq!(board.taken_until(at(16)), Some(at(31)));
    }
}
