//! Which kinds of clients take part in a simulation.

use std::collections::BTreeSet;
use std::str::FromStr;

/// A kind of clients.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// They write, read and list objects, and write pairs in transactions: `clients`.
    Objects,
    /// Versions: `versions`.
    Versions,
    /// Buckets: `buckets`.
    Buckets,
    /// They go away in the middle of uploads: `quitters`.
    Quitters,
}

const ALL: [(&str, Kind); 4] = [
    ("objects", Kind::Objects),
    ("versions", Kind::Versions),
    ("buckets", Kind::Buckets),
    ("quitters", Kind::Quitters),
];

/// Which take part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kinds(BTreeSet<Kind>);

impl Kinds {
    /// All there are.
    pub fn all() -> Kinds {
        Kinds(ALL.iter().map(|(_, kind)| *kind).collect())
    }

    /// Whether this one does.
    pub fn has(&self, kind: Kind) -> bool {
        self.0.contains(&kind)
    }
}

impl FromStr for Kinds {
    type Err = String;

    /// `all`, or names with commas between them.
    fn from_str(names: &str) -> Result<Kinds, String> {
        if names == "all" {
            return Ok(Kinds::all());
        }
        let kind = |name: &str| {
            let known = ALL.iter().find(|(known, _)| *known == name);
            known.map(|(_, kind)| *kind).ok_or_else(|| {
                let names: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
                format!("{name} are no clients; there are {}", names.join(", "))
            })
        };
        names
            .split(',')
            .map(kind)
            .collect::<Result<_, _>>()
            .map(Kinds)
    }
}
