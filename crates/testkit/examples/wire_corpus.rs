//! Writes the seeds of the other fuzz targets below a directory: `wire_corpus fuzz/corpus`.

use std::path::PathBuf;
use std::{env, fs, io};

use alys_stream_testkit::fuzz::Target;

fn main() -> io::Result<()> {
    let dir: PathBuf = env::args_os().nth(1).map_or_else(|| "fuzz/corpus".into(), PathBuf::from);
    for target in Target::ALL {
        let dir = dir.join(target.as_str());
        fs::create_dir_all(&dir)?;
        for (name, bytes) in target.seeds() {
            fs::write(dir.join(name), bytes)?;
        }
    }
    Ok(())
}
