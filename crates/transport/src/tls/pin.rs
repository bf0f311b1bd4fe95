//! Pins: SHA-256 of the public key that a peer must have, whoever vouches for it.
//!
//! Not a replacement of validation: a pin is compared after the chain and the name were validated,
//! in the same handshake.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a pin begins with.
const PREFIX: &str = "sha256/";

/// Letters of base64 for 32 bytes, with the padding.
const LETTERS: usize = 44;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// SHA-256 of a public key as a certificate holds it (SPKI), as text `sha256/BASE64`.
///
/// The pin of a certificate in a file:
///
/// ```text
/// openssl x509 -in CERT -noout -pubkey | openssl pkey -pubin -outform der \
///   | openssl dgst -sha256 -binary | base64
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pin([u8; 32]);

/// A value that is no pin, as a configuration gives it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a pin; expected sha256/ and 44 letters of base64, the SHA-256 of the public key"
)]
pub struct InvalidPin(pub String);

/// A line of a file that is no pin. It does not hold the line: a file of secrets may have been named
/// by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line} is not a pin; expected sha256/ and 44 letters of base64, the SHA-256 of the public \
     key, or # before a comment"
)]
pub struct InvalidPinLine {
    /// Which line, from 1.
    pub line: usize,
}

impl Pin {
    /// The pin of a public key with this SHA-256.
    #[must_use]
    pub const fn new(key_sha256: [u8; 32]) -> Self {
        Self(key_sha256)
    }

    /// The SHA-256.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads a text with one pin on each line; empty lines and those with `#` first are left out.
    ///
    /// # Errors
    ///
    /// The number of the first line that is no pin.
    pub fn read_lines(text: &str) -> Result<Vec<Self>, InvalidPinLine> {
        let lines = text.lines().map(str::trim).zip(1..);
        lines
            .filter(|(text, _)| !text.is_empty() && !text.starts_with('#'))
            .map(|(text, line)| text.parse().map_err(|_| InvalidPinLine { line }))
            .collect()
    }
}

impl FromStr for Pin {
    type Err = InvalidPin;

    fn from_str(text: &str) -> Result<Self, InvalidPin> {
        let invalid = || InvalidPin(text.chars().take(2 * LETTERS).collect());
        let letters = text.strip_prefix(PREFIX).ok_or_else(invalid)?;
        decode(letters.as_bytes()).map(Self).ok_or_else(invalid)
    }
}

/// Base64 of exactly 32 bytes, in the one form that is canonical.
fn decode(letters: &[u8]) -> Option<[u8; 32]> {
    let letters = letters.strip_suffix(b"=").filter(|rest| rest.len() == LETTERS - 1)?;
    let mut bytes = [0; 32];
    let (mut window, mut bits, mut filled) = (0_u32, 0_u32, 0);
    for letter in letters {
        let value = ALPHABET.iter().position(|known| known == letter)?;
        window = (window << 6) | u32::try_from(value).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            *bytes.get_mut(filled)? = u8::try_from((window >> bits) & 0xff).ok()?;
            filled += 1;
        }
    }
    // 43 letters are 258 bits: the last two are zero in the canonical form.
    (filled == 32 && window & 0b11 == 0).then_some(bytes)
}

impl TryFrom<String> for Pin {
    type Error = InvalidPin;

    fn try_from(text: String) -> Result<Self, InvalidPin> {
        text.parse()
    }
}

impl From<Pin> for String {
    fn from(pin: Pin) -> Self {
        pin.to_string()
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        for three in self.0.chunks(3) {
            let byte = |place: usize| u32::from(three.get(place).copied().unwrap_or_default());
            let window = (byte(0) << 16) | (byte(1) << 8) | byte(2);
            for place in 0..4_usize {
                if place > three.len() {
                    f.write_str("=")?;
                    continue;
                }
                let index = (window >> (18 - 6 * place)) & 0x3f;
                let letter = usize::try_from(index).ok().and_then(|index| ALPHABET.get(index));
                f.write_str(letter.map_or("", |letter| letter_str(letter)))?;
            }
        }
        Ok(())
    }
}

/// One letter of the alphabet as text.
fn letter_str(letter: &u8) -> &str {
    std::str::from_utf8(std::slice::from_ref(letter)).unwrap_or_default()
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_is_that_of_other_tools() {
        // The SHA-256 of nothing.
        let text = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        let pin: Pin = text.parse().unwrap();
        assert_eq!((pin.as_bytes()[0], pin.as_bytes()[31]), (0xe3, 0x55));
        assert_eq!(pin.to_string(), text);
        assert_eq!(serde_yaml_like(text), pin);
    }

    fn serde_yaml_like(text: &str) -> Pin {
        use serde::de::IntoDeserializer as _;
        let deserializer: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
            text.into_deserializer();
        Pin::deserialize(deserializer).unwrap()
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "sha256/",
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "sha1/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
            "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=",
            "sha256/47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=",
            "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU==",
        ] {
            let error = text.parse::<Pin>().unwrap_err();
            assert!(error.to_string().contains("44 letters"), "{error}");
        }
    }

    #[test]
    fn a_file_has_one_on_each_line() {
        let text = "# current\nsha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n  # next\n";
        assert_eq!(Pin::read_lines(text).unwrap().len(), 1);
    }

    #[test]
    fn a_line_that_is_no_pin_is_counted_and_not_quoted() {
        let text = "# a key by mistake\n\n-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n";
        let error = Pin::read_lines(text).unwrap_err();
        assert_eq!(error, InvalidPinLine { line: 3 });
        let said = format!("{error} {error:?}");
        assert!(said.starts_with("line 3 is not a pin; expected sha256/ and 44 letters"), "{said}");
        assert!(!said.contains("PRIVATE") && !said.contains("c2VjcmV0"), "{said}");
    }

    proptest! {
        #[test]
        fn every_pin_survives_its_text(bytes: [u8; 32]) {
            let pin = Pin::new(bytes);
            prop_assert_eq!(pin.to_string().parse(), Ok(pin));
        }
    }
}
