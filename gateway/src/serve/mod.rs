//! stand-in
pub mod admission;
pub mod banner;
pub mod body;
pub mod credentials;
pub mod descriptors;
pub mod listener;
pub mod logging;
pub mod patience;
pub mod shutdown;
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ServeError { #[error(transparent)] Config(#[from] crate::config::ConfigError), #[error("x")] Other }
#[allow(missing_docs)]
pub async fn run(_l: crate::config::Loaded, _j: bool) -> Result<(), ServeError> { Ok(()) }
