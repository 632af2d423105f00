//! `5spot`.

fn main() {}
