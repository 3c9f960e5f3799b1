//! placeholder
use clap::Subcommand;
use crate::cli::Common;
use crate::exit::{Fault, Status};
#[derive(Debug, Subcommand)]
pub(crate) enum SimCommand { /// x
 Check }
pub(crate) fn run(_: SimCommand, _: &Common) -> Result<Status, Fault> { Ok(Status::Done) }
