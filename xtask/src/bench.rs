//! `cargo xtask bench`: runs the workspace's benchmarks and keeps their figures.
//!
//! A benchmark is a `[[bench]]` target with `harness = false`. Asked with `--json`, it prints one
//! JSON object per measurement and line of standard output, or one object with a list of them. Its
//! fields are `case`, `value` and `unit`, and usually `baseline` (what was measured beside it) and
//! `baseline_value`; further fields become further columns. With `--quick` it takes seconds rather
//! than minutes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use crate::python;
use crate::run::{Stream, capture, cargo, print, run, say, tee};
use crate::setup;
use crate::workspace::{Package, Root};

/// The columns that come first, in this order; others follow by name.
const FIRST_COLUMNS: [&str; 5] = ["case", "value", "unit", "baseline", "baseline_value"];

/// Runs the benchmarks whose name contains the given one, or all.
pub(crate) fn bench(root: &Root, args: &[String]) -> Result<()> {
    let wanted = Wanted::parse(args)?;
    let metadata = root.metadata()?;
    let benches: Vec<(&Package, &str)> = metadata
        .packages
        .iter()
        .flat_map(|package| {
            package
                .benches
                .iter()
                .map(move |bench| (package, bench.as_str()))
        })
        .filter(|(_, bench)| bench.contains(&wanted.name))
        .collect();
    if benches.is_empty() {
        bail!("no benchmark has `{}` in its name", wanted.name);
    }
    setup::setup(root)?;
    let folder = metadata.target_directory.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let machine = machine(root);
    for (package, bench) in benches {
        say(&format!("\nbench: {bench} ({})", package.name));
        let python = beside(root, bench)?;
        let rows = measure(root, package, bench, &wanted, python.as_deref())?;
        print(&table(&rows));
        let file = folder.join(format!("{bench}.json"));
        let document = json!({ "bench": bench, "quick": wanted.quick, "profile": wanted.profile(),
            "machine": machine, "results": rows });
        fs::write(&file, format!("{document:#}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
        say(&format!("bench: written to {}", file.display()));
    }
    Ok(())
}

/// What the command line asks for.
struct Wanted {
    /// Empty means all.
    name: String,
    quick: bool,
    /// Without optimization: takes far less to build, and its figures decide no goal.
    unoptimized: bool,
}

impl Wanted {
    fn parse(args: &[String]) -> Result<Self> {
        let mut wanted = Self {
            name: String::new(),
            quick: false,
            unoptimized: false,
        };
        for arg in args {
            match arg.as_str() {
                "--quick" => wanted.quick = true,
                "--unoptimized" => wanted.unoptimized = true,
                flag if flag.starts_with('-') => {
                    bail!("`cargo xtask bench` knows no `{flag}`: --quick, --unoptimized");
                }
                name if wanted.name.is_empty() => name.clone_into(&mut wanted.name),
                more => bail!("`cargo xtask bench` takes one name, but `{more}` came second"),
            }
        }
        Ok(wanted)
    }

    fn profile(&self) -> &'static str {
        if self.unoptimized { "dev" } else { "bench" }
    }
}

/// The Python that has what a benchmark is measured beside, if it is measured beside any.
fn beside(root: &Root, bench: &str) -> Result<Option<PathBuf>> {
    let with = match bench {
        "forest" => python::SCIKIT_LEARN,
        "map" => python::DASK,
        _ => return Ok(None),
    };
    with.python(root).map(Some)
}

/// Builds, then runs one benchmark by itself so that no compiler disturbs it.
fn measure(
    root: &Root,
    package: &Package,
    bench: &str,
    wanted: &Wanted,
    python: Option<&Path>,
) -> Result<Vec<Map<String, Value>>> {
    let (package, profile) = (package.name.as_str(), wanted.profile());
    let select = [
        "bench",
        "--package",
        package,
        "--bench",
        bench,
        "--profile",
        profile,
    ];
    run(cargo(root).args(select).arg("--no-run"))?;
    let mut command = cargo(root);
    command.args(select).args(["--", "--json"]);
    if let Some(python) = python {
        command.env("CPE_BENCH_PYTHON", python);
    }
    if wanted.quick {
        command.arg("--quick");
    }
    let mut rows = Vec::new();
    tee(&mut command, Stream::Out, |line| {
        if let Ok(Value::Object(object)) = serde_json::from_str(line) {
            rows.extend(rows_of(object));
        }
    })?;
    Ok(rows)
}

/// The measurements in one line of output: the object itself, or the objects it has a list of.
fn rows_of(object: Map<String, Value>) -> Vec<Map<String, Value>> {
    let listed: Vec<_> = object
        .values()
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(Value::as_object)
        .cloned()
        .collect();
    if listed.is_empty() {
        vec![object]
    } else {
        listed
    }
}

/// What a reader of the figures must know to compare them.
fn machine(root: &Root) -> Value {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = std::process::Command::new(rustc);
    let rustc = capture(command.current_dir(root.path()).arg("--version")).unwrap_or_default();
    json!({
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "rustc": rustc.trim(),
    })
}

/// The rows as aligned text, numbers to the right.
fn table(rows: &[Map<String, Value>]) -> String {
    let mut columns: Vec<&str> = FIRST_COLUMNS.to_vec();
    for name in rows.iter().flat_map(Map::keys) {
        if !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    columns.retain(|name| rows.iter().any(|row| row.contains_key(*name)));
    let head: Vec<String> = columns.iter().map(|&name| name.to_owned()).collect();
    let body = rows
        .iter()
        .map(|row| columns.iter().map(|name| cell(row.get(*name))).collect());
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(body).collect();
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(column))
            .map(|text| text.chars().count())
            .max()
    };
    let is_number = |name: &str| {
        rows.iter()
            .all(|row| row.get(name).is_none_or(Value::is_number))
    };
    let mut text = String::new();
    for line in &lines {
        let mut shown = String::new();
        for (column, (value, name)) in line.iter().zip(&columns).enumerate() {
            let width = width(column).unwrap_or(0);
            if is_number(name) {
                shown.push_str(&format!("{value:>width$}  "));
            } else {
                shown.push_str(&format!("{value:<width$}  "));
            }
        }
        text.push_str(shown.trim_end());
        text.push('\n');
    }
    text
}

