//! `cpe forest`: train and use random forests, in the mesh or on this machine alone.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use cpe_forest::{
    CsvOptions, Dataset, Forest, Manifest, ModelCard, Prediction, Predictions, Quantiles, Rows,
    Target, plot,
};
use serde_json::{Value as Json, json};

use crate::cli::Common;
use crate::client::Client;
use crate::exit::{About, Fault, Status};
use crate::forest::model::{self, Place};
use crate::forest::vote::Missing;
use crate::forest::{WORKSPACE, job};
use crate::output;
use crate::remote::{Remote, Space as _};

use self::train::TrainArgs;

mod spread;
mod table;
mod train;

/// Commands of forests. A MODEL with a dot or a slash is a file; any other name is in the mesh.
#[derive(Debug, Subcommand)]
pub(crate) enum ForestCommand {
    /// Train a forest, by all nodes of the mesh or (--local) by this machine alone
    Train(Box<TrainArgs>),
    /// List the jobs of the mesh, and how far they are
    Jobs,
    /// End a job that nodes of the mesh are at
    Cancel {
        /// Name of the job, which its model would have had
        name: String,
    },
    /// List the models of the mesh
    Models,
    /// Delete a model of the mesh
    Delete {
        /// Name of the model
        name: String,
    },
    /// Say what a forest makes of the rows of a CSV or Parquet file
    Predict(PredictArgs),
    /// Say how good a forest is on the rows of a CSV or Parquet file that has the answers
    Evaluate {
        /// Model: a name in the mesh, or a file
        model: String,
        /// Rows with the answers
        csv: PathBuf,
        /// What stands between cells of the CSV: one sign, or `tab`
        #[arg(long, value_name = "SIGN", default_value = ",", value_parser = table::delimiter)]
        delimiter: u8,
    },
    /// Print a forest's model card
    Inspect(InspectArgs),
}

/// Arguments of `predict`.
#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// Model: a name in the mesh, or a file
    model: String,
    /// Rows, with the columns the model wants
    csv: PathBuf,
    /// Quantiles to tell beside a number, as 0.1,0.9; needs --training
    #[arg(
        long,
        value_name = "SHARES",
        value_delimiter = ',',
        requires = "training"
    )]
    quantiles: Vec<f64>,
    /// The rows the model was trained with, and nothing else; for --quantiles
    #[arg(long, value_name = "CSV", requires = "quantiles")]
    training: Option<PathBuf>,
    /// What stands between cells of the CSV: one sign, or `tab`
    #[arg(long, value_name = "SIGN", default_value = ",", value_parser = table::delimiter)]
    delimiter: u8,
    /// Tell for each tree the leaf that a row ends in, and nothing else
    #[arg(long, conflicts_with = "quantiles")]
    leaves: bool,
    /// Let all nodes vote, each with some groves of a model in the mesh, and read it nowhere as a
    /// whole
    #[arg(long, conflicts_with_all = ["quantiles", "leaves"])]
    spread: bool,
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Model: a name in the mesh, or a file
    model: String,
    /// Write plots as SVG into this folder: importances, and with --data what was told against
    /// what is so
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Rows with the answers, for plots and for the importances by shuffling
    #[arg(long, value_name = "CSV")]
    data: Option<PathBuf>,
    /// Shuffle each column of --data so often and say how much the score falls
    #[arg(long, value_name = "TIMES", requires = "data")]
    shuffle: Option<u32>,
    /// What stands between cells of the CSV: one sign, or `tab`
    #[arg(long, value_name = "SIGN", default_value = ",", value_parser = table::delimiter)]
    delimiter: u8,
}

/// Runs a command of forests.
///
/// # Errors
/// What is wrong with the data or the model, or that the mesh cannot be reached.
pub(crate) async fn run(command: ForestCommand, common: Common) -> Result<Status, Fault> {
    match command {
        ForestCommand::Train(args) => train::run(*args, &common).await,
        ForestCommand::Cancel { name } => {
            job::cancel(&Remote(Client::of(&common)), &name).await?;
            Ok(Status::Done)
        }
        ForestCommand::Jobs => jobs(&common).await,
        ForestCommand::Models => models(&common).await,
        ForestCommand::Delete { name } => {
            if model::delete(&Remote(Client::of(&common)), &name).await? {
                return Ok(Status::Done);
            }
            let none = format!("no model is called `{name}` in the mesh");
            Err(Fault::failed(none).next("`cpe forest models` lists those there are"))
        }
        ForestCommand::Predict(args) if args.spread => spread::run(&args, &common).await,
        ForestCommand::Predict(args) => {
            let (forest, _) = load(&args.model, &common).await?;
            predict(&forest, &args, &common)
        }
        ForestCommand::Evaluate {
            model,
            csv,
            delimiter,
        } => {
            let (forest, _) = load(&model, &common).await?;
            evaluate(&forest, &csv, delimiter, &common)
        }
        ForestCommand::Inspect(args) => {
            let (forest, card) = load(&args.model, &common).await?;
            inspect(&forest, card, &args, &common)
        }
    }
}

