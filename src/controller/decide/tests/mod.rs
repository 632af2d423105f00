//! The core without a cluster: tables of its branches, and a simulated world for its laws.

mod given;
mod leaving;
mod objects;
mod opening;
mod rules;
mod said;
mod status;
mod world;
