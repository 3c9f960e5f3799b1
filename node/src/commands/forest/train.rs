//! `cpe forest train`.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use clap::{Args, ValueEnum};
use cpe_forest::{
    ClassWeights, CsvOptions, Dataset, Forest, ForestSpec, Grove, GrowError, Manifest, ModelCard,
    OutOfBag, OutOfBagSum, PredictError, Target, TargetKind, grow_grove, out_of_bag,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::table;
use crate::cli::Common;
use crate::client::Client;
use crate::exit::{About, Fault, Status};
use crate::forest::job::{self, Progress};
use crate::forest::model::{self, Place};
use crate::output;
use crate::remote::Remote;

/// Arguments of `train`.
#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// What to learn from: a CSV file with a header, or a Parquet file
    #[arg(required_unless_present = "attach")]
    csv: Option<PathBuf>,
    /// Column to predict
    #[arg(long, value_name = "COLUMN", required_unless_present = "attach")]
    target: Option<String>,
    /// Where to put the model: a name in the mesh, or a file
    #[arg(long, value_name = "NAME|FILE", required_unless_present = "attach")]
    out: Option<String>,
    /// Follow the job of this name, which nodes of the mesh are at already; with --out FILE, write
    /// its model there
    #[arg(long, value_name = "NAME", conflicts_with_all = SETTLED)]
    attach: Option<String>,
    /// Have the mesh begin, and do not wait
    #[arg(long, conflicts_with = "local")]
    detach: bool,
    /// Grow all trees on this machine; with a FILE no node is needed
    #[arg(long)]
    local: bool,
    /// What the target column holds
    #[arg(long, value_enum, default_value_t = Task::Auto)]
    task: Task,
    /// Trees
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    trees: u32,
    /// Trees of one grove, the piece of work a node takes
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    grove_trees: u32,
    /// Cuts from the root to a leaf at most [default: by the number of rows]
    #[arg(long, value_name = "CUTS")]
    max_depth: Option<u16>,
    /// Rows a leaf keeps at least
    #[arg(long, value_name = "ROWS", default_value_t = 1)]
    min_leaf: u32,
    /// Columns tried at a cut [default: their root for classes, a third of them for numbers]
    #[arg(long, value_name = "COLUMNS")]
    mtry: Option<u32>,
    /// Share of the rows that a grove sees
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    sample: f64,
    /// Number that decides all random choices
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// What stands between cells of the CSV: one sign, or `tab`
    #[arg(long, value_name = "SIGN", default_value = ",", value_parser = table::delimiter)]
    delimiter: u8,
    /// Column to leave out (again for more)
    #[arg(long, value_name = "COLUMN")]
    ignore: Vec<String>,
    /// What columns hold, where that is not as it looks: text or number, as zip=text,age=number
    #[arg(long, value_name = "COLUMN=KIND", value_delimiter = ',', value_parser = column_kind)]
    types: Vec<(String, Kind)>,
    /// The same as --types COLUMN=text
    #[arg(long, value_name = "COLUMN")]
    text: Vec<String>,
    /// Column that says how much each row counts
    #[arg(long, value_name = "COLUMN")]
    weights: Option<String>,
    /// Let all classes count alike, however rare
    #[arg(long, conflicts_with = "class_weight")]
    balanced: bool,
    /// How much a class counts (again for more); one that is not named counts 1
    #[arg(long, value_name = "CLASS=WEIGHT", value_parser = class_weight)]
    class_weight: Vec<(String, f64)>,
}

/// What is settled for a job that is there already, so that it cannot be said again.
const SETTLED: [&str; 19] = [
    "csv",
    "target",
    "detach",
    "local",
    "task",
    "trees",
    "grove_trees",
    "max_depth",
    "min_leaf",
    "mtry",
    "sample",
    "seed",
    "ignore",
    "types",
    "text",
    "weights",
    "balanced",
    "class_weight",
    "delimiter",
];

/// What a target column holds.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Task {
    /// As it looks
    Auto,
    /// Classes
    Classify,
    /// Numbers
    Regress,
}

