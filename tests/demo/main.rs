//! `cargo demo`: two real control planes, the real controller, a window that opens and closes before your eyes.
//!
//! It is built like a test because it needs the tests' control planes and the binary, but it asserts nothing about code:
//! it tells what the API servers' audit logs and watches show, and ends with status 0 only if all of it happened.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a demonstration that cannot go on says why and ends"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "telling is its purpose")]
#![allow(clippy::disallowed_methods, reason = "it tells the time")]
#![allow(unreachable_pub, reason = "modules of one binary")]

#[path = "../harness/mod.rs"]
mod harness;
mod scene;
mod story;

use std::process::ExitCode;

use harness::Result;
use harness::provider::Provider;
use scene::Scene;

const USAGE: &str = "cargo demo [-- --keep]

  --keep   leave the control planes and the controller running, and print how to reach and to stop them";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let outcome = match args[..] {
        [] => runtime.block_on(show(false)),
        ["--keep"] => runtime.block_on(show(true)),
        // What `--keep` leaves behind: somebody has to play the hosts.
        ["--play-hosts", management, workload] => runtime.block_on(play_hosts(management, workload)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("\nthe demo did not go as it should: {trouble}");
            ExitCode::FAILURE
        }
    }
}

async fn play_hosts(management: &str, workload: &str) -> Result<()> {
    let (management, workload) = (std::fs::read_to_string(management)?, std::fs::read_to_string(workload)?);
    Provider::serve(&management, &workload, "v1beta2").await?.forever().await;
    Ok(())
}

async fn show(keep: bool) -> Result<()> {
    println!("5spot demo: a workstation is lent to a cluster for one minute and given back.\n");
    println!("Starting two real control planes (the first run builds them from source, some minutes) ...");
    let scene = Scene::set().await?;
    let told = story::tell(&scene).await;
    if let Err(trouble) = told {
        eprintln!("\nthe controller's last lines:\n{}", scene.last_lines());
        return Err(trouble);
    }
    if keep {
        scene.keep()?;
    }
    println!("{}", scene::ON_YOUR_OWN);
    Ok(())
}
