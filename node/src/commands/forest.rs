//! placeholder
use clap::Subcommand;
use crate::cli::Common;
use crate::exit::{Fault, Status};
#[derive(Debug, Subcommand)]
pub(crate) enum ForestCommand { /// x
 Check }
pub(crate) async fn run(_: ForestCommand, _: Common) -> Result<Status, Fault> { Ok(Status::Done) }
