<<<<<<< Updated upstream
//! Everything that needs API servers.

mod control_planes;
#[path = "../harness/mod.rs"]
mod harness;
=======
fn main() {}
>>>>>>> Stashed changes
