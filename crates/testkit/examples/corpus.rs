//! Writes the seeds of the fuzz target `recover` into a directory: `corpus fuzz/corpus/recover`.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let dir: PathBuf =
        env::args_os().nth(1).map_or_else(|| "fuzz/corpus/recover".into(), PathBuf::from);
    fs::create_dir_all(&dir)?;
    for (name, bytes) in alys_stream_testkit::fuzz::seeds() {
        fs::write(dir.join(name), bytes)?;
    }
    Ok(())
}
