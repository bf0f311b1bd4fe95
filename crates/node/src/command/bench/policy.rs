//! Delivery policies as they are typed.

use alys_stream_messaging::router::Policy;

/// Reads `any`, `all` or `quorum:N`.
pub(super) fn parse(text: &str) -> Result<Policy, String> {
    match text.split_once(':') {
        None if text == "any" => Ok(Policy::Any),
        None if text == "all" => Ok(Policy::All),
        Some(("quorum", count)) => match count.parse() {
            Ok(count @ 1..) => Ok(Policy::Quorum(count)),
            Ok(_) | Err(_) => Err(format!("{count} is no number of endpoints")),
        },
        None | Some(_) => Err("use any, all or quorum:N".to_owned()),
    }
}

/// The word for it.
pub(super) fn word(policy: Policy) -> String {
    match policy {
        Policy::Any => "any".to_owned(),
        Policy::All => "all".to_owned(),
        Policy::Quorum(count) => format!("quorum:{count}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_words() {
        for text in ["any", "all", "quorum:2"] {
            assert_eq!(word(parse(text).unwrap()), text);
        }
        for text in ["quorum", "quorum:0", "quorum:x", "none"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
