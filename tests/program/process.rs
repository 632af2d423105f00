//! Signals and exit status.

use std::time::Duration;

use crate::program::Program;

#[test]
fn told_to_stop_while_nobody_answers_it_ends_well_and_soon() {
    let mut program = Program::serving(&[]);
    let status = program.component.terminate(Duration::from_secs(5)).unwrap();
    assert_eq!(status.code(), Some(0), "{}", program.component.log());
}
