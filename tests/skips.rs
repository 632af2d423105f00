//! What cannot be tried on a machine. Where `FIVESPOT_SKIPS=forbidden` is set everything can be, and a test that does not
//! try fails: `.ci/run` sets it where it has what they need.
#![allow(unreachable_pub, reason = "a module of several test binaries")]

use std::io::Write;

/// Says that something could not be tried, and why.
///
/// # Panics
/// Where nothing may be left out.
pub fn skipped(what: &str) {
    #[expect(clippy::disallowed_methods, reason = "who runs the tests says what they may leave out")]
    let is_forbidden = std::env::var("FIVESPOT_SKIPS").is_ok_and(|word| word == "forbidden");
    assert!(!is_forbidden, "not tried, which FIVESPOT_SKIPS=forbidden does not allow: {what}");
    // Past libtest's capture; there may be nobody to tell.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}
