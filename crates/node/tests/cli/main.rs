//! The built program, as a person or a script meets it.

mod bad_input;
mod bench;
mod demo;
mod endpoints;
mod program;
mod reload;
mod running;
