use super::*;
use crate::limits::MAX_LEVELS;

fn read(csv: &[u8]) -> Result<Table, DataError> {
    Table::read_csv(csv, &CsvOptions::default())
}

fn said(csv: &[u8]) -> String {
    read(csv).unwrap_err().to_string()
}

#[test]
fn a_column_is_numbers_or_texts_by_its_cells() {
    let csv = "\u{feff}a, b ,c\r\n1,x,\r\n -2.5e3 ,NA,7\r\n?,\"y, z\",nan\r\n";
    let table = read(csv.as_bytes()).unwrap();
    assert_eq!(table.names().collect::<Vec<_>>(), ["a", "b", "c"]);
    let Values::Numbers(a) = &table.columns[0].values else {
        panic!("a holds numbers");
    };
    assert_eq!(a[..2], [1.0, -2500.0]);
    assert!(a[2].is_nan());
    let levels = vec!["x".to_owned(), "y, z".to_owned()];
    let of = vec![0, NO_LEVEL, 1];
    assert_eq!(table.columns[1].values, Values::Texts { levels, of });
    assert_eq!(table.len(), 3);
}

#[test]
fn the_order_of_rows_does_not_change_the_numbers_of_texts() {
    let levels = |csv: &str| match &read(csv.as_bytes()).unwrap().columns[0].values {
        Values::Texts { levels, of } => (levels.clone(), of.clone()),
        other => panic!("texts became {other:?}"),
    };
    assert_eq!(levels("a\nz\nb\nz\n").1, [1, 0, 1]);
    assert_eq!(levels("a\nb\nz\n").0, levels("a\nz\nb\n").0);
}

#[test]
fn bad_csv_is_refused_with_line_and_column() {
    let check = |csv: &[u8], expected: &str| assert_eq!(said(csv), expected);
    check(
        b"",
        "the CSV is empty: give a header line with column names and at least one row",
    );
    check(b"a,b\n", "the CSV has a header but no rows");
    check(
        b"a,b\n1,2\n3\n",
        "line 3 of the CSV has 1 cells, the header has 2",
    );
    check(
        b"a,b\n1,2,3\n",
        "line 2 of the CSV has 3 cells, the header has 2",
    );
    check(
        b"a,b\n1,2\n1,\xff\xfe\n",
        "line 3, column \"b\" of the CSV is not UTF-8: save the file as UTF-8 and try again",
    );
    check(
        b"a,\xff\n1,2\n",
        "line 1, column 2 of the CSV is not UTF-8: save the file as UTF-8 and try again",
    );
    check(
        b"a,b,a\n1,2,3\n",
        "the CSV header names the column \"a\" twice, at 1 and 3",
    );
    check(b"a,,c\n1,2,3\n", "column 2 of the CSV header has no name");
    check(
        b"a,b\n1,2\n1,\n1,two\n",
        "line 4, column \"b\": \"two\" is text, but line 2 has a number; correct the cell, or take \
         the column as text (`--types b=text`)",
    );
    check(
        b"a,b\n1,two\n1,2\n",
        "line 3, column \"b\": \"2\" is a number, but line 2 has text; correct the cell, or take \
         the column as text (`--types b=text`)",
    );
    check(
        b"a\n1e999\n",
        "line 2, column \"a\": \"1e999\" is not a finite number; correct the cell, leave it empty \
         if the number is not known, or, to train with it as a text, take the column as text \
         (`--types a=text`)",
    );
    check(
        b"a\ninf\n",
        "line 2, column \"a\": \"inf\" is not a finite number; correct the cell, leave it empty \
         if the number is not known, or, to train with it as a text, take the column as text \
         (`--types a=text`)",
    );
}

#[test]
fn what_is_too_large_is_named_with_its_limit() {
    let mut wide = vec!["c"; MAX_COLUMNS + 1].join(",");
    wide.push('\n');
    assert_eq!(
        said(wide.as_bytes()),
        "too large: the number of columns is 4097, the limit is 4096"
    );
    let long = format!("a\n{}\n", "x".repeat(300));
    assert_eq!(
        said(long.as_bytes()),
        "too large: line 2, column \"a\": the text, in bytes, is 300, the limit is 256"
    );
    let mut texts = String::from("id\n");
    for i in 0..2_000 {
        texts.push_str(&format!("user{i}\n"));
    }
    assert!(said(texts.as_bytes()).contains("identifiers"));
    // One cell without end stops at the bound of bytes, not at that of memory.
    let error = Table::read_bounded(std::io::repeat(b'x'), &CsvOptions::default(), 100_000);
    assert_eq!(
        error.unwrap_err().to_string(),
        "too large: the CSV, in bytes, is 100001, the limit is 100000"
    );
}

#[test]
fn columns_can_be_left_out_or_taken_as_text() {
    let csv = b"id,zip,x\nfoo,1234,1\n17,12a,2\n";
    let options = CsvOptions {
        ignore: vec!["id".to_owned()],
        text: vec!["zip".to_owned()],
        ..CsvOptions::default()
    };
    let table = Table::read_csv(&csv[..], &options).unwrap();
    assert_eq!(table.names().collect::<Vec<_>>(), ["zip", "x"]);
    assert_eq!(table.columns[0].values.kind(), "texts");
    let options = CsvOptions {
        only: Some(vec!["x".to_owned()]),
        ..CsvOptions::default()
    };
    assert!(!Table::read_csv(&csv[..], &options).unwrap().has("zip"));
    let options = CsvOptions {
        ignore: vec!["idd".to_owned()],
        ..CsvOptions::default()
    };
    let error = Table::read_csv(&csv[..], &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no column \"idd\"; the columns are id, x, zip"
    );
}

#[test]
fn of_a_column_whose_texts_are_known_all_others_count_as_missing() {
    let mut csv = String::from("zip,x\nb,1\na,2\n");
    for n in 0..2 * MAX_LEVELS {
        csv.push_str(&format!("new{n},3\n"));
    }
    csv.push_str(&format!("{},4\n", "long".repeat(MAX_NAME_BYTES)));
    let known = ["a", "b", "c"].map(str::to_owned);
    let options = CsvOptions {
        text: vec!["zip".to_owned()],
        known: [("zip".to_owned(), known.into())].into(),
        ..CsvOptions::default()
    };
    let table = Table::read_csv(csv.as_bytes(), &options).unwrap();
    let Values::Texts { levels, of } = &table.columns[0].values else {
        panic!("{:?}", table.columns[0]);
    };
    assert_eq!(levels, &["a", "b"]);
    assert_eq!(&of[..2], [1, 0]);
    assert!(of[2..].iter().all(|code| *code == NO_LEVEL));
}

#[test]
fn a_semicolon_can_stand_between_cells() {
    let options = CsvOptions {
        delimiter: b';',
        ..CsvOptions::default()
    };
    let table = Table::read_csv(&b"a;b\n1;2\n"[..], &options).unwrap();
    assert_eq!(table.names().count(), 2);
}
