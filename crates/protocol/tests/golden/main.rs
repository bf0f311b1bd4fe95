//! The wire, byte for byte: what our encoder writes and our decoder reads, against bytes and tables
//! that were made from the specification without either. See `testdata/README.md`.

mod cases;
mod contract;
mod governance;
mod session;
