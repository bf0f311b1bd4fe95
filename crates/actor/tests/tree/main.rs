//! The whole tree with real governance nodes: who dies, who panics, who is told, and that nothing
//! of it is ever lost or done twice.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::print_stdout, reason = "tests say how many cases they ran")]

mod budgets;
mod deaths;
mod faulty;
mod load;
mod panics;
mod pushes;
mod rig;
mod shutdown;
