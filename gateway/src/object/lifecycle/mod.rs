//! Lifecycle rules of a bucket: what in it ages, and when that goes.
//!
//! ```text
//!   XML --drafts--> check --> rules --bytes--> settings of the bucket
//!                               |
//!                               +--> due: versions and uploads that have come of age; x-amz-expiration
//! ```
//! Always true: rules that are kept were checked; a rule that asks for what is not done (a transition) is never kept.
//!
//! Elsewhere: who looks through a bucket and acts (the core).

pub mod check;
pub mod due;
pub(super) mod wire;

/// The rules, and what came with them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lifecycle {
    /// In the order they came.
    pub rules: Vec<Rule>,
    /// `x-amz-transition-default-minimum-object-size` was `varies_by_storage_class`. Nothing moves between classes here;
    /// it is kept so that it reads back as it was set.
    pub minimum_varies: bool,
}

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rule {
    /// Of the rule, within its bucket.
    pub id: String,
    /// A disabled rule does nothing.
    pub enabled: bool,
    /// What it is about.
    pub filter: Filter,
    /// What happens to objects.
    pub expiration: Option<Expiration>,
    /// What happens to versions that were replaced.
    pub noncurrent: Option<Noncurrent>,
    /// Uploads are aborted so many days after they began.
    pub abort_days: Option<u32>,
}

/// What a rule is about: all that is set must fit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// How it stood in the document.
    pub form: Form,
    /// Keys that start so.
    pub prefix: Option<String>,
    /// Objects with these tags.
    pub tags: Vec<(String, String)>,
    /// Objects of more bytes.
    pub larger_than: Option<u64>,
    /// Objects of fewer bytes.
    pub smaller_than: Option<u64>,
}

/// How a filter stood in its document; it is given back the same way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Form {
    /// `<Filter>` with one thing in it, or none.
    #[default]
    One,
    /// `<Filter><And>`.
    And,
    /// The old form: `<Prefix>` in the rule itself.
    Prefix,
}

/// What happens to objects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiration {
    /// They go so many days after they were written.
    Days(u32),
    /// They go at this moment (a midnight, UTC), and what comes later goes too; ms since 1970.
    Date(u64),
    /// Delete markers that hide nothing go (or not).
    Marker(bool),
}

/// What happens to versions that were replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Noncurrent {
    /// They go so many days after they were replaced.
    pub days: u32,
    /// But so many of the newest are kept.
    pub keep: u32,
}
