//! The real file system. The only module of this crate that names `std::fs`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use super::{LockError, Storage, StorageFile, StorageLock};

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileStorage;

impl Storage for FileStorage {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(dir)?;
        // The new name itself must survive; only the last level is ours to answer for.
        match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.sync_dir(parent),
            Some(_) | None => Ok(()),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Arc::new(OpenFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(OpenFile(file)))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(OpenFile(File::open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn StorageLock>, LockError> {
        let mut file = loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(LockError::Io)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::Held { pid: holder(&mut file) });
                }
                Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
            }
            if is_at(&file, path).map_err(LockError::Io)? {
                break file;
            }
        };
        // The process id is for the one who is refused; the lock does not depend on it.
        file.set_len(0).map_err(LockError::Io)?;
        writeln!(file, "{}", std::process::id()).map_err(LockError::Io)?;
        Ok(Box::new(FileLock { _file: file }))
    }

    fn probe_lock(&self, path: &Path) -> Result<(), LockError> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(LockError::Io(error)),
        };
        // Shared, and gone with the descriptor at the end of this call; the file is not written.
        match file.try_lock_shared() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(LockError::Held { pid: holder(&mut file) }),
            Err(TryLockError::Error(error)) => Err(LockError::Io(error)),
        }
    }
}

/// Whether a path still leads to a file: its directory may have been moved since it was opened, and
/// a lock of what was moved keeps nobody out of what has its name now.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let (file, found) = (file.metadata()?, fs::metadata(path));
    match found {
        Ok(found) => Ok((found.dev(), found.ino()) == (file.dev(), file.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The process id that the holder of a lock left in its file.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Dropping it closes the descriptor, which releases the lock.
#[derive(Debug)]
struct FileLock {
    _file: File,
}

impl StorageLock for FileLock {}

#[derive(Debug)]
struct OpenFile(File);

impl StorageFile for OpenFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..)
            && !rest.is_empty()
        {
            let at = offset.saturating_add(u64::try_from(done).unwrap_or(u64::MAX));
            match self.0.read_at(rest, at) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_of_a_directory_that_was_moved_is_none_of_what_has_its_name() {
        let root = tempfile::tempdir().unwrap();
        let (place, moved) = (root.path().join("buffer"), root.path().join("buffer.damaged"));
        fs::create_dir(&place).unwrap();
        let file = File::create(place.join("lock")).unwrap();
        assert!(is_at(&file, &place.join("lock")).unwrap());
        fs::rename(&place, &moved).unwrap();
        assert!(!is_at(&file, &place.join("lock")).unwrap(), "nothing is there");
        fs::create_dir(&place).unwrap();
        let _lock = FileStorage.lock(&place.join("lock")).unwrap();
        assert!(!is_at(&file, &place.join("lock")).unwrap(), "another one is there");
        assert!(is_at(&file, &moved.join("lock")).unwrap());
    }
}
