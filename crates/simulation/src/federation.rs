//! The federation of every simulation: two of three, with keys that everybody knows.

use std::io;
use std::path::Path;

use alys_stream_protocol::federation::{Federation, Member, ScriptKind};
use bitcoin::secp256k1::{Keypair, Secp256k1, SecretKey};

/// How many of the members have to sign.
pub(crate) const THRESHOLD: u32 = 2;

/// The federation itself.
pub(crate) fn federation() -> Federation {
    let member = |(n, key): (u8, Keypair)| Member {
        id: format!("m{n}"),
        public_key: key.public_key(),
        weight: 1,
    };
    let members = (1..).zip(keys()).map(member).collect();
    Federation::try_new(THRESHOLD, members, ScriptKind::P2wsh).expect("a federation")
}

/// The members' keys.
pub(crate) fn keys() -> Vec<Keypair> {
    let secp = Secp256k1::new();
    (1..=3_u8)
        .map(|n| SecretKey::from_slice(&[n; 32]).expect("a key"))
        .map(|key| Keypair::from_secret_key(&secp, &key))
        .collect()
}

/// The section of a configuration, without its name.
pub(crate) fn yaml(threshold: u32, indent: &str) -> String {
    let members: String = (1..)
        .zip(keys())
        .map(|(n, key)| format!("{indent}  - {{id: m{n}, public_key: '{}'}}\n", key.public_key()))
        .collect();
    format!("{indent}network: regtest\n{indent}threshold: {threshold}\n{indent}members:\n{members}")
}

/// Writes two key files: `all`, with which a governance node signs for everybody, and `one`.
pub(crate) fn write_keys(folder: &Path) -> io::Result<()> {
    let lines: Vec<String> =
        (1..).zip(keys()).map(|(n, key)| format!("m{n}: {}\n", key.display_secret())).collect();
    for (name, text) in [("all", lines.concat()), ("one", lines[2].clone())] {
        let path = folder.join(name);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    Ok(())
}
