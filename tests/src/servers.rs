//! Real servers, as real processes on loopback, each with a folder and ports of its own. They end with
//! the test program, however it ends.

mod process;

pub use process::{Process, free_port};
