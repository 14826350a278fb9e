//! `minikv recover`: what a damaged group of a stopped server has lost, and going on without it.
//!
//! Works on the data directory itself, so that it also helps when no server starts.

use std::path::PathBuf;

use clap::Args;
use minikv_core::env::Env;
use minikv_core::ids::GroupId;
use minikv_core::node::{NodeOptions, RecoverError, Recovery, StartError, recover};

use super::exit::{Exit, Failure, chain};
use super::output::Output;
use crate::config::{Environment, sources};
use crate::serve::holder;

const EXAMPLES: &str = "\
Examples:
  minikv recover --group 3                    what group 3 would lose; changes nothing
  minikv recover --group 3 --accept-loss      lose it, and serve again

Stop the server first. `minikv status` names the groups that need this, and why. What is lost are whole requests
that had been acknowledged; everything that is kept stays as it was. Copy the data directory before you accept.";

/// What a damaged group has lost, and going on without it.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RecoverArgs {
    /// The group, as `minikv status` numbers them
    #[arg(long, value_name = "N")]
    group: u16,
    /// Give up what is lost, for good
    #[arg(long)]
    accept_loss: bool,
    /// The server's data directory [env: MINIKV_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Does it.
pub fn run(args: &RecoverArgs, output: Output) -> Result<(), Failure> {
    let data_dir = sources::data_dir(args.data_dir.as_deref(), &Environment::of_process())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|cause| Failure::io("cannot start", &cause))?;
    let options = NodeOptions::new(&data_dir);
    let group = GroupId(args.group);
    let done = runtime.block_on(recover(Env::real(), options, group, args.accept_loss));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    let recovery = done.map_err(|error| failure(&error, &data_dir))?;
    if args.accept_loss && !recovery.damaged_files.is_empty() {
        return Err(state_is_damaged(&recovery));
    }
    output.answer(|| text(&recovery), || json(&recovery))
}

fn failure(error: &RecoverError, data_dir: &std::path::Path) -> Failure {
    let failed = |exit| Failure::new(exit, chain(error));
    match error {
        RecoverError::NoStore { .. } => {
            failed(Exit::NotFound).fix("name the server's data directory: --data-dir DIR")
        }
        RecoverError::NoGroup { .. } => failed(Exit::NotFound),
        RecoverError::HasPeers { .. } => failed(Exit::Precondition),
        RecoverError::Start(StartError::InUse { dir }) => {
            let pid =
                holder::of(data_dir).map_or_else(String::new, |pid| format!(" (process {pid})"));
            let what = format!("{dir} is served by a running minikv{pid}");
            Failure::new(Exit::Precondition, what).fix("stop the server, then run this again")
        }
        RecoverError::Start(_) | RecoverError::NothingLeft { .. } | RecoverError::Failed { .. } => {
            failed(Exit::Failure)
        }
    }
}

/// Giving up entries does not bring rows back.
fn state_is_damaged(recovery: &Recovery) -> Failure {
    let what = format!(
        "nothing was changed: of the state of {}, no copy is whole of {}",
        recovery.group,
        recovery.damaged_files.join(", ")
    );
    Failure::new(Exit::Failure, what).fix("restore the data directory from a backup")
}

fn text(recovery: &Recovery) -> String {
    let mut text = match &recovery.trouble {
        None => format!("{}: nothing to give up, it serves\n", recovery.group),
        Some(why) => format!("{}: {why}\n", recovery.group),
    };
    let (goes, intro) = match recovery.accepted {
        true => ("is gone", "These are gone:"),
        false => ("would go", "These would go:"),
    };
    if !recovery.lost.is_empty() {
        text.push_str(&format!(
            "{} entries behind entry {} are lost or were decided on what is lost. {intro}\n",
            recovery.lost.len(),
            recovery.kept
        ));
    }
    for entry in &recovery.lost {
        let what = entry.what.as_deref().unwrap_or("cannot be read");
        text.push_str(&format!("  entry {}: {what}\n", entry.index));
    }
    if recovery.trouble.is_some() && recovery.lost.is_empty() {
        text.push_str(&format!("No entry that is known of {goes}.\n"));
    }
    if recovery.more_may_be_lost {
        text.push_str("More may have been acknowledged that nothing here tells of.\n");
    }
    for file in &recovery.damaged_files {
        text.push_str(&format!(
            "No copy is whole of {file}: that is not mended by this; restore a backup.\n"
        ));
    }
    match (recovery.accepted, &recovery.trouble) {
        (true, _) => text.push_str(&format!(
            "{} is whole again, in incarnation {}. Start the server.\n",
            recovery.group, recovery.incarnation
        )),
        (false, Some(_)) if recovery.damaged_files.is_empty() => text.push_str(&format!(
            "Nothing was changed. To give this up: minikv recover --group {} --accept-loss\n",
            recovery.group.0
        )),
        _ => {}
    }
    text
}

fn json(recovery: &Recovery) -> serde_json::Value {
    let lost = recovery.lost.iter().map(
        |entry| serde_json::json!({ "index": entry.index, "term": entry.term, "what": entry.what }),
    );
    serde_json::json!({
        "group": recovery.group.0,
        "kept": recovery.kept,
        "trouble": recovery.trouble,
        "lost": lost.collect::<Vec<_>>(),
        "more_may_be_lost": recovery.more_may_be_lost,
        "damaged_files": recovery.damaged_files,
        "accepted": recovery.accepted,
        "incarnation": recovery.incarnation,
    })
}
