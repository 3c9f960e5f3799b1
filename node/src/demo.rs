//! `cpe demo`: the main job on this machine.
//!
//! Node processes are started on loopback and find together. From then on the demo is a client of
//! their HTTP API, and everything goes through the shared tuple space and actors: workers of all
//! nodes grow a forest, an agent on the second node judges held-out cases with it, and an agent of
//! CLIPS rules on the third decides them. At the end everything is checked.
//!
//! Any one of three nodes may be killed at any moment. Before every part of the space has three
//! homes the demo starts again; after that another node is asked, agents are started elsewhere, and
//! what the dead node had under way is done once more.

mod agents;
mod cases;
mod crowd;
mod data;
mod door;
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
use agents::Agent;
use cases::{Decided, Desk, ORACLE, TRIAGIST};
use crowd::{Crowd, NoMesh};
use data::Data;
use door::Door;
use summary::{NodeSummary, Phase, Summary};
use voice::Voice;

/// The model's name in the mesh.
const MODEL: &str = "demo";

/// How long the workers may bring nothing.
const STALL: Duration = Duration::from_secs(60);

/// How often the small job is tried that shows that all nodes grow trees.
const WARM_UPS_MAX: u32 = 50;

/// How often the nodes are started anew when one is killed before the mesh can do without it.
const STARTS_MAX: u32 = 5;

/// How often to look whether a node has died.
const LOOK_EVERY: Duration = Duration::from_millis(100);

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
        crowd = assemble(args.nodes, &data, &voice) => crowd?,
        () = &mut interrupted => return Err(Fault::failed("interrupted")),
    };
    let performed = tokio::select! {
        performed = perform(&args, &data, &crowd, &voice) => performed,
        mourned = mourn(&crowd, &voice) => mourned,
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
    let killed = stopped?;
    let left = count - killed.len();
    let mut text = format!("{left} nodes stopped with exit status 0");
    if !killed.is_empty() {
        text += &format!("; killed before: {}", killed.join(", "));
    }
    voice.say("end", &text, json!({"nodes": left, "killed": killed}))?;
    Ok(Status::Done)
}

/// Starts the nodes until they are a mesh that can do without any one of them, if they are three
/// or more.
async fn assemble(count: u32, data: &Data, voice: &Voice) -> Result<Crowd, Fault> {
    let mut starts = 1;
    loop {
        let text = format!("{count} node processes on free ports of loopback");
        voice.say("start", &text, json!({"nodes": count}))?;
        let crowd = async {
            let crowd = Crowd::start(count).await?;
            crowd.meet().await?;
            // The groups grow while the workers prove that they work.
            let warm = async { Ok(warm_up(data, &crowd).await?) };
            tokio::try_join!(crowd.spread(voice), warm)?;
            Ok(crowd)
        };
        match crowd.await {
            Ok(crowd) => return Ok(crowd),
            Err(NoMesh::Killed(name)) if starts < STARTS_MAX => {
                starts += 1;
                let text = format!("node {name} was killed before the mesh was whole: once more");
                voice.say("again", &text, json!({"killed": name}))?;
            }
            Err(NoMesh::Killed(name)) => {
                let text = format!("a node was killed at each of {STARTS_MAX} starts, {name} last");
                return Err(Fault::failed(text));
            }
            Err(NoMesh::Fault(fault)) => return Err(fault),
        }
    }
}

