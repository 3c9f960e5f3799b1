//! Parquet files beside CSV files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::super::harness::run;

/// An example that comes with the project.
fn example(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    format!("{folder}/{name}")
}

/// Eight rows: numbers of which one is missing, texts, days, and lists of numbers; in two parts.
fn written(folder: &Path, number: f64) -> PathBuf {
    let path = folder.join("rows.parquet");
    let schema = "message rows {
        optional double size;
        required binary kind (UTF8);
        required int32 day (DATE);
        repeated int32 marks;
    }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = fs::File::create(&path).unwrap();
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
    for part in 0..2 {
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let sizes = [1.5, 2.5, number];
        let typed = column.typed::<DoubleType>();
        typed
            .write_batch(&sizes, Some(&[1, 0, 1, 1]), None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let kinds = ["1", "2", "1", "2"].map(ByteArray::from);
        let typed = column.typed::<ByteArrayType>();
        typed.write_batch(&kinds, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let days = [20_000, 20_001, 20_002, 20_003 + part];
        let typed = column.typed::<Int32Type>();
        typed.write_batch(&days, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let typed = column.typed::<Int32Type>();
        let (levels, starts) = ([1, 1, 0, 1, 1], [0, 1, 0, 0, 0]);
        typed
            .write_batch(&[1, 2, 3, 4], Some(&levels), Some(&starts))
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
    path
}

#[test]
fn the_same_table_as_parquet_makes_the_same_forest() {
    // As pyarrow 26.0.1 wrote it with its defaults (Snappy, dictionaries) from the CSV beside it.
    let (csv, parquet) = (example("penguins.csv"), example("penguins.parquet"));
    let folder = tempfile::tempdir().unwrap();
    let train = |data: &str, name: &str, more: &[&str]| {
        let model = folder.path().join(name);
        let model = model.to_str().unwrap().to_owned();
        let args = [
            "forest", "train", data, "--target", "species", "--out", &model, "--local", "--json",
            "--trees", "20",
        ];
        let trained = run(&[&args[..], more].concat()).json();
        (model, trained["card"]["forest"].clone())
    };
    let (model, of_csv) = train(&csv, "csv.forest", &[]);
    let (_, of_parquet) = train(&parquet, "parquet.forest", &[]);
    assert_eq!(of_csv, of_parquet);
    for command in ["predict", "evaluate"] {
        let told = |data: &str| run(&["forest", command, &model, data]).code(0).out;
        assert_eq!(told(&parquet), told(&csv), "{command}");
    }
    // By content, whatever it is called; and said to be text, a number is one.
    let renamed = folder.path().join("table");
    fs::copy(&parquet, &renamed).unwrap();
    let text = ["--types", "year=text"];
    let (_, of_csv) = train(&csv, "csv.forest", &text);
    let (_, of_parquet) = train(renamed.to_str().unwrap(), "parquet.forest", &text);
    assert_eq!(of_csv, of_parquet);
}

#[test]
fn what_a_parquet_file_has_that_a_table_has_not_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let rows = written(folder.path(), 3.5);
    let model = folder.path().join("m.forest");
    let (rows, model) = (rows.to_str().unwrap(), model.to_str().unwrap());
    let train = |more: &[&str]| {
        let args = [
            "forest", "train", rows, "--target", "kind", "--out", model, "--local",
        ];
        run(&[&args[..], more].concat())
    };
    train(&[]).code(1).says(
        "row 1, column \"day\": a date is neither a number nor a text; make one of it, or leave \
         the column out (`--ignore day`)",
    );
    train(&["--ignore", "day"])
        .code(1)
        .says("row 1, column \"marks\": a list is neither");
    train(&["--ignore", "days"])
        .code(1)
        .says("there is no column \"days\"; the columns are day, kind, marks, size");
    train(&["--ignore", "day", "--ignore", "marks"]).code(0);
    // The classes are texts though they look like numbers; and a model asks for its columns only.
    let told = run(&["forest", "predict", model, rows]).code(0);
    assert_eq!(told.out.lines().next(), Some("kind,p(1),p(2)"));
    assert_eq!(told.out.lines().count(), 9);
    train(&[
        "--ignore",
        "day",
        "--ignore",
        "marks",
        "--types",
        "kind=number",
    ])
    .code(0);

    let infinite = written(folder.path(), f64::INFINITY);
    train(&["--ignore", "day", "--ignore", "marks"])
        .code(1)
        .says("row 4, column \"size\": \"inf\" is not a finite number");
    let bytes = fs::read(&infinite).unwrap();
    fs::write(&infinite, &bytes[..bytes.len() / 2]).unwrap();
    train(&[]).code(1).says("it cannot be read as Parquet");
    fs::write(&infinite, "size,kind\n1,a\n").unwrap();
    train(&[]).code(1).says("it cannot be read as Parquet");
}