/// Lists jobs, with what their stewards last said.
async fn jobs(common: &Common) -> Result<Status, Fault> {
    let space = Remote(Client::of(common));
    let variables = space.variables(WORKSPACE).await?;
    let mut jobs = Vec::new();
    for name in variables.iter().filter_map(|name| job::State::job(name)) {
        if let Some(state) = job::State::get(&space, name, Duration::ZERO).await? {
            let waits = state.waits();
            let mut about = serde_json::to_value(state).about("cannot write the jobs")?;
            if let Some(about) = about.as_object_mut() {
                about.insert("name".to_owned(), json!(name));
                if waits {
                    about.insert("phase".to_owned(), json!("waiting"));
                }
            }
            jobs.push(about);
        }
    }
    let columns = [
        "name", "phase", "done", "groves", "trees", "nodes", "stewards",
    ];
    list(common, &json!(jobs), columns, "no jobs")
}

/// Lists models, with what is on their cards.
async fn models(common: &Common) -> Result<Status, Fault> {
    let models = model::list(&Remote(Client::of(common))).await?;
    let models = serde_json::to_value(models).about("cannot write the models")?;
    let columns = ["name", "target", "trees", "rows", "bytes", "forest"];
    list(common, &models, columns, "no models")
}

/// Shows what there is, as a table of these fields or in JSON.
fn list<const N: usize>(
    common: &Common,
    all: &Json,
    columns: [&str; N],
    none: &str,
) -> Result<Status, Fault> {
    if common.json {
        output::json(all)?;
        return Ok(Status::Done);
    }
    let heads = columns.map(str::to_uppercase);
    let rows = output::rows(all, &columns);
    output::table(&heads.each_ref().map(String::as_str), rows, none)?;
    Ok(Status::Done)
}

async fn load(model: &str, common: &Common) -> Result<(Forest, ModelCard), Fault> {
    match Place::of(model) {
        Place::File(path) => {
            let forest = model::read_file(&path)?;
            let card = ModelCard::new(&forest);
            Ok((forest, card))
        }
        Place::Mesh(name) => model::get(&Remote(Client::of(common)), &name, common.timeout()).await,
    }
}

fn open(path: &Path) -> Result<BufReader<File>, Fault> {
    File::open(path)
        .map(BufReader::new)
        .about(format!("cannot read {}", path.display()))
}

fn predict(forest: &Forest, args: &PredictArgs, common: &Common) -> Result<Status, Fault> {
    let shown = args.csv.display();
    let rows = rows(forest.manifest(), &args.csv, args.delimiter)?;
    if args.leaves {
        let leaves = forest.leaves(&rows).about(&shown)?;
        for row in leaves {
            output::json(&json!(row))?;
        }
        return Ok(Status::Done);
    }
    let told = forest.predict(&rows).about(&shown)?;
    let quantiles = match &args.training {
        Some(training) if !args.quantiles.is_empty() => {
            let data = read_training(forest, training, args.delimiter)?;
            let quantiles = Quantiles::new(forest, &data).about(training.display())?;
            quantiles.tell(&rows, &args.quantiles).about(&shown)?
        }
        _ => Vec::new(),
    };
    write_told(forest.manifest(), &told, &[], &quantiles, args, common)
}

fn write_told(
    manifest: &Manifest,
    told: &Predictions,
    missing: &[Missing],
    quantiles: &[Vec<f64>],
    args: &PredictArgs,
    common: &Common,
) -> Result<Status, Fault> {
    if common.json {
        let mut answer = serde_json::to_value(told).about("cannot write the predictions")?;
        if let Some(answer) = answer.as_object_mut() {
            if !quantiles.is_empty() {
                answer.insert("quantiles".to_owned(), json!(quantiles));
            }
            if !missing.is_empty() {
                answer.insert("missing".to_owned(), json!(missing));
            }
        }
        output::json(&answer)?;
        return Ok(Status::Done);
    }
    let failed = "cannot write the predictions";
    let mut writer = csv::Writer::from_writer(Vec::new());
    let classes = manifest.classes();
    let mut head = vec![manifest.target().to_owned()];
    head.extend(classes.iter().map(|class| format!("p({class})")));
    if !quantiles.is_empty() {
        head.extend(args.quantiles.iter().map(|share| format!("q({share})")));
    }
    writer.write_record(&head).about(failed)?;
    for (place, row) in told.rows.iter().enumerate() {
        let mut record = vec![row.text()];
        if let Prediction::Class { probabilities, .. } = row {
            record.extend(probabilities.iter().map(|p| format!("{p:.4}")));
        }
        let own = quantiles.get(place).map(Vec::as_slice).unwrap_or_default();
        record.extend(own.iter().map(f64::to_string));
        writer.write_record(&record).about(failed)?;
    }
    let mut table = writer.into_inner().about(failed)?;
    table.flush().about(failed)?;
    output::raw(&table)?;
    Ok(Status::Done)
}

