//! Checks of single fields. Each names the field it refuses.

use super::{Invalid, Problem};
use crate::limits;

/// An open enumeration of the published protocol.
pub(super) trait Enumeration: TryFrom<i32> {
    /// What it is called in errors.
    const NAME: &'static str;
}

macro_rules! enumerations {
    ($($name:ident => $text:literal),* $(,)?) => {
        $(impl Enumeration for crate::governance::$name {
            const NAME: &'static str = $text;
        })*
    };
}

enumerations! {
    RequestPriority => "priority",
    StatusCode => "status code",
    TransactionType => "transaction type",
    SignatureStatus => "signature status",
    FederationUpdateType => "federation update type",
    ProposalType => "proposal type",
    NodeType => "node type",
    EndpointType => "endpoint type",
    AuthType => "authentication type",
    SignatureType => "signature type",
    NodeStatus => "node status",
    SyncStatus => "sync status",
    HealthStatus => "health status",
    ErrorCode => "error code",
}

/// A known number; 0 is one.
pub(super) fn known<E: Enumeration>(field: &str, number: i32) -> Result<(), Invalid> {
    E::try_from(number)
        .map(drop)
        .map_err(|_| Invalid::new(field, Problem::UnknownNumber { of: E::NAME, number }))
}

/// A known number that is not 0.
pub(super) fn specified<E: Enumeration>(field: &str, number: i32) -> Result<(), Invalid> {
    if number == 0 {
        return Err(Invalid::new(field, Problem::Unspecified { of: E::NAME }));
    }
    known::<E>(field, number)
}

/// At most `bytes_max` bytes.
pub(super) fn bytes(field: &str, length: usize, bytes_max: usize) -> Result<(), Invalid> {
    if length > bytes_max {
        return Err(Invalid::new(field, Problem::TooLong { bytes: length, bytes_max }));
    }
    Ok(())
}

/// Free text.
pub(super) fn text(field: &str, text: &str) -> Result<(), Invalid> {
    bytes(field, text.len(), limits::TEXT_BYTES_MAX)
}

/// An identifier or other word: not empty, bounded, without control characters.
pub(super) fn word(field: &str, word: &str, bytes_max: usize) -> Result<(), Invalid> {
    if word.is_empty() {
        return Err(Invalid::missing(field));
    }
    optional_word(field, word, bytes_max)
}

/// As [`word`], or empty.
pub(super) fn optional_word(field: &str, word: &str, bytes_max: usize) -> Result<(), Invalid> {
    bytes(field, word.len(), bytes_max)?;
    if word.chars().any(char::is_control) {
        return Err(Invalid::new(field, Problem::ControlCharacter));
    }
    Ok(())
}

/// At most `count_max` entries.
pub(super) fn count(field: &str, count: usize, count_max: usize) -> Result<(), Invalid> {
    if count > count_max {
        return Err(Invalid::new(field, Problem::TooMany { count, count_max }));
    }
    Ok(())
}

/// A list of words.
pub(super) fn words(field: &str, list: &[String]) -> Result<(), Invalid> {
    count(field, list.len(), limits::LIST_ITEMS_MAX)?;
    each(field, list, |entry| word("", entry, limits::WORD_BYTES_MAX))
}

/// Checks every entry of a list; the path of an error is `field[position]`, and what `check` says
/// about the inside of the entry.
pub(super) fn each<T>(
    field: &str,
    list: &[T],
    mut check: impl FnMut(&T) -> Result<(), Invalid>,
) -> Result<(), Invalid> {
    for (position, entry) in list.iter().enumerate() {
        check(entry).map_err(|invalid| entry_of(field, position, invalid))?;
    }
    Ok(())
}

fn entry_of(field: &str, position: usize, invalid: Invalid) -> Invalid {
    let entry = format!("{field}[{position}]");
    match invalid.field.is_empty() {
        true => Invalid { field: entry, ..invalid },
        false => invalid.within(entry),
    }
}

/// No entry of a list occurs twice.
pub(super) fn unique<T: Ord>(
    field: &str,
    list: impl IntoIterator<Item = T>,
) -> Result<(), Invalid> {
    let mut seen = std::collections::BTreeMap::new();
    for (position, entry) in list.into_iter().enumerate() {
        if let Some(first) = seen.insert(entry, position) {
            let field = format!("{field}[{position}]");
            return Err(Invalid::new(field, Problem::Duplicate { first }));
        }
    }
    Ok(())
}

/// Within a range.
pub(super) fn range(
    field: &str,
    value: impl Into<i128>,
    min: impl Into<i128>,
    max: impl Into<i128>,
) -> Result<(), Invalid> {
    let (value, min, max) = (value.into(), min.into(), max.into());
    if value < min || value > max {
        return Err(Invalid::new(field, Problem::OutOfRange { value, min, max }));
    }
    Ok(())
}

/// Unix seconds; 0 is "not stated", and nothing is before the epoch.
pub(super) fn unix_seconds(field: &str, value: i64) -> Result<(), Invalid> {
    range(field, value, 0, i64::MAX)
}

/// A span of at least a second, where one is given.
pub(super) fn seconds(field: &str, value: Option<i32>) -> Result<(), Invalid> {
    value.map_or(Ok(()), |value| range(field, value, 1, i32::MAX))
}

/// A measurement: finite and within its range.
pub(super) fn measurement(field: &str, value: f32, min: f32, max: f32) -> Result<(), Invalid> {
    // A comparison with NaN is false, so NaN ends here too.
    if value >= min && value <= max {
        return Ok(());
    }
    Err(Invalid::new(field, Problem::Measurement { value, min, max }))
}

/// Hexadecimal digits.
pub(super) fn hex(field: &str, digits: &str) -> Result<(), Invalid> {
    if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(Invalid::new(field, Problem::NotHex))
}

/// Exactly `count` hexadecimal digits.
pub(super) fn digits(
    field: &str,
    digits: &str,
    count: usize,
    expected: &'static str,
) -> Result<(), Invalid> {
    if digits.is_empty() {
        return Err(Invalid::missing(field));
    }
    hex(field, digits)?;
    if digits.len() != count {
        return Err(Invalid::new(field, Problem::Digits { digits: digits.len(), expected }));
    }
    Ok(())
}
