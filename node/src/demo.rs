//! `cpe demo`: the main job on this machine.
//!
//! Node processes are started on loopback and find together. From then on the demo is a client of
//! the first node's HTTP API, and everything goes through the shared tuple space and actors:
//! workers of all nodes grow a forest, an agent on the second node judges held-out cases with it,
//! and an agent of CLIPS rules on the third decides them. At the end everything is checked.

mod cases;
mod crowd;
mod data;
mod report;
mod summary;
mod voice;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use cpe_forest::Forest;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Common;
use crate::exit::{About, Fault, Status};
use crate::forest::job::{self, Progress, Trained, hex};
use crate::forest::model;
use crate::output;
use crate::remote::Remote;
use cases::{ORACLE, TRIAGIST};
use crowd::Crowd;
use data::Data;
use summary::{NodeSummary, Phase, Summary};
use voice::Voice;

/// The model's name in the mesh.
const MODEL: &str = "demo";

/// How long the workers may bring nothing.
const STALL: Duration = Duration::from_secs(60);

/// How often the small job is tried that shows that all nodes grow trees.
const WARM_UPS_MAX: u32 = 50;

/// How long an agent may take to start.
const SPAWN_WITHIN: Duration = Duration::from_secs(30);

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Data to learn from: a CSV file with a header [default: built-in breast-cancer data]
    #[arg(long, value_name = "CSV", requires = "target")]
    pub(crate) data: Option<PathBuf>,
    /// Column to predict
    #[arg(long, value_name = "COL", requires = "data")]
    pub(crate) target: Option<String>,
    /// Leave the mesh running at the end
    #[arg(long)]
    pub(crate) keep: bool,
    /// Trees of the forest
    #[arg(long, value_name = "COUNT", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) trees: u32,
    /// Node processes
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(crate) nodes: u32,
    /// Folder of the report
    #[arg(long, value_name = "DIR", default_value = "cpe-demo")]
    pub(crate) report: PathBuf,
}

/// Runs the demo.
///
/// # Errors
/// When any part of it failed.
pub(crate) async fn run(args: DemoArgs, common: Common) -> Result<Status, Fault> {
    let mut interrupted = pin!(interrupted()?);
    let voice = Voice::new(common.json);
    let data = Data::of(&args)?;
    // Dropped on the way out, for whatever reason, it takes the nodes with it.
    let crowd = tokio::select! {
        crowd = Crowd::start(args.nodes) => crowd?,
        () = &mut interrupted => return Err(Fault::failed("interrupted")),
    };
    let performed = tokio::select! {
        performed = perform(&args, &data, &crowd, &voice) => performed,
        () = &mut interrupted => Err(Fault::failed("interrupted")),
    };
    if performed.is_ok() && args.keep {
        next(&crowd, &voice)?;
        interrupted.await;
    }
    let count = crowd.members.len();
    let stopped = crowd.stop().await;
    // What went wrong first says more.
    performed?;
    stopped?;
    voice.say(
        "end",
        &format!("{count} nodes stopped with exit status 0"),
        json!({"nodes": count}),
    )?;
    Ok(Status::Done)
}

