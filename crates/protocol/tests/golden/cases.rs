//! Reads the golden files, and holds messages against them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::marker::PhantomData;
use std::path::PathBuf;

use prost::Message;

/// Where a file of the test data is.
pub(crate) fn path(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata").join(relative)
}

/// The cases of one file.
pub(crate) struct Cases {
    name: String,
    cases: BTreeMap<String, Vec<u8>>,
    used: RefCell<BTreeSet<String>>,
}

impl Cases {
    /// Reads `golden/<name>.hex`.
    pub(crate) fn read(name: &str) -> Self {
        let file = path(&format!("golden/{name}.hex"));
        let text = std::fs::read_to_string(&file).expect("the golden file is there");
        let mut cases: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut current = None;
        for line in text.lines() {
            let data = line.split('#').next().unwrap_or_default().trim();
            if let Some(title) = data.strip_prefix("case ") {
                assert!(!cases.contains_key(title), "{name} has two cases {title}");
                current = Some(cases.entry(title.to_owned()).or_default());
            } else if !data.is_empty() {
                let bytes = hex::decode(data.replace(' ', "")).expect("a line is hexadecimal");
                current.as_mut().expect("bytes belong to a case").extend(bytes);
            }
        }
        Self { name: name.to_owned(), cases, used: RefCell::default() }
    }

    pub(crate) fn bytes(&self, case: &str) -> &[u8] {
        self.used.borrow_mut().insert(case.to_owned());
        self.cases.get(case).unwrap_or_else(|| panic!("{} has no case {case}", self.name))
    }

    /// The bytes decode to `value`.
    pub(crate) fn decodes<M: Message + Default + PartialEq + Debug>(&self, case: &str, value: &M) {
        let decoded = M::decode(self.bytes(case));
        // Messages with credentials show less than they compare, so equality is asserted apart.
        assert!(decoded.as_ref() == Ok(value), "{} {case}: {decoded:?}", self.name);
    }

    /// The bytes decode to `value`, and `value` encodes to them.
    pub(crate) fn exact<M: Message + Default + PartialEq + Debug>(&self, case: &str, value: &M) {
        self.decodes(case, value);
        let encoded = hex::encode(value.encode_to_vec());
        assert_eq!(encoded, hex::encode(self.bytes(case)), "{} {case}", self.name);
        assert_eq!(value.encoded_len(), self.bytes(case).len(), "{} {case}", self.name);
    }

    /// Every case was held against something.
    pub(crate) fn done(self) {
        let all: BTreeSet<_> = self.cases.into_keys().collect();
        assert_eq!(self.used.into_inner(), all, "{} has cases that no test reads", self.name);
    }
}

/// One message and its file: the cases that every message has, and those it asks for.
pub(crate) struct Golden<M> {
    pub(crate) cases: Cases,
    message: PhantomData<M>,
}

/// Checks the cases that every message has.
pub(crate) fn golden<M: Message + Default + PartialEq + Debug>(name: &str, full: M) -> Golden<M> {
    let cases = Cases::read(&format!("governance/{name}"));
    cases.exact("every field", &full);
    cases.exact("nothing", &M::default());
    cases.decodes("unknown fields", &full);
    // Cut anywhere, it may be refused or be another message, but nothing worse.
    let bytes = cases.bytes("unknown fields");
    for end in 0..bytes.len() {
        drop(M::decode(&bytes[..end]));
    }
    Golden { cases, message: PhantomData }
}

impl<M: Message + Default + PartialEq + Debug> Golden<M> {
    fn case(self, title: &str, set: impl FnOnce(&mut M)) -> Self {
        let mut value = M::default();
        set(&mut value);
        self.cases.exact(title, &value);
        self
    }

    /// Optional scalars that are there and zero: not the same as absent.
    pub(crate) fn zero(self, set: impl FnOnce(&mut M)) -> Self {
        self.case("present and zero", set)
    }

    /// Messages inside that are there and empty: not the same as absent.
    pub(crate) fn empty(self, set: impl FnOnce(&mut M)) -> Self {
        self.case("present and empty", set)
    }

    /// Enumerations with numbers that they do not have: they pass through.
    pub(crate) fn enums(self, set: impl Fn(&mut M, i32)) -> Self {
        self.case("unknown enum numbers", |value| set(value, 999))
            .case("negative enum numbers", |value| set(value, -1))
    }

    /// The lowest `int64`, and -1 as `int32`: ten bytes each.
    pub(crate) fn negative(self, set: impl FnOnce(&mut M)) -> Self {
        self.case("negative numbers", set)
    }

    /// A map: order and missing parts do not matter, and the last of two equal keys counts.
    pub(crate) fn map(
        self,
        reordered: impl FnOnce(&mut M),
        partial: impl FnOnce(&mut M),
        twice: impl FnOnce(&mut M),
    ) -> Self {
        self.reads("map in another order", reordered)
            .reads("map entries without key or value", partial)
            .reads("map key twice", twice)
    }

    /// Bytes that are understood, though our encoder writes others.
    pub(crate) fn reads(self, title: &str, set: impl FnOnce(&mut M)) -> Self {
        let mut value = M::default();
        set(&mut value);
        self.cases.decodes(title, &value);
        self
    }

    pub(crate) fn done(self) {
        self.cases.done();
    }
}
