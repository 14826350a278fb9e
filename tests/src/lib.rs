//! minikv's promises, checked from outside.
//!
//! `model` says what a store is, `oracle` judges what one shows after a history, `content` makes bytes that say what
//! they are. `client` asks and writes down, `observe` reads everything back, `counts` recounts. `world` is one simulated
//! node, `steps` what it does, `life` its stages, `crash` all its deaths.

pub mod client;
pub mod content;
pub mod counts;
pub mod crash;
pub mod dice;
pub mod life;
pub mod lives;
pub mod model;
pub mod observe;
pub mod on_disk;
pub mod oracle;
pub mod steps;
pub mod world;