/// The rows a model was trained with, read as they were then.
fn read_training(forest: &Forest, path: &Path, delimiter: u8) -> Result<Dataset, Fault> {
    let manifest = forest.manifest();
    let table = table::read(path, &by(delimiter, manifest.training_options()))?;
    manifest.training(table).about(path.display())
}

/// Rows to tell.
fn rows(manifest: &Manifest, path: &Path, delimiter: u8) -> Result<Rows, Fault> {
    let table = table::read(path, &by(delimiter, manifest.options()))?;
    Rows::of_table(&table, manifest.features()).about(path.display())
}

const fn by(delimiter: u8, mut options: CsvOptions) -> CsvOptions {
    options.delimiter = delimiter;
    options
}

fn evaluate(forest: &Forest, path: &Path, delimiter: u8, common: &Common) -> Result<Status, Fault> {
    let data = labelled(forest, path, delimiter)?;
    let score = forest.evaluate(&data).about(path.display())?;
    if common.json {
        output::json(&serde_json::to_value(&score).about("cannot write the score")?)?;
    } else {
        output::line(format_args!("{}", score.to_string().trim_end()))?;
    }
    Ok(Status::Done)
}

fn labelled(forest: &Forest, path: &Path, delimiter: u8) -> Result<Dataset, Fault> {
    let manifest = forest.manifest();
    let table = table::read(path, &by(delimiter, manifest.labelled_options()))?;
    let data = manifest.labelled(table);
    data.about(path.display())
}

fn inspect(
    forest: &Forest,
    mut card: ModelCard,
    args: &InspectArgs,
    common: &Common,
) -> Result<Status, Fault> {
    let data = match &args.data {
        Some(path) => Some((path.display(), labelled(forest, path, args.delimiter)?)),
        None => None,
    };
    let mut falls = Vec::new();
    if let Some((shown, data)) = &data {
        card.held_out = Some(forest.evaluate(data).about(shown)?);
        if let Some(times) = args.shuffle {
            let seed = card.spec.seed;
            falls = forest
                .permutation_importance(data, times, seed)
                .about(shown)?;
        }
    }
    let written = match &args.plots {
        Some(folder) => write_plots(forest, &card, data.as_ref().map(|(_, data)| data), folder)?,
        None => Vec::new(),
    };
    if common.json {
        let mut answer = serde_json::to_value(&card).about("cannot write the model card")?;
        if let Some(answer) = answer.as_object_mut() {
            let names = card.features.iter().map(|feature| feature.name.clone());
            if !falls.is_empty() {
                let falls = names.zip(falls.iter().map(|fall| json!(fall)));
                answer.insert("falls_if_shuffled".to_owned(), falls.collect());
            }
            if !written.is_empty() {
                answer.insert("plots".to_owned(), json!(written));
            }
        }
        output::json(&answer)?;
        return Ok(Status::Done);
    }
    output::raw(card.to_string().as_bytes())?;
    if !falls.is_empty() {
        let names: Vec<_> = card
            .features
            .iter()
            .map(|feature| feature.name.as_str())
            .collect();
        let text = cpe_forest::bars(
            "How much the score falls if a column is shuffled",
            &names,
            &falls,
        );
        output::raw(format!("\n{text}").as_bytes())?;
    }
    for path in written {
        output::line(format_args!("wrote {path}"))?;
    }
    Ok(Status::Done)
}

/// Writes what can be drawn of a forest, and says which files.
fn write_plots(
    forest: &Forest,
    card: &ModelCard,
    data: Option<&Dataset>,
    folder: &Path,
) -> Result<Vec<String>, Fault> {
    std::fs::create_dir_all(folder).about(format!("cannot create {}", folder.display()))?;
    let mut plots = vec![("importances", plot::importances(card))];
    let score = card.held_out.as_ref().or(card.out_of_bag.as_ref());
    if let Some(cpe_forest::Score::Classes(score)) = score {
        plots.push(("confusion", plot::confusion(score)));
    }
    if let Some(data) = data {
        let told = forest.evaluated(data).about("cannot tell the rows")?;
        match data.target() {
            Target::Classes { .. } => {
                plots.push(("roc", plot::roc(&told, card)));
                plots.push(("calibration", plot::calibration(&told, card)));
            }
            Target::Numbers(_) => plots.push(("told", plot::told(&told, card))),
        }
    }
    let write = |(name, svg): (&str, String)| {
        let path = folder.join(format!("{name}.svg"));
        let shown = path.display().to_string();
        std::fs::write(&path, svg).about(format!("cannot write {shown}"))?;
        Ok(shown)
    };
    plots.into_iter().map(write).collect()
}
