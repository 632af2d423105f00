//! What measurements that are run by hand have in common: how large they are, and how measured times are told.

/// Runs a measurement to its end.
pub fn run(measurement: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measurement);
}

/// How many, from the environment.
pub fn size(variable: &str, default: usize) -> usize {
    std::env::var(variable)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text:?}")))
}

/// Prints how the times lie, in milliseconds, and returns the 99th percentile.
pub fn tell(what: &str, since: &str, mut lags: Vec<i128>) -> i128 {
    lags.sort_unstable();
    let at = |share: usize| lags[(lags.len() * share).div_ceil(100).clamp(1, lags.len()) - 1];
    println!(
        "{what:>14}: n {}  min {}  p50 {}  p90 {}  p99 {}  max {} ms {since}",
        lags.len(),
        lags[0],
        at(50),
        at(90),
        at(99),
        lags[lags.len() - 1]
    );
    let mut from = 0;
    for to in [5, 10, 20, 30, 50, 75, 100, 150, 200, 500, i128::MAX] {
        let count = lags.iter().filter(|lag| (from..to).contains(*lag)).count();
        if count > 0 {
            let bound = if to == i128::MAX { "more".to_owned() } else { format!("< {to}") };
            println!("    {bound:>6} ms  {count:>4}  {}", "#".repeat(count.min(80)));
        }
        from = to;
    }
    at(99)
}