/// Three significant digits are what a benchmark on a shared machine can claim at most.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) if number.is_f64() => {
            let number = number.as_f64().unwrap_or(0.0);
            let decimals = if number.abs() < 10.0 {
                2
            } else {
                usize::from(number.abs() < 100.0)
            };
            format!("{number:.decimals$}")
        }
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> Result<Wanted> {
        Wanted::parse(
            &words
                .iter()
                .map(|&word| word.to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn a_name_and_a_flag_come_in_any_order() {
        let wanted = args(&["--quick", "codec"]).unwrap();
        assert!(wanted.quick && wanted.name == "codec");
        assert!(args(&["codec", "ask"]).is_err());
        assert!(args(&["--slow"]).is_err());
    }

    #[test]
    fn one_object_is_one_row_and_an_object_with_a_list_is_many() {
        let rows = |text| rows_of(serde_json::from_str(text).unwrap()).len();
        assert_eq!(rows(r#"{"case":"tell","value":1}"#), 1);
        assert_eq!(
            rows(r#"{"bench":"local","results":[{"case":"tell"},{"case":"ask"}]}"#),
            2
        );
    }

    #[test]
    fn the_table_aligns_numbers_and_keeps_unknown_fields() {
        let rows: Vec<Map<String, Value>> = serde_json::from_str(
            r#"[{"case":"encode","value":1234.5,"unit":"ns/op","bytes":7},
                {"case":"find","value":1.234,"unit":"us/op"}]"#,
        )
        .unwrap();
        let expected = "\
case    value  unit   bytes
encode   1234  ns/op      7
find     1.23  us/op
";
        assert_eq!(table(&rows), expected);
    }
}