/// What a column of features holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
}

fn column_kind(text: &str) -> Result<(String, Kind), String> {
    match text.rsplit_once('=') {
        Some((column, "text")) => Ok((column.to_owned(), Kind::Text)),
        Some((column, "number")) => Ok((column.to_owned(), Kind::Number)),
        _ => Err(format!(
            "`{text}` is not COLUMN=text or COLUMN=number, as zip=text"
        )),
    }
}

fn class_weight(text: &str) -> Result<(String, f64), String> {
    let weight = text.rsplit_once('=').and_then(|(class, weight)| {
        let weight = weight.parse().ok()?;
        Some((class.to_owned(), weight))
    });
    weight.ok_or_else(|| format!("`{text}` is not CLASS=WEIGHT, as rare=10"))
}

/// Trains, or follows who does.
///
/// # Errors
/// What is wrong with the data, or that the mesh cannot be reached.
pub(super) async fn run(args: TrainArgs, common: &Common) -> Result<Status, Fault> {
    let space = Remote(Client::of(common));
    if args.out.as_deref().is_some_and(str::is_empty) {
        let empty = "--out says where the model goes, and is empty";
        return Err(Fault::usage(empty).next("give a name in the mesh, or a file"));
    }
    if let Some(name) = &args.attach {
        let file = match args.out.as_deref().map(Place::of) {
            Some(Place::File(path)) => Some(path),
            Some(Place::Mesh(other)) if other != *name => {
                return Err(Fault::usage(format!(
                    "the model of job `{name}` is kept in the mesh as `{name}`, not as `{other}`"
                ))
                .next("--out FILE, a name with a dot or a slash, writes it into a file as well"));
            }
            _ => None,
        };
        return follow(&space, name, None, file.as_ref(), common).await;
    }
    let Some(out) = &args.out else {
        return Err(Fault::usage("--out says where the model goes"));
    };
    let place = Place::of(out);
    if args.detach && matches!(place, Place::File(_)) {
        return Err(Fault::usage(format!(
            "with --detach nobody waits for the model, so it cannot be written to {out}"
        ))
        .next(
            "give --out a NAME in the mesh; `cpe forest train --attach NAME --out FILE` writes the \
             file later",
        ));
    }
    // Before minutes of work, not after.
    match &place {
        Place::File(path) => model::check_place(path)?,
        Place::Mesh(name) => model::check_name(&space, name).await?,
    }
    let data = read(&args)?;
    let spec = spec(&args, &data);
    if args.local {
        let known = match &place {
            Place::File(path) if path.exists() => model::read_file(path).ok(),
            _ => None,
        };
        let bar = bar(common);
        bar.set_length(u64::from(spec.groves()));
        let (forest, votes) = grow_here(&data, &spec, known.as_ref(), &bar)?;
        bar.finish_and_clear();
        let score = votes.score(forest.manifest(), &data).ok();
        let forest = forest.with_out_of_bag(score);
        let card = ModelCard::new(&forest);
        match &place {
            Place::File(path) => model::write_file(path, &forest)?,
            Place::Mesh(name) => model::put(&space, name, &forest, &card).await?,
        }
        return tell(out, &card, &Value::Null, common);
    }
    match place {
        Place::Mesh(name) => {
            let run = job::ask(&space, &name, &data, &spec).await?;
            if args.detach {
                return detached(&name, common);
            }
            follow(&space, &name, Some(&run), None, common).await
        }
        Place::File(path) => {
            let name = job::nameless();
            let run = job::ask(&space, &name, &data, &spec).await?;
            let done = follow(&space, &name, Some(&run), Some(&path), common).await;
            if done.is_ok() {
                job::forget(&space, &name).await;
            }
            done
        }
    }
}

fn detached(name: &str, common: &Common) -> Result<Status, Fault> {
    if common.json {
        output::json(&json!({"job": name}))?;
    } else {
        output::line(format_args!(
            "the mesh grows it; follow with {}",
            job::hint("train --attach", name)
        ))?;
    }
    Ok(Status::Done)
}

