//! Who is asking, and may they?
//!
//! ```text
//!   request -> claim (what it says of itself) -> authenticate (is it true?) -> Principal -> permit (may they?)
//! ```
//! Whatever is not proven is refused: there is no branch that lets a request through because nobody looked.

pub mod access_key;
pub mod authenticate;
pub mod canonical;
pub mod claim;
pub mod permit;
pub mod post_policy;
pub mod principal;
pub mod signature_v4;
