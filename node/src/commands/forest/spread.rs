//! `cpe forest predict --spread`: all nodes vote, each with some groves.

use tokio::signal::unix::{SignalKind, signal};

use super::{PredictArgs, rows, write_told};
use crate::cli::Common;
use crate::client::Client;
use crate::exit::{About, Fault, Status};
use crate::forest::model::{self, Place};
use crate::forest::vote::Vote;
use crate::output;
use crate::remote::Remote;

/// Groves that are named which did not vote; of the others it is said how many.
const NAMED_MAX: usize = 3;

/// What a model says when all nodes vote.
///
/// # Errors
/// What is wrong with the rows or the model, that nobody votes, or a signal that ends it.
pub(super) async fn run(args: &PredictArgs, common: &Common) -> Result<Status, Fault> {
    let Place::Mesh(name) = Place::of(&args.model) else {
        return Err(Fault::usage(
            "nodes vote with a model in the mesh, not with a file",
        ));
    };
    let space = Remote(Client::of(common));
    let placed = model::placed(&space, &name, common.timeout()).await?;
    let rows = rows(&placed.manifest, &args.csv, args.delimiter)?;
    let ended = ended()?;
    let mut vote = Vote::new(&space, &placed, &rows, common.timeout())?;
    let told = tokio::select! {
        told = vote.told(|_, _| ()) => told,
        fault = ended => Err(fault),
    };
    // Whatever came of it: nothing stays in the memory of others.
    vote.clean().await;
    let told = told?;
    if let Some(many) = told
        .missing
        .len()
        .checked_sub(NAMED_MAX)
        .filter(|more| *more > 0)
    {
        output::warn(format_args!("warning: {many} groves more did not vote"));
    }
    for missing in told.missing.iter().take(NAMED_MAX) {
        let (grove, why) = (missing.grove, &missing.why);
        output::warn(format_args!("warning: grove {grove}: {why}"));
    }
    let (trees, of) = (told.predictions.trees, told.predictions.of);
    if trees < of {
        output::warn(format_args!("warning: {trees} of {of} trees voted"));
    }
    let (told, missing) = (&told.predictions, &told.missing);
    write_told(&placed.manifest, told, missing, &[], args, common)
}

/// Waits for a signal to end. From here on none ends the process by itself.
fn ended() -> Result<impl Future<Output = Fault>, Fault> {
    let mut interrupt = signal(SignalKind::interrupt()).about("cannot listen for signals")?;
    let mut terminate = signal(SignalKind::terminate()).about("cannot listen for signals")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => Fault::failed("interrupted before all groves had voted"),
            _ = terminate.recv() => Fault::terminated("ended before all groves had voted"),
        }
    })
}
