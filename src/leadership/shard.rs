//! Which shard an object belongs to. Pure; the same answer on every replica, of every release.

/// The shard of an object, of `count` (at least 1).
///
/// FNV-1a of `namespace/name`, stirred, modulo the count: FNV's last bytes barely reach its high bits
/// (<http://www.isthe.com/chongo/tech/comp/fnv/>), and the finaliser of `MurmurHash3` spreads them.
pub fn shard_of(namespace: &str, name: &str, count: u16) -> u16 {
    let bytes = namespace.bytes().chain([b'/']).chain(name.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let shard = stirred(hash) % u64::from(count.max(1));
    u16::try_from(shard).unwrap_or_default()
}

fn stirred(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out by hand, in another language.
    const PINNED: [[u16; 3]; 4] = [[1, 1, 5], [0, 0, 10], [0, 2, 4], [1, 1, 15]];

    #[test]
    fn every_release_gives_the_same_answer() {
        let shards = [("machines", "ws-17"), ("machines", "ws-18"), ("lab", "ws-17"), ("", "")]
            .map(|(namespace, name)| [2, 3, 16].map(|count| shard_of(namespace, name, count)));
        assert_eq!(shards, PINNED);
    }

    #[test]
    fn one_shard_has_everything_and_many_share_evenly() {
        assert_eq!(shard_of("machines", "ws-17", 1), 0);
        for count in [2_u16, 3, 5, 8] {
            let mut sizes = vec![0_usize; usize::from(count)];
            for number in 0..5_000 {
                sizes[usize::from(shard_of("machines", &format!("ws-{number}"), count))] += 1;
            }
            let fair = 5_000 / usize::from(count);
            assert!(sizes.iter().all(|size| size.abs_diff(fair) < fair / 8), "{count}: {sizes:?}");
        }
    }
}
