//! `cpe apply`: has the mesh run the actors of a crowd file, no more and no fewer.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::actor::{millis, spawn_body};
use crate::cli::Common;
use crate::client::{Client, segment};
use crate::crowd::Crowd;
use crate::crowd::plan::{Planned, Step, plan};
use crate::exit::{Fault, Status};
use crate::output;

/// How long the node asked may take to list what was done. Its replica lags by some 20 ms; only an
/// actor that has ended again is never seen.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Flags of `cpe apply`.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// The crowd file, as configs/crowd.toml
    file: PathBuf,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

/// Applies a crowd file.
///
/// # Errors
/// What is wrong with the file, or what could not be done; what was done before that stays, and
/// applying the file again goes on.
pub(crate) async fn run(args: ApplyArgs, common: Common) -> Result<Status, Fault> {
    let crowd = Crowd::read(&args.file)?;
    let client = Client::of(&common);
    let within = common.timeout();
    let there = actors(&client, within).await?;
    let steps = plan(&crowd, &there)?;
    if !args.dry_run {
        for (done, planned) in steps.iter().enumerate() {
            carry_out(&crowd, planned, &client, within)
                .await
                .map_err(|fault| explain(&fault, planned, done, steps.len()))?;
        }
        if steps.iter().any(|planned| planned.step != Step::Keep) {
            see(&crowd, &client, within).await?;
        }
    }
    show(&crowd, &steps, args.dry_run, &common)?;
    Ok(Status::Done)
}

async fn actors(client: &Client, within: Duration) -> Result<Vec<Value>, Fault> {
    match client.get("/v1/actors", within).await? {
        Value::Array(actors) => Ok(actors),
        other => Err(Fault::failed(format!(
            "the node listed no actors but {other}"
        ))),
    }
}

async fn carry_out(
    crowd: &Crowd,
    planned: &Planned<'_>,
    client: &Client,
    within: Duration,
) -> Result<(), Fault> {
    if matches!(planned.step, Step::Change(_) | Step::Remove) {
        let (name, within_ms) = (segment(planned.name), millis(within));
        // Also of one that cannot be started as it is written: it is when that is put right.
        let keep = planned.has_state && !ends_state(planned);
        let path = format!("/v1/actors/{name}?timeout_ms={within_ms}&keep_state={keep}");
        client.delete(&path, within).await?;
    }
    if let Some(agent) = planned.agent
        && planned.step != Step::Keep
    {
        let body = spawn_body(agent, Some(&crowd.name), within);
        client.post("/v1/actors", &body, within).await?;
    }
    Ok(())
}

fn explain(fault: &Fault, planned: &Planned<'_>, done: usize, of: usize) -> Fault {
    let mut told = Fault::failed(format!("actor `{}`: {fault}", planned.name));
    told.status = fault.status;
    told.next(format!(
        "{done} of {of} were dealt with; apply the file again to go on"
    ))
}

/// Waits until the node lists what was done, so that who asks it next finds it.
async fn see(crowd: &Crowd, client: &Client, within: Duration) -> Result<(), Fault> {
    let until = Instant::now() + SEEN_WITHIN.min(within);
    loop {
        let there = actors(client, within).await?;
        let open: Vec<_> = plan(crowd, &there)?
            .into_iter()
            .filter(|planned| planned.step != Step::Keep)
            .map(|planned| format!("`{}`", planned.name))
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(Fault::failed(format!(
                "started, but not there: {}; it ended again, or was changed by somebody else",
                open.join(", ")
            ))
            .next("see `cpe actor dead-letters` and the log of the node"));
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// Whether carrying it out ends a state that was to last.
fn ends_state(planned: &Planned<'_>) -> bool {
    let lasts = planned.agent.is_some_and(|agent| agent.durable);
    let stops = matches!(planned.step, Step::Change(_) | Step::Remove);
    planned.has_state && stops && !lasts
}

fn show(crowd: &Crowd, steps: &[Planned<'_>], dry_run: bool, common: &Common) -> Result<(), Fault> {
    if common.json {
        let mut answer = Map::from_iter([
            ("crowd".to_owned(), json!(crowd.name)),
            ("dry_run".to_owned(), json!(dry_run)),
        ]);
        for kind in ["added", "changed", "removed", "unchanged"] {
            answer.insert(kind.to_owned(), json!([]));
        }
        for planned in steps {
            let mut item = match &planned.step {
                Step::Change(fields) => json!({"name": planned.name, "fields": fields}),
                _ => json!({"name": planned.name}),
            };
            if ends_state(planned)
                && let Value::Object(item) = &mut item
            {
                item.insert("ends_state".to_owned(), json!(true));
            }
            if let Some(Value::Array(list)) = answer.get_mut(planned.step.name()) {
                list.push(item);
            }
        }
        return output::json(&Value::Object(answer));
    }
    for planned in steps {
        let sign = match planned.step {
            Step::Add => '+',
            Step::Change(_) => '~',
            Step::Remove => '-',
            Step::Keep => ' ',
        };
        let why = match &planned.step {
            Step::Change(fields) => format!(": {}", fields.join(", ")),
            _ => String::new(),
        };
        let what = planned.step.name();
        let state = if ends_state(planned) {
            " (its state ends)"
        } else {
            ""
        };
        output::line(format_args!("{sign} {} {what}{why}{state}", planned.name))?;
    }
    let count = |name: &str| {
        let of = steps.iter().filter(|planned| planned.step.name() == name);
        format!("{} {name}", of.count())
    };
    let counts = ["added", "changed", "removed", "unchanged"].map(count);
    let would = if dry_run { " (nothing was done)" } else { "" };
    output::line(format_args!(
        "crowd {}: {}{would}",
        crowd.name,
        counts.join(", ")
    ))
}