/// Follows a job to its end, and writes its model into a file if there is one to be.
async fn follow(
    space: &Remote,
    name: &str,
    run: Option<&str>,
    file: Option<&PathBuf>,
    common: &Common,
) -> Result<Status, Fault> {
    let bar = bar(common);
    let report = |progress: &Progress| {
        bar.set_length(u64::from(progress.groves));
        bar.set_position(u64::from(progress.done));
        let share = f64::from(progress.done) / f64::from(progress.groves.max(1));
        let trees = (share * f64::from(progress.trees)).round();
        let nodes = match progress.nodes.len() {
            1 => "1 node".to_owned(),
            many => format!("{many} nodes"),
        };
        bar.set_message(format!("{trees}/{} trees, {nodes},", progress.trees));
    };
    let following = job::follow(space, name, run, common.timeout(), report);
    let state = tokio::select! {
        state = following => state?,
        _ = tokio::signal::ctrl_c() => {
            bar.finish_and_clear();
            return Err(Fault::failed(format!("no longer follows job `{name}`; it goes on")).next(
                format!(
                    "{} follows it again, {} ends it",
                    job::hint("train --attach", name),
                    job::hint("cancel", name)
                ),
            ));
        }
    };
    bar.finish_and_clear();
    let mut out = name.to_owned();
    let card = if let Some(path) = file {
        let (forest, card) = model::get(space, name, common.timeout()).await?;
        model::write_file(path, &forest)?;
        out = path.display().to_string();
        card
    } else {
        model::card(space, name, common.timeout()).await?
    };
    let about = json!({
        "groves_by_node": state.nodes,
        "audited": state.audited,
        "liars": state.liars,
        "stewards": state.stewards,
    });
    tell(&out, &card, &about, common)
}

/// Says what came of it.
fn tell(out: &str, card: &ModelCard, about: &Value, common: &Common) -> Result<Status, Fault> {
    if common.json {
        let card = serde_json::to_value(card).about("cannot write the model card")?;
        let mut answer = json!({"model": out, "card": card});
        if let (Some(answer), Some(about)) = (answer.as_object_mut(), about.as_object()) {
            answer.extend(about.clone());
        }
        output::json(&answer)?;
        return Ok(Status::Done);
    }
    output::raw(card.to_string().as_bytes())?;
    output::line(format_args!(""))?;
    if let Some(nodes) = about.get("groves_by_node").and_then(Value::as_object) {
        let nodes: Vec<_> = nodes
            .iter()
            .map(|(node, groves)| format!("{node} {groves}"))
            .collect();
        output::line(format_args!("groves by node: {}", nodes.join(", ")))?;
        let audited = about.get("audited").and_then(Value::as_u64).unwrap_or(0);
        output::line(format_args!("grown again to check: {audited}"))?;
    }
    let liars = about.get("liars").and_then(Value::as_array);
    for liar in liars.into_iter().flatten() {
        output::warn(format_args!(
            "warning: node {} brought a grove that is another; all of its groves were grown again",
            output::plain(liar)
        ));
    }
    output::line(format_args!("saved as {out}"))?;
    Ok(Status::Done)
}

fn read(args: &TrainArgs) -> Result<Dataset, Fault> {
    let (Some(csv), Some(target)) = (&args.csv, &args.target) else {
        return Err(Fault::usage("a CSV and --target say what to learn"));
    };
    let kind = match args.task {
        Task::Auto => TargetKind::Auto,
        Task::Classify => TargetKind::Classes,
        Task::Regress => TargetKind::Numbers,
    };
    let mut kinds: BTreeMap<&str, Kind> = BTreeMap::new();
    let text = args.text.iter().map(|column| (column, Kind::Text));
    let named = args.types.iter().map(|(column, kind)| (column, *kind));
    for (column, kind) in named.chain(text) {
        if kinds
            .insert(column, kind)
            .is_some_and(|other| other != kind)
        {
            return Err(Fault::usage(format!(
                "column \"{column}\" is said to hold texts, and to hold numbers"
            )));
        }
    }
    let of_kind = |wanted| {
        let named = kinds.iter().filter(|(_, kind)| **kind == wanted);
        named.map(|(column, _)| (*column).to_owned()).collect()
    };
    let options = CsvOptions {
        ignore: args.ignore.clone(),
        text: of_kind(Kind::Text),
        number: of_kind(Kind::Number),
        weights: args.weights.clone(),
        delimiter: args.delimiter,
        ..CsvOptions::default()
    };
    let table = table::read(csv, &options)?;
    let data = Dataset::of_table(table, target, kind, options.weights.as_deref());
    data.about(csv.display())
}

