//! placeholder
use clap::Subcommand;
use crate::cli::Common;
use crate::exit::{Fault, Status};
#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand { /// x
 Check }
pub(crate) fn run(_: RulesCommand, _: &Common) -> Result<Status, Fault> { Ok(Status::Done) }
