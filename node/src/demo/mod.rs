//! `cpe demo`: the main job on this machine.

use std::path::PathBuf;

use clap::Args;

use crate::cli::Common;
use crate::exit::{Fault, Status};

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
#[expect(clippy::unused_async, reason = "its body is not written yet")]
pub(crate) async fn run(args: DemoArgs, common: Common) -> Result<Status, Fault> {
    let DemoArgs {
        data,
        target,
        keep,
        trees,
        nodes,
        report,
    } = args;
    let _ = (data, target, keep, trees, nodes, report, common);
    Err(Fault::failed("the demo is not part of this build"))
}