fn spec(args: &TrainArgs, data: &Dataset) -> ForestSpec {
    let base = match data.target() {
        Target::Classes { .. } => ForestSpec::classify(),
        Target::Numbers(_) => ForestSpec::regress(),
    };
    let given: BTreeMap<String, f64> = args.class_weight.iter().cloned().collect();
    ForestSpec {
        trees: args.trees,
        grove_trees: args.grove_trees,
        max_depth: args.max_depth,
        min_leaf: args.min_leaf,
        mtry: args.mtry,
        sample: args.sample,
        seed: args.seed,
        class_weights: match (args.balanced, given.is_empty()) {
            (true, _) => ClassWeights::Balanced,
            (false, true) => ClassWeights::Equal,
            (false, false) => ClassWeights::Given(given),
        },
        ..base
    }
}

fn bar(common: &Common) -> ProgressBar {
    if common.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{bar:24} {pos}/{len} groves, {msg} {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}

/// Why a grove could not be grown here.
#[derive(Debug, thiserror::Error)]
enum HereError {
    #[error(transparent)]
    Grow(#[from] GrowError),
    #[error(transparent)]
    Judge(#[from] PredictError),
}

/// What threads have grown.
struct GrownHere {
    groves: Vec<Grove>,
    votes: OutOfBagSum,
    /// Votes of groves before which others are missing: they are added in order.
    early: BTreeMap<u32, OutOfBag>,
    next: u32,
}

impl GrownHere {
    fn push(&mut self, grove: Grove, votes: OutOfBag) -> Result<(), PredictError> {
        self.groves.push(grove);
        self.early.insert(votes.grove(), votes);
        while let Some(votes) = self.early.remove(&self.next) {
            self.votes.add(&votes)?;
            self.next += 1;
        }
        Ok(())
    }
}

/// Grows a forest with all cores of this machine. Groves that `known` has already, being the same
/// forest of another number of trees, are kept.
fn grow_here(
    data: &Dataset,
    spec: &ForestSpec,
    known: Option<&Forest>,
    bar: &ProgressBar,
) -> Result<(Forest, OutOfBagSum), Fault> {
    let manifest = Manifest::new(data, spec).about("cannot grow this forest")?;
    let known = known.filter(|known| known.manifest().recipe() == manifest.recipe());
    let kept: BTreeMap<u32, &Grove> = known
        .into_iter()
        .flat_map(|known| known.keep(spec))
        .map(|grove| (grove.index(), grove))
        .collect();
    let next = AtomicU32::new(0);
    let grown = Mutex::new(GrownHere {
        groves: Vec::new(),
        votes: OutOfBagSum::new(&manifest),
        early: BTreeMap::new(),
        next: 0,
    });
    let work = || -> Result<(), HereError> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= spec.groves() {
                return Ok(());
            }
            let grove = match kept.get(&index) {
                Some(grove) => (*grove).clone(),
                None => grow_grove(data, spec, index)?,
            };
            let votes = out_of_bag(data, spec, &grove)?;
            grown
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .push(grove, votes)?;
            bar.inc(1);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| match thread.join() {
                Ok(done) => done.about("cannot grow this forest"),
                Err(_) => Err(Fault::failed("a thread that grew trees panicked")),
            })
    })?;
    let grown = grown
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let forest = Forest::assemble(manifest, grown.groves);
    let forest = forest.about("the groves do not make a forest")?;
    Ok((forest, grown.votes))
}