/// Says of each node that it died, when it does.
async fn mourn(crowd: &Crowd, voice: &Voice) -> Result<(), Fault> {
    let mut told = BTreeSet::new();
    loop {
        for (member, status) in crowd.dead() {
            if told.insert(&member.name) {
                let name = &member.name;
                let text = format!("node {name} has died ({status}); the others go on");
                voice.say(
                    "died",
                    &text,
                    json!({"node": name, "status": status.to_string()}),
                )?;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
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
    phase("mesh", Duration::ZERO);
    let names: Vec<_> = crowd
        .members
        .iter()
        .map(|member| member.name.as_str())
        .collect();
    let shown = names.join(", ");
    let text = format!("{} nodes run and see each other: {shown}", names.len());
    voice.say("mesh", &text, json!({"nodes": names}))?;

    let space = Door::new(crowd);
    let spec = data.spec(args.trees, args.nodes);
    let before = [
        crowd.count("decided").await,
        crowd.count("messages_out").await,
    ];
    let began = voice.now();
    let (trained, grown) = grow(&space, data, &spec, voice).await?;
    phase("grow", began);
    let Trained {
        forest,
        out_of_bag,
        progress,
        ..
    } = trained;
    let late =
        |member: &&crowd::Member| member.is_alive() && !progress.nodes.contains_key(&member.name);
    let late: Vec<_> = crowd.members.iter().filter(late).collect();
    if !late.is_empty() && spec.groves() as usize >= names.len() {
        // The others were faster, or the machine is starved. That is no fault as long as it works.
        let names: Vec<_> = late.iter().map(|member| member.name.as_str()).collect();
        let text = format!("{} came too late for a grove", names.join(", "));
        voice.say("late", &text, json!({"nodes": names}))?;
        warm_up(data, crowd).await?;
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
    let forest = forest.with_out_of_bag(out_of_bag);
    let card = cpe_forest::ModelCard::new(&forest);
    model::put(&space, MODEL, &forest, &card).await?;
    let model = json!({"model": MODEL});
    let judge = Agent::start(crowd, ("forest", ORACLE), model, 1).await?;
    let source = json!({"source": cases::program(data.bundled)});
    let triage = Agent::start(crowd, ("rules", TRIAGIST), source, 2).await?;
    phase("agents", storing);
    let on = [judge.home().await, triage.home().await];
    let text = format!("forest agent on {}, triage agent on {}", on[0], on[1]);
    voice.say("agents", &text, json!({"forest": on[0], "rules": on[1]}))?;

    let streaming = voice.now();
    let importance = forest.importance();
    let desk = Desk {
        crowd,
        space: &space,
        judge: &judge,
        triage: &triage,
    };
    let Decided {
        cases,
        judged,
        triaged,
    } = cases::stream(&desk, data, &importance, voice).await?;
    phase("cases", streaming);
    let took = voice.now().saturating_sub(began).as_secs_f64();
    let after = [
        crowd.count("decided").await,
        crowd.count("messages_out").await,
    ];
    let [decided, sent] = rates(&before, &after, took);

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
        judged: judged.get(*name).copied().unwrap_or(0),
        decided: triaged.get(*name).copied().unwrap_or(0),
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
        tuples_per_second: decided,
        messages_per_second: sent,
        died: crowd
            .dead()
            .iter()
            .map(|(member, _)| member.name.clone())
            .collect(),
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

/// How much counters went up a second, over the nodes that live: what a dead one counted is gone.
fn rates(
    before: &[BTreeMap<String, u64>; 2],
    after: &[BTreeMap<String, u64>; 2],
    seconds: f64,
) -> [f64; 2] {
    std::array::from_fn(|n| {
        let (Some(before), Some(after)) = (before.get(n), after.get(n)) else {
            return 0.0;
        };
        let grown = after.iter().map(|(name, count)| {
            let from = before.get(name).copied().unwrap_or(0);
            count.saturating_sub(from)
        });
        grown.sum::<u64>() as f64 / seconds.max(0.001)
    })
}

/// Has the nodes grow a small forest until each that lives has taken part: now all are ready to
/// work.
async fn warm_up(data: &Data, crowd: &Crowd) -> Result<(), Fault> {
    let space = Door::new(crowd);
    let mut seen = BTreeSet::new();
    let idle = |seen: &BTreeSet<String>| -> Vec<String> {
        let idle = |member: &&crowd::Member| member.is_alive() && !seen.contains(&member.name);
        let names = crowd.members.iter().filter(idle);
        names.map(|member| member.name.clone()).collect()
    };
    for _ in 0..WARM_UPS_MAX {
        let (rows, spec) = data.warm_up(u32::try_from(crowd.members.len()).unwrap_or(1));
        let trained = job::train(&space, &rows, &spec, STALL, |_| ()).await?;
        seen.extend(trained.progress.nodes.into_keys());
        if idle(&seen).is_empty() {
            return Ok(());
        }
    }
    Err(Fault::unavailable(format!(
        "no worker of {} takes any tasks",
        idle(&seen).join(", ")
    )))
}

/// Has the nodes grow the forest; tells also when each grove came, and from whom.
async fn grow(
    space: &Door<'_>,
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

/// A path as a shell takes it, whatever is in it.
fn quoted(path: &Path) -> String {
    job::quoted(&path.display().to_string())
}

/// Says what can be done with the mesh that is left running.
fn next(crowd: &Crowd, voice: &Voice) -> Result<(), Fault> {
    let Some(member) = crowd.living(0) else {
        return Err(Fault::unavailable("no node is left"));
    };
    let api = &member.api;
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
        "A browser shows node {} at http://{api}/",
        member.name
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
