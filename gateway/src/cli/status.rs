//! `minikv status`: what the server says of itself, as a table or JSON.

use clap::Args;
use comfy_table::{Table, presets};
use http::Method;

use super::client::{Call, Client};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::target::{Prefer, Target, TargetArgs};
use crate::config::Environment;
use crate::http::admin::{Lifecycle, Status};

/// What the server says of itself.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  minikv status\n  minikv status --json | jq .groups")]
pub struct StatusArgs {
    #[command(flatten)]
    target: TargetArgs,
}

/// Prints it.
pub async fn run(args: StatusArgs, output: Output) -> Result<(), Failure> {
    let target = Target::find(
        &args.target,
        &Environment::of_process(),
        Prefer::Environment,
    )?;
    let client = Client::admin(target)?;
    let (_, answer) = client
        .send(
            Call::new(Method::GET)
                .path("/admin/v1/status")
                .service("minikv"),
        )
        .await?;
    let odd = |cause: serde_json::Error| {
        Failure::new(
            Exit::Failure,
            format!("the server's status cannot be read: {cause}"),
        )
        .fix("use the minikv of the server's version")
    };
    let json: serde_json::Value = serde_json::from_slice(&answer).map_err(odd)?;
    let status: Status = serde_json::from_slice(&answer).map_err(odd)?;
    output.answer(|| text(&status), || json)
}

fn text(status: &Status) -> String {
    let mut text = format!(
        "minikv {}, node {}, boot {}, up {} s, {}\n",
        status.version,
        status.node,
        status.boot,
        status.uptime_seconds,
        if status.ready { "ready" } else { "NOT READY" },
    );
    if let Some(disk) = &status.disk {
        let room = if status.room {
            ""
        } else {
            ", NO ROOM for new objects"
        };
        text.push_str(&format!(
            "disk   {} free of {}{room}\n",
            size(disk.free_bytes),
            size(disk.capacity_bytes)
        ));
    }
    text.push_str(&format!(
        "log    {}, {} of it live\n",
        size(status.log_bytes),
        size(status.log_live_bytes)
    ));
    text.push_str(&lifecycle(&status.lifecycle));
    for check in status.checks.iter().filter(|check| !check.ok) {
        text.push_str(&format!(
            "{}  {}: {}\n",
            if check.vital { "FAILS" } else { "WARNS" },
            check.name,
            check.why.as_deref().unwrap_or_default()
        ));
    }
    for group in &status.groups {
        if let Some(trouble) = &group.trouble {
            text.push_str(&format!("FAILS  group {}: {trouble}\n", group.id));
        }
    }
    for line in &status.damage {
        text.push_str(&format!("DAMAGE {line}\n"));
    }
    for line in &status.healed {
        text.push_str(&format!("HEALED {line}\n"));
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "group",
        "state",
        "term",
        "applied",
        "checkpoint",
        "objects",
        "bytes",
    ]);
    for group in &status.groups {
        let state = match (group.ready, group.leads) {
            (false, _) => "not ready",
            (true, true) => "leads",
            (true, false) => "follows",
        };
        table.add_row([
            group.id.to_string(),
            state.to_owned(),
            group.term.to_string(),
            group.applied.to_string(),
            group.checkpoint.to_string(),
            group.objects.to_string(),
            size(group.bytes),
        ]);
    }
    text.push_str(&table.to_string());
    text.push('\n');
    text
}

/// A line about lifecycle rules, where there are any.
fn lifecycle(done: &Lifecycle) -> String {
    let mut text = String::new();
    if done.walks > 0 {
        text.push_str(&format!(
            "rules  {} seen; expired {} objects, {} noncurrent versions, {} markers; aborted {} uploads",
            done.seen,
            done.expired_objects,
            done.expired_noncurrent,
            done.expired_markers,
            done.aborted_uploads,
        ));
        if done.protected > 0 {
            text.push_str(&format!("; {} protected by object lock", done.protected));
        }
        text.push('\n');
    }
    for line in &done.trouble {
        text.push_str(&format!("WARNS  {line}\n"));
    }
    text
}

/// Bytes as people say them.
fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", units[unit])
    }
}
