//! A network of the kernel's own between a node and its governance nodes, for tests that run
//! [apart](crate::apart): what happens to cables, and no process sees.
//!
//! Each process has a network namespace. A cable leads from that of the node to that of each
//! governance node, and there is no other way from one to another.

use std::path::{Path, PathBuf};

use crate::apart::command;
use crate::deployment::{edit, listen_of};
use crate::process::Around;

/// Where `ip` names network namespaces; a file system of the test's own is mounted above it.
const NAMES: &str = "/var/run";

/// The end of a cable in the namespace of a governance node; the other one is named after that node.
const TO_NODE: &str = "node";

/// A hardware address that nobody has.
const NOBODY: &str = "02:00:00:00:00:99";

/// What passes when large packets do not: less than a record of TLS, more than a heartbeat.
const NARROW_BYTES: &str = "600";

const WIDE_BYTES: &str = "1500";

/// What every cable does to packets where the kernel can.
const NETEM: &[&str] = &[
    "netem",
    "delay",
    "20ms",
    "15ms",
    "loss",
    "3%",
    "reorder",
    "10%",
    "duplicate",
    "1%",
    "corrupt",
    "0.5%",
];

/// What it does elsewhere: a slow link whose queue is short, so that TCP loses packets whenever it
/// sends a burst.
const SLOW: &[&str] = &["tbf", "rate", "4mbit", "burst", "4kb", "limit", "12kb"];

/// What happens to a cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is pulled: no packet passes, and no connection ends.
    Pulled,
    /// Nothing that the governance node sends arrives.
    DeafNode,
    /// Nothing that the node sends arrives.
    DeafGovernance,
    /// Large packets to the governance node vanish, and nobody is told, as in a tunnel behind a
    /// router that filters ICMP. Connections that begin later know better.
    Narrow,
}

/// Namespaces and cables; they are gone with the process of the test.
#[derive(Debug)]
pub struct Network {
    governance: usize,
}

impl Network {
    /// Lays cables to so many governance nodes.
    ///
    /// # Errors
    ///
    /// Why there can be none here.
    pub fn lay(governance: usize) -> Result<Self, String> {
        command("mount", &["-t", "tmpfs", "tmpfs", NAMES])?;
        for place in 0..=governance {
            command("ip", &["netns", "add", &name(place)])?;
            inside(place, &["ip", "link", "set", "lo", "up"])?;
        }
        for place in 1..=governance {
            let name = name(place);
            let peer = ["peer", "name", TO_NODE, "netns", &name];
            inside(0, &[&["ip", "link", "add", &name, "type", "veth"], &peer[..]].concat())?;
            let [node, governance] = ends(place);
            inside(0, &["ip", "address", "add", &format!("{node}/30"), "dev", &name])?;
            inside(0, &["ip", "link", "set", &name, "up"])?;
            let governance = format!("{governance}/30");
            inside(place, &["ip", "address", "add", &governance, "dev", TO_NODE])?;
            inside(place, &["ip", "link", "set", TO_NODE, "up"])?;
        }
        Ok(Self { governance })
    }

    /// Has the processes of a folder that was minted listen and dial on it.
    ///
    /// # Panics
    ///
    /// When their configurations cannot be changed.
    pub fn configure(&self, root: &Path) {
        let node = root.join("node/node.yaml");
        for place in 1..=self.governance {
            let name = name(place);
            let config = root.join(format!("{name}/governance.yaml"));
            let listen = listen_of(&config);
            let [_, address] = ends(place);
            let moved = listen.replace("127.0.0.1", &address);
            // The certificate is that of a name, not of this address.
            let url = format!("{moved}\n    server_name: {name}");
            edit(&node, |text| text.replace(&listen, &url));
            edit(&config, |text| text.replace(&listen, &moved));
        }
    }

    /// What a process is started in: the node is the first.
    #[must_use]
    pub fn around(&self, place: usize) -> Around {
        Around::network(namespace(place))
    }

    /// Has something happen to the cable of a governance node, by its number from 1.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn strike(&self, governance: usize, fault: Fault) {
        let name = name(governance);
        let [node, theirs] = ends(governance);
        let lost = |place, to: &str, dev: &str| {
            let nobody = ["lladdr", NOBODY, "dev", dev, "nud", "permanent"];
            let neighbour = ["ip", "neigh", "replace", to];
            inside(place, &[&neighbour[..], &nobody[..]].concat())
        };
        let struck = match fault {
            Fault::Pulled => inside(governance, &["ip", "link", "set", TO_NODE, "down"]),
            Fault::DeafNode => lost(governance, &node, TO_NODE),
            Fault::DeafGovernance => lost(0, &theirs, &name),
            Fault::Narrow => narrow(governance, NARROW_BYTES),
        };
        struck.unwrap_or_else(|reason| panic!("{fault:?}: {reason}"));
    }

    /// Mends the cable of a governance node, whatever is wrong with it.
    ///
    /// # Panics
    ///
    /// When it cannot.
    pub fn mend(&self, governance: usize) {
        let name = name(governance);
        let mended = narrow(governance, WIDE_BYTES)
            .and_then(|()| inside(governance, &["ip", "link", "set", TO_NODE, "up"]))
            .and_then(|()| forget_neighbours(governance, TO_NODE))
            .and_then(|()| forget_neighbours(0, &name));
        mended.unwrap_or_else(|reason| panic!("the cable of {name}: {reason}"));
    }

    /// Makes all cables slow and lossy; says how.
    ///
    /// # Errors
    ///
    /// Why the kernel cannot.
    pub fn disturb(&self) -> Result<String, String> {
        let Err(no_netem) = self.queue(NETEM) else { return Ok(NETEM.join(" ")) };
        let slow = self.queue(SLOW).map(|()| format!("{} ({no_netem})", SLOW.join(" ")));
        slow.map_err(|no_tbf| format!("{no_netem}; {no_tbf}"))
    }

    /// Has packets wait in this way at both ends of every cable.
    fn queue(&self, how: &[&str]) -> Result<(), String> {
        for place in 1..=self.governance {
            for (place, dev) in [(0, name(place).as_str()), (place, TO_NODE)] {
                inside(place, &[&["tc", "qdisc", "replace", "dev", dev, "root"], how].concat())?;
            }
        }
        Ok(())
    }
}

/// Large packets of the node do not pass, nor does the kernel send larger ones to be cut later.
fn narrow(governance: usize, bytes: &str) -> Result<(), String> {
    let name = name(governance);
    inside(0, &["ip", "link", "set", &name, "gso_max_segs", "1"])?;
    inside(governance, &["ip", "link", "set", TO_NODE, "mtu", bytes])
}

fn forget_neighbours(place: usize, dev: &str) -> Result<(), String> {
    inside(place, &["ip", "neigh", "flush", "dev", dev, "nud", "all"])
}

/// The name of a process, of its namespace, and of the node's end of its cable.
fn name(place: usize) -> String {
    if place == 0 { "node".to_owned() } else { format!("governance-{place}") }
}

/// The addresses of both ends of the cable of a governance node: that of the node first.
fn ends(governance: usize) -> [String; 2] {
    [1, 2].map(|end| format!("10.1.{governance}.{end}"))
}

fn namespace(place: usize) -> PathBuf {
    Path::new(NAMES).join("netns").join(name(place))
}

/// Runs a command in the namespace of a process.
fn inside(place: usize, words: &[&str]) -> Result<(), String> {
    let file = format!("--net={}", namespace(place).display());
    command("nsenter", &[&[file.as_str(), "--"], words].concat())
}
