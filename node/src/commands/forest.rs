//! `cpe forest`: train and use random forests, in the mesh or on this machine alone.

use std::fs::File;
use std::io::{BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use clap::{Args, Subcommand, ValueEnum};
use cpe_forest::{
    CsvOptions, Dataset, Forest, ForestSpec, Grove, GrowError, Manifest, ModelCard, OutOfBag,
    PredictError, Prediction, Target, TargetKind, grow_grove, out_of_bag,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::Common;
use crate::client::Client;
use crate::exit::{About, Fault, Status};
use crate::forest::job::{self, Progress};
use crate::forest::model::{self, Place};
use crate::output;
use crate::remote::Remote;

/// Commands of forests. A MODEL with a dot or a slash is a file; any other name is in the mesh.
#[derive(Debug, Subcommand)]
pub(crate) enum ForestCommand {
    /// Train a forest, by all nodes of the mesh or (--local) by this machine alone
    Train(TrainArgs),
    /// Say what a forest makes of the rows of a CSV file
    Predict {
        /// Model: a name in the mesh, or a file
        model: String,
        /// Rows, with the columns the model wants
        csv: PathBuf,
    },
    /// Say how good a forest is on the rows of a CSV file that has the answers
    Evaluate {
        /// Model: a name in the mesh, or a file
        model: String,
        /// Rows with the answers
        csv: PathBuf,
    },
    /// Print a forest's model card
    Inspect {
        /// Model: a name in the mesh, or a file
        model: String,
    },
}

/// Arguments of `train`.
#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// What to learn from: a CSV file with a header
    csv: PathBuf,
    /// Column to predict
    #[arg(long, value_name = "COLUMN")]
    target: String,
    /// Where to put the model: a name in the mesh, or a file
    #[arg(long, value_name = "NAME|FILE")]
    out: String,
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
    /// Number that decides all random choices
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// Column to leave out (again for more)
    #[arg(long, value_name = "COLUMN")]
    ignore: Vec<String>,
    /// Column to take as text although its cells are or look like numbers (again for more)
    #[arg(long, value_name = "COLUMN")]
    text: Vec<String>,
}

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

/// Runs a command of forests.
///
/// # Errors
/// What is wrong with the data or the model, or that the mesh cannot be reached.
pub(crate) async fn run(command: ForestCommand, common: Common) -> Result<Status, Fault> {
    match command {
        ForestCommand::Train(args) => train(args, &common).await,
        ForestCommand::Predict { model, csv } => {
            let (forest, _) = load(&model, &common).await?;
            predict(&forest, &csv, &common)
        }
        ForestCommand::Evaluate { model, csv } => {
            let (forest, _) = load(&model, &common).await?;
            evaluate(&forest, &csv, &common)
        }
        ForestCommand::Inspect { model } => {
            let (_, card) = load(&model, &common).await?;
            inspect(&card, &common)
        }
    }
}

async fn load(model: &str, common: &Common) -> Result<(Forest, ModelCard), Fault> {
    match Place::of(model) {
        Place::File(path) => {
            let forest = model::read_file(&path)?;
            let card = ModelCard::new(&forest);
            Ok((forest, card))
        }
        Place::Mesh(name) => model::get(&Remote(Client::of(common)), &name).await,
    }
}

async fn train(args: TrainArgs, common: &Common) -> Result<Status, Fault> {
    let data = read(&args)?;
    let spec = spec(&args, &data);
    let bar = bar(spec.groves(), common);
    let (forest, score, nodes) = if args.local {
        let (forest, votes) = grow_here(&data, &spec, &bar)?;
        let score = forest.out_of_bag_score(&data, &votes).ok();
        (forest, score, Value::Null)
    } else {
        let space = Remote(Client::of(common));
        let report = |progress: &Progress| {
            bar.set_length(u64::from(progress.groves));
            bar.set_position(u64::from(progress.done));
            bar.set_message(format!("{} nodes", progress.nodes.len()));
        };
        let trained = job::train(&space, &data, &spec, common.timeout(), report).await?;
        (
            trained.forest,
            trained.out_of_bag,
            json!(trained.progress.nodes),
        )
    };
    bar.finish_and_clear();
    let card = model::card(&forest, score);
    match Place::of(&args.out) {
        Place::File(path) => model::write_file(&path, &forest)?,
        Place::Mesh(name) => model::put(&Remote(Client::of(common)), &name, &forest, &card).await?,
    }
    if common.json {
        let card = serde_json::to_value(&card).about("cannot write the model card")?;
        output::json(&json!({"model": args.out, "card": card, "groves_by_node": nodes}))?;
        return Ok(Status::Done);
    }
    output::raw(card.to_string().as_bytes())?;
    if let Some(nodes) = nodes.as_object() {
        let nodes: Vec<_> = nodes
            .iter()
            .map(|(node, groves)| format!("{node} {groves}"))
            .collect();
        output::line(format_args!("groves by node: {}", nodes.join(", ")))?;
    }
    output::line(format_args!("saved as {}", args.out))?;
    Ok(Status::Done)
}

fn read(args: &TrainArgs) -> Result<Dataset, Fault> {
    let kind = match args.task {
        Task::Auto => TargetKind::Auto,
        Task::Classify => TargetKind::Classes,
        Task::Regress => TargetKind::Numbers,
    };
    let options = CsvOptions {
        ignore: args.ignore.clone(),
        text: args.text.clone(),
        ..CsvOptions::default()
    };
    let data = Dataset::from_csv(open(&args.csv)?, &args.target, kind, &options);
    data.about(args.csv.display())
}

fn open(path: &Path) -> Result<BufReader<File>, Fault> {
    File::open(path)
        .map(BufReader::new)
        .about(format!("cannot read {}", path.display()))
}

fn spec(args: &TrainArgs, data: &Dataset) -> ForestSpec {
    let mut spec = match data.target() {
        Target::Classes { .. } => ForestSpec::classify(),
        Target::Numbers(_) => ForestSpec::regress(),
    };
    spec.trees = args.trees;
    spec.grove_trees = args.grove_trees;
    spec.max_depth = args.max_depth;
    spec.min_leaf = args.min_leaf;
    spec.seed = args.seed;
    spec
}

fn bar(groves: u32, common: &Common) -> ProgressBar {
    if common.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(u64::from(groves));
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} groves {msg} {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
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

/// Grows a forest with all cores of this machine.
fn grow_here(
    data: &Dataset,
    spec: &ForestSpec,
    bar: &ProgressBar,
) -> Result<(Forest, Vec<OutOfBag>), Fault> {
    let manifest = Manifest::new(data, spec).about("cannot grow this forest")?;
    let next = AtomicU32::new(0);
    let grown = Mutex::new(Vec::new());
    let work = || -> Result<(), HereError> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= spec.groves() {
                return Ok(());
            }
            let grove = grow_grove(data, spec, index)?;
            let votes = out_of_bag(data, spec, &grove)?;
            grown
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .push((grove, votes));
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
    let (groves, votes): (Vec<Grove>, Vec<OutOfBag>) = grown.into_iter().unzip();
    let forest = Forest::assemble(manifest, groves).about("the groves do not make a forest")?;
    Ok((forest, votes))
}

fn predict(forest: &Forest, path: &Path, common: &Common) -> Result<Status, Fault> {
    let rows = forest
        .manifest()
        .read_rows(open(path)?, b',')
        .about(path.display())?;
    let told = forest.predict(&rows).about(path.display())?;
    if common.json {
        let told = serde_json::to_value(&told).about("cannot write the predictions")?;
        output::json(&told)?;
        return Ok(Status::Done);
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    let classes = forest.manifest().classes();
    let mut head = vec![forest.manifest().target().to_owned()];
    head.extend(classes.iter().map(|class| format!("p({class})")));
    writer
        .write_record(&head)
        .about("cannot write the predictions")?;
    for row in &told.rows {
        let mut record = vec![row.text()];
        if let Prediction::Class { probabilities, .. } = row {
            record.extend(probabilities.iter().map(|p| format!("{p:.4}")));
        }
        writer
            .write_record(&record)
            .about("cannot write the predictions")?;
    }
    let mut table = writer.into_inner().about("cannot write the predictions")?;
    table.flush().about("cannot write the predictions")?;
    output::raw(&table)?;
    Ok(Status::Done)
}

fn evaluate(forest: &Forest, path: &Path, common: &Common) -> Result<Status, Fault> {
    let data = forest
        .manifest()
        .read_labelled(open(path)?, b',')
        .about(path.display())?;
    let score = forest.evaluate(&data).about(path.display())?;
    if common.json {
        output::json(&serde_json::to_value(&score).about("cannot write the score")?)?;
    } else {
        output::line(format_args!("{}", score.to_string().trim_end()))?;
    }
    Ok(Status::Done)
}

fn inspect(card: &ModelCard, common: &Common) -> Result<Status, Fault> {
    if common.json {
        output::json(&serde_json::to_value(card).about("cannot write the model card")?)?;
    } else {
        output::raw(card.to_string().as_bytes())?;
    }
    Ok(Status::Done)
}
