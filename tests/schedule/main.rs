//! The schedule engine against its contract and against an evaluator that shares no code with it.

#![expect(clippy::unwrap_used, reason = "an unwrap that fails is a test that fails")]

mod contract;
