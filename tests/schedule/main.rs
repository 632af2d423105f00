//! The schedule engine against its contract and against an evaluator that shares no code with it.

#![expect(clippy::unwrap_used, reason = "an unwrap that fails is a test that fails")]
#![expect(clippy::print_stdout, reason = "a proof says how much it has compared")]

mod compare;
mod contract;
mod dice;
mod model;
mod naive;
mod parser;
mod transitions;
