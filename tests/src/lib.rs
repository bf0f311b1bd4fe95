//! What the whole-system tests share: real processes of the real binary, in folders of their own, on
//! ports of their own.
//!
//! Tests wait for what they need (a port that answers, an outcome that is final), never for time.

pub mod apart;
pub mod clock;
pub mod deployment;
pub mod footprint;
pub mod link;
pub mod load;
pub mod network;
pub mod noise;
pub mod output;
pub mod process;
pub mod python;
pub mod seed;
pub mod submission;
pub mod terminal;
pub mod traffic;