/// Waits for SIGINT or SIGTERM.
fn interrupted() -> Result<impl Future<Output = ()>, Fault> {
    let mut interrupt = signal(SignalKind::interrupt()).about("cannot listen for signals")?;
    let mut terminate = signal(SignalKind::terminate()).about("cannot listen for signals")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Everything between the start of the nodes and their end.
async fn perform(args: &DemoArgs, data: &Data, crowd: &Crowd, voice: &Voice) -> Result<(), Fault> {
    let mut phases = Vec::new();
    let mut phase = |name, from: Duration| {
        let (from, to) = (from.as_secs_f64(), voice.now().as_secs_f64());
        phases.push(Phase { name, from, to });
    };
    crowd.meet().await?;
    phase("mesh", Duration::ZERO);
    let names: Vec<_> = crowd
        .members
        .iter()
        .map(|member| member.name.as_str())
        .collect();
    let shown = names.join(", ");
    let text = format!("{} nodes run and see each other: {shown}", names.len());
    voice.say("mesh", &text, json!({"nodes": names}))?;

    let space = Remote(crowd.first()?.client.clone());
    let spec = data.spec(args.trees, args.nodes);
    warm_up(&space, data, crowd).await?;
    let [decided, sent] = [
        crowd.count("decided").await?,
        crowd.count("messages_out").await?,
    ];
    let began = voice.now();
    let (trained, grown) = grow(&space, data, &spec, voice).await?;
    phase("grow", began);
    let Trained {
        forest,
        out_of_bag,
        progress,
    } = trained;
    let late = |member: &&crowd::Member| !progress.nodes.contains_key(&member.name);
    let late: Vec<_> = crowd.members.iter().filter(late).collect();
    if !late.is_empty() && spec.groves() as usize >= names.len() {
        // The others were faster, or the machine is starved. That is no fault as long as it works.
        let names: Vec<_> = late.iter().map(|member| member.name.as_str()).collect();
        let text = format!("{} came too late for a grove", names.join(", "));
        voice.say("late", &text, json!({"nodes": names}))?;
        warm_up(&space, data, crowd).await?;
    }
    let hash = hex(&forest.hash());
    let text = format!(
        "{} trees in {} groves, by {} nodes",
        spec.trees,
        spec.groves(),
        progress.nodes.len()
    );
    voice.say(
        "grow",
        &text,
        json!({"groves_by_node": progress.nodes, "hash": hash}),
    )?;

    let storing = voice.now();
    let score = out_of_bag.as_ref().map(cpe_forest::Score::main);
    model::put(&space, MODEL, &forest, &model::card(&forest, out_of_bag)).await?;
    let (judge, triagist) = (crowd.at(1)?, crowd.at(2)?);
    spawn(
        crowd,
        "forest",
        ORACLE,
        &json!({"model": MODEL}),
        &judge.name,
    )
    .await?;
    let source = cases::program(data.bundled);
    spawn(
        crowd,
        "rules",
        TRIAGIST,
        &json!({"source": source}),
        &triagist.name,
    )
    .await?;
    phase("agents", storing);
    let text = format!(
        "forest agent on {}, triage agent on {}",
        judge.name, triagist.name
    );
    voice.say(
        "agents",
        &text,
        json!({"forest": judge.name, "rules": triagist.name}),
    )?;

    let streaming = voice.now();
    let importance = forest.importance();
    let cases = cases::stream(&space.0, data, &importance, voice).await?;
    phase("cases", streaming);
    let took = voice.now().saturating_sub(began).as_secs_f64();
    let decided = crowd.count("decided").await?.saturating_sub(decided);
    let sent = crowd.count("messages_out").await?.saturating_sub(sent);

    let proving = voice.now();
    let (train, same_spec) = (data.train.clone(), spec.clone());
    let local = tokio::task::spawn_blocking(move || Forest::grow(&train, &same_spec));
    let local = local.await.about("growing the forest here failed")?;
    let local_hash = hex(&local.about("cannot grow the forest here")?.hash());
    phase("proof", proving);
    let equal = local_hash == hash;
    let text = if equal {
        "the forest grown here is the same"
    } else {
        "the forest grown here differs"
    };
    voice.say(
        "proof",
        text,
        json!({"hash": hash, "local_hash": local_hash, "equal": equal}),
    )?;

    let (confusion, accuracy) = summary::confusion(&cases, data.classes.len());
    let nodes = names.iter().map(|name| NodeSummary {
        name: (*name).to_owned(),
        groves: progress.nodes.get(*name).copied().unwrap_or(0),
        judged: if *name == judge.name { cases.len() } else { 0 },
        decided: if *name == triagist.name {
            cases.len()
        } else {
            0
        },
    });
    let features = data
        .train
        .features()
        .iter()
        .map(|feature| feature.name.clone());
    let mut importance: Vec<_> = features.zip(importance).collect();
    importance.sort_by(|a, b| b.1.total_cmp(&a.1));
    let summary = Summary {
        data: data.name.clone(),
        bundled: data.bundled,
        trained_on: data.train.len(),
        features: importance.len(),
        classes: data.classes.clone(),
        watched: data.watched,
        trees: spec.trees,
        groves: spec.groves(),
        hash,
        local_hash,
        out_of_bag: score,
        accuracy,
        confusion,
        nodes: nodes.collect(),
        importance,
        grown,
        phases,
        tuples_per_second: decided as f64 / took.max(0.001),
        messages_per_second: sent as f64 / took.max(0.001),
        cases,
    };
    show(args, &summary, voice)
}

/// Writes the report and the table, and fails when something is not as it must be.
fn show(args: &DemoArgs, summary: &Summary, voice: &Voice) -> Result<(), Fault> {
    let path = report::write(&args.report, summary)?;
    let failures = summary.failures();
    if voice.is_json() {
        let counts = summary.decisions().into_iter().map(|(decision, (cases, watched))| {
            json!({"decision": decision, "cases": cases, "watched": watched})
        });
        let counts: Vec<Value> = counts.collect();
        let summary = serde_json::to_value(summary).about("cannot write the summary")?;
        let more = json!({
            "summary": summary, "decisions": counts, "report": path, "failures": failures,
        });
        voice.say("result", "the demo's result", more)?;
    } else {
        for line in summary.table() {
            output::line(format_args!("{line}"))?;
        }
        output::line(format_args!("── report ─ {}", path.display()))?;
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(Fault::failed(format!(
        "the demo failed: {}",
        failures.join("; ")
    )))
}

/// Has the nodes grow a small forest until each has taken part: now all are ready to work.
async fn warm_up(space: &Remote, data: &Data, crowd: &Crowd) -> Result<(), Fault> {
    let mut seen = BTreeSet::new();
    for _ in 0..WARM_UPS_MAX {
        let (rows, spec) = data.warm_up(u32::try_from(crowd.members.len()).unwrap_or(1));
        let trained = job::train(space, &rows, &spec, STALL, |_| ()).await?;
        seen.extend(trained.progress.nodes.into_keys());
        if crowd
            .members
            .iter()
            .all(|member| seen.contains(&member.name))
        {
            return Ok(());
        }
    }
    let idle = crowd
        .members
        .iter()
        .filter(|member| !seen.contains(&member.name));
    let idle: Vec<_> = idle.map(|member| member.name.as_str()).collect();
    Err(Fault::unavailable(format!(
        "no worker of {} takes any tasks",
        idle.join(", ")
    )))
}

/// Has the nodes grow the forest; tells also when each grove came, and from whom.
async fn grow(
    space: &Remote,
    data: &Data,
    spec: &cpe_forest::ForestSpec,
    voice: &Voice,
) -> Result<(Trained, Vec<(f64, String)>), Fault> {
    let mut bar = voice.progress("grow", spec.groves().into());
    let mut grown = Vec::new();
    let mut before: BTreeMap<String, u32> = BTreeMap::new();
    let mut told = Ok(());
    let report = |progress: &Progress| {
        for (node, count) in &progress.nodes {
            if before.get(node) != Some(count) {
                grown.push((voice.now().as_secs_f64(), node.clone()));
            }
        }
        before.clone_from(&progress.nodes);
        let text: Vec<_> = before
            .iter()
            .map(|(node, count)| format!("{node} {count}"))
            .collect();
        if told.is_ok() {
            told = bar.at(progress.done.into(), &text.join(", "));
        }
    };
    let trained = job::train(space, &data.train, spec, STALL, report).await?;
    told?;
    Ok((trained, grown))
}

/// Starts an agent on a node, as any client of the mesh could.
async fn spawn(
    crowd: &Crowd,
    kind: &str,
    name: &str,
    args: &Value,
    node: &str,
) -> Result<(), Fault> {
    let timeout_ms = u64::try_from(SPAWN_WITHIN.as_millis()).unwrap_or(u64::MAX);
    let body = json!({
        "kind": kind, "name": name, "args": args, "node": node, "timeout_ms": timeout_ms,
    });
    crowd
        .first()?
        .client
        .post("/v1/actors", &body, SPAWN_WITHIN)
        .await?;
    Ok(())
}

/// A path as a shell takes it, whatever is in it.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

/// Says what can be done with the mesh that is left running.
fn next(crowd: &Crowd, voice: &Voice) -> Result<(), Fault> {
    let api = &crowd.first()?.api;
    let (key, address) = (crowd.key(), crowd.address());
    if voice.is_json() {
        let more = json!({"api": api, "mesh_key": key, "bootstrap": address});
        return voice.say("kept", "the mesh runs until SIGINT or SIGTERM", more);
    }
    let program = std::env::current_exe().unwrap_or_else(|_| "cpe".into());
    let (program, key) = (quoted(&program), quoted(&key));
    output::line(format_args!(
        "── the mesh runs on; Ctrl-C stops it. In another terminal try:"
    ))?;
    for line in [
        // A function, not an alias: it takes a path with blanks and quotes.
        format!("cpe() {{ {program} \"$@\"; }}"),
        format!("export CPE_API={api}"),
        "cpe mesh peers".to_owned(),
        "cpe actor list".to_owned(),
        format!("cpe actor ask {TRIAGIST} summary"),
        format!("cpe forest inspect {MODEL}"),
        "cpe space store notes hello '\"world\"'  &&  cpe space find notes hello".to_owned(),
        "# a further node:".to_owned(),
        "cpe node --api 127.0.0.1:0 --listen /ip4/127.0.0.1/tcp/0 --data another \\".to_owned(),
        format!("    --mesh-key {key} --bootstrap {address}"),
    ] {
        output::line(format_args!("  {line}"))?;
    }
    output::line(format_args!(
        "A browser shows the first node at http://{api}/"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_fails_the_demo_and_says_which() {
        let folder = tempfile::tempdir().unwrap();
        let args = DemoArgs {
            data: None,
            target: None,
            keep: false,
            trees: 100,
            nodes: 3,
            report: folder.path().join("report"),
        };
        let mut summary = summary::tests::summary();
        for json in [false, true] {
            show(&args, &summary, &Voice::new(json)).unwrap();
        }
        summary.local_hash = "cd".repeat(32);
        for json in [false, true] {
            let fault = show(&args, &summary, &Voice::new(json)).unwrap_err();
            assert_eq!(fault.status, Status::Failed);
            assert!(
                fault.to_string().contains("not the one grown in one"),
                "{fault}"
            );
        }
    }

    #[test]
    fn a_quoted_path_is_one_word_to_a_shell() {
        let path = Path::new("/a b/it's $HOME");
        let echo = format!("printf %s {}", quoted(path));
        let output = std::process::Command::new("sh")
            .args(["-c", &echo])
            .output();
        assert_eq!(output.unwrap().stdout, path.to_str().unwrap().as_bytes());
    }
}
