//! Writes files below one new folder.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Everyone may read a certificate or a configuration; its owner alone may read a key (N2).
const PUBLIC: u32 = 0o644;
const SECRET: u32 = 0o600;
const FOLDER: u32 = 0o700;

/// The folder, and what was written into it.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    written: Vec<PathBuf>,
}

impl Files {
    /// Makes the folder, or takes an empty one (N1).
    pub(super) fn create(dir: &Path) -> Result<Self, Failure> {
        let root = super::absolute(dir)?;
        make_folder(&root)?;
        let mut entries =
            std::fs::read_dir(&root).map_err(|error| Failure::file("read", &root, &error))?;
        if entries.next().is_some() {
            return Err(Failure::usage(format_args!(
                "{} is not empty (choose a new folder: keys and logs are never overwritten)",
                root.display()
            )));
        }
        Ok(Self { root, written: Vec::new() })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn public(&mut self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        self.write(name, text, PUBLIC)
    }

    pub(super) fn secret(&mut self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        self.write(name, text, SECRET)
    }

    pub(super) fn written(self) -> Vec<PathBuf> {
        self.written
    }

    fn write(&mut self, name: &str, text: &str, mode: u32) -> Result<PathBuf, Failure> {
        let path = self.root.join(name);
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| Failure::file("write", &path, &error))?;
        self.written.push(path.clone());
        Ok(path)
    }
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER)
        .create(path)
        .map_err(|error| Failure::file("make the folder", path, &error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn secrets_are_for_their_owner() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::create(&dir.path().join("new")).unwrap();
        let path = files.secret("a/key", "x").unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
