//! What the program says about itself.

pub mod logs;
