//! Which objects this replica acts on: all of them, those of its shard, or those of the Leases that it holds.

use std::sync::Arc;

use tokio::sync::watch;

use super::claim::{Claim, Proof};
use super::shard::shard_of;

/// What this replica is there for; clones are the same.
#[derive(Clone, Debug)]
pub struct Duties {
    /// By shard; at least one.
    shards: Arc<[Duty]>,
    /// Rings when a Lease was won or lost.
    changes: Arc<watch::Sender<()>>,
}

#[derive(Clone, Debug)]
enum Duty {
    /// Nobody else has this shard.
    Always,
    /// While the Lease is ours.
    Elected(Proof),
    /// Others have this shard.
    Never,
}

/// How this replica stands to one object.
#[derive(Clone, Debug)]
pub enum Standing {
    /// It acts, under this claim.
    Acts(Claim),
    /// Another one acts, and this one may have to follow it any moment.
    StandsBy,
    /// Another one acts, whatever becomes of it.
    Never,
}

impl Duties {
    /// The only replica.
    pub fn alone() -> Self {
        Self::of([Duty::Always])
    }

    /// One of `count` (at least 1), each with a shard for good: the one that has `id`, from 0.
    pub fn shard(id: u16, count: u16) -> Self {
        Self::of((0..count.max(1)).map(|shard| if shard == id { Duty::Always } else { Duty::Never }))
    }

    /// Elected, by these Leases: one for each shard, in order; at least one.
    pub fn elected(proofs: impl IntoIterator<Item = Proof>) -> Self {
        Self::of(proofs.into_iter().map(Duty::Elected))
    }

    fn of(shards: impl IntoIterator<Item = Duty>) -> Self {
        let (shards, changes) = (shards.into_iter().collect(), Arc::new(watch::Sender::new(())));
        Self { shards, changes }
    }

    /// How it stands to the object of that name, now.
    pub fn over(&self, namespace: &str, name: &str) -> Standing {
        let count = u16::try_from(self.shards.len()).unwrap_or(u16::MAX);
        match self.shards.get(usize::from(shard_of(namespace, name, count))) {
            Some(Duty::Always) => Standing::Acts(Claim::unconditional()),
            Some(Duty::Elected(proof)) => proof.claim().map_or(Standing::StandsBy, Standing::Acts),
            Some(Duty::Never) | None => Standing::Never,
        }
    }

    /// Whether it acts on the object of that name, now.
    pub fn acts_on(&self, namespace: &str, name: &str) -> bool {
        matches!(self.over(namespace, name), Standing::Acts(_))
    }

    /// Whether there are others who would act in its place.
    pub fn is_elected(&self) -> bool {
        self.shards.iter().any(|duty| matches!(duty, Duty::Elected(_)))
    }

    /// How many shards there are, and the numbers of those that it acts on, now.
    pub fn held(&self) -> (usize, Vec<usize>) {
        let acts = |duty: &Duty| match duty {
            Duty::Always => true,
            Duty::Elected(proof) => proof.claim().is_some(),
            Duty::Never => false,
        };
        let held = self.shards.iter().enumerate().filter(|(_, duty)| acts(duty)).map(|(shard, _)| shard);
        (self.shards.len(), held.collect())
    }

    /// A Lease was won or lost: whoever waits for that looks again.
    pub fn tell(&self) {
        self.changes.send_replace(());
    }

    /// Told of each time that a Lease is won or lost, from now on.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::candidate::Terms;
    use super::super::clock;
    use super::*;

    #[test]
    fn who_is_alone_acts_on_everything() {
        let alone = Duties::alone();
        assert!(alone.acts_on("machines", "ws-17") && !alone.is_elected());
        assert_eq!(alone.held(), (1, vec![0]));
    }

    #[test]
    fn each_object_is_one_shards_alone() {
        let shards: Vec<Duties> = (0..3).map(|id| Duties::shard(id, 3)).collect();
        for number in 0..50 {
            let name = format!("ws-{number}");
            assert_eq!(shards.iter().filter(|duties| duties.acts_on("machines", &name)).count(), 1);
        }
        assert!(matches!(Duties::shard(0, 3).over("machines", "ws-17"), Standing::Never), "in shard 1");
        assert_eq!(shards[2].held(), (3, vec![2]));
    }

    #[test]
    fn whoever_is_elected_stands_by_until_the_lease_is_won_and_again_when_it_is_lost() {
        let seconds = Duration::from_secs;
        let terms = Terms { duration: seconds(15), renew_deadline: seconds(10), retry_period: seconds(2) };
        let proof = Proof::of(terms);
        let duties = Duties::elected([proof.clone()]);
        assert!(matches!(duties.over("machines", "ws-17"), Standing::StandsBy));
        proof.prove(Some(clock::now()));
        assert!(duties.acts_on("machines", "ws-17") && duties.is_elected());
        assert_eq!(duties.held(), (1, vec![0]));
        proof.prove(None);
        assert!(!duties.acts_on("machines", "ws-17"));
        assert_eq!(duties.held(), (1, vec![]));
    }
}
