//! What two sides can do beyond the basics: offered in `Hello`, chosen in `Welcome`.
//!
//! A peer that offers nothing, or knows nothing of features, gets the basics: batches of whole
//! records, uncompressed.

/// Records longer than a batch go in parts ([`alys_stream_protocol::session::Chunk`]).
pub const CHUNKS: &str = "chunks";

/// Batches may be compressed with zstd.
pub const ZSTD: &str = "zstd";

/// What a side can do, or what was agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// [`CHUNKS`].
    pub chunks: bool,
    /// [`ZSTD`].
    pub zstd: bool,
}

impl Features {
    /// Everything that this version can do.
    pub const ALL: Self = Self { chunks: true, zstd: true };

    /// Reads names; unknown ones mean nothing to us.
    #[must_use]
    pub fn from_names(names: &[String]) -> Self {
        let has = |wanted| names.iter().any(|name| name == wanted);
        Self { chunks: has(CHUNKS), zstd: has(ZSTD) }
    }

    /// The names of it.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        let named = [(self.chunks, CHUNKS), (self.zstd, ZSTD)];
        named.iter().filter(|(has, _)| *has).map(|(_, name)| (*name).to_owned()).collect()
    }

    /// What both sides can do.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { chunks: self.chunks && other.chunks, zstd: self.zstd && other.zstd }
    }
}

/// What the side that is dialled answers to the features `offered`, in the order of the offer: what
/// it can do of them, and the name of the protocol itself.
#[must_use]
pub fn chosen(offered: &[String], able: Features) -> Vec<String> {
    let mut names = able.names();
    names.push(super::FEATURE.to_owned());
    offered.iter().filter(|name| names.contains(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_is_agreed_when_both_have_it() {
        let offered = ["zstd", "later", "chunks", "alys.stream.v1"].map(str::to_owned);
        let able = Features { chunks: true, zstd: false };
        let names = chosen(&offered, able);
        assert_eq!(names, ["chunks", "alys.stream.v1"]);
        assert_eq!(Features::from_names(&names), able);
        assert_eq!(chosen(&[], Features::ALL), Vec::<String>::new());
        assert_eq!(Features::ALL.and(able), able);
        assert_eq!(Features::from_names(&Features::ALL.names()), Features::ALL);
    }
}
