use proptest::prelude::*;

use super::*;
use crate::forest::Forest;
use crate::manifest::Manifest;
use crate::spec::ForestSpec;
use crate::table::{CsvOptions, Table};

fn from_csv(csv: &str, target: &str, kind: TargetKind) -> Result<Dataset, DataError> {
    Dataset::from_csv(csv.as_bytes(), target, kind, &CsvOptions::default())
}

#[test]
fn a_target_is_classes_or_numbers_by_its_cells() {
    let kinds = |cells: &[&str], kind| -> String {
        let rows: String = cells.iter().map(|cell| format!("1,{cell}\n")).collect();
        match from_csv(&format!("x,y\n{rows}"), "y", kind) {
            Ok(data) => match data.target() {
                Target::Classes { names, of } => format!("{names:?} {of:?}"),
                Target::Numbers(values) => format!("{values:?}"),
            },
            Err(error) => error.to_string(),
        }
    };
    let auto = |cells: &[&str]| kinds(cells, TargetKind::Auto);
    assert_eq!(auto(&["b", "a", "b"]), "[\"a\", \"b\"] [1, 0, 1]");
    assert_eq!(auto(&["10", "2", "1"]), "[\"1\", \"2\", \"10\"] [2, 1, 0]");
    assert_eq!(auto(&["1.5", "2", "1"]), "[1.5, 2.0, 1.0]");
    let many = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"];
    assert!(auto(&many).starts_with("[1.0, 2.0"));
    assert!(kinds(&many, TargetKind::Classes).starts_with("[\"1\", \"2\""));
    assert_eq!(kinds(&["1", "2"], TargetKind::Numbers), "[1.0, 2.0]");
    assert_eq!(
        kinds(&["a", "b"], TargetKind::Numbers),
        "column \"y\" holds texts, the model was trained with numbers as its target"
    );
    assert_eq!(
        auto(&["a", "", "b"]),
        "line 3, column \"y\": the cell is missing: fill it in or leave the row out"
    );
    assert_eq!(
        auto(&["1e200", "1.5"]),
        format!(
            "row 1: the target \"y\" is {}, beyond the bound of 1e100: scale it",
            1e200
        )
    );
}

#[test]
fn a_target_that_is_not_there_is_said_with_the_columns_that_are() {
    assert_eq!(
        from_csv("a,b\n1,2\n", "c", TargetKind::Auto)
            .unwrap_err()
            .to_string(),
        "there is no column \"c\"; the columns are a, b"
    );
    assert_eq!(
        from_csv("y\n1\n2\n", "y", TargetKind::Auto)
            .unwrap_err()
            .to_string(),
        "the data set does not fit together: there is no feature besides the target"
    );
    assert_eq!(
        from_csv("x,y\n,1\nNA,2\n", "y", TargetKind::Auto)
            .unwrap_err()
            .to_string(),
        "column \"x\" has no value in any row: leave it out"
    );
}

#[test]
fn what_is_written_reads_back_as_it_was() {
    let csv = "n,color,y\n1.25,red,a\n,blue,b\n-3,\"a \"\"b\"\"\",a\n0.1,,b\n";
    let data = from_csv(csv, "y", TargetKind::Auto).unwrap();
    let mut written = Vec::new();
    data.write_csv(&mut written).unwrap();
    assert_eq!(String::from_utf8(written).unwrap(), csv);

    let bundled = Dataset::breast_cancer();
    let mut written = Vec::new();
    bundled.write_csv(&mut written).unwrap();
    let options = CsvOptions::default();
    let read = Dataset::from_csv(&written[..], "diagnosis", TargetKind::Auto, &options).unwrap();
    assert_eq!(read.hash(), bundled.hash());
    assert_eq!(
        Dataset::decode(&bundled.encode().unwrap()).unwrap(),
        bundled
    );
}

#[test]
fn a_split_is_stratified_seeded_and_complete() {
    let data = Dataset::breast_cancer();
    let (train, test) = data.split(0.25, 9).unwrap();
    assert_eq!(train.len() + test.len(), data.len());
    let malignant = |data: &Dataset| match data.target() {
        Target::Classes { of, .. } => of.iter().filter(|&&class| class == 1).count(),
        Target::Numbers(_) => 0,
    };
    assert_eq!(malignant(&test), 53);
    assert_eq!(malignant(&train), 212 - 53);
    assert_eq!(data.split(0.25, 9).unwrap().1, test);
    assert_ne!(data.split(0.25, 10).unwrap().1, test);
    for share in [0.0, 1.0, -0.5, f64::NAN, 1e-9] {
        assert!(data.split(share, 1).is_err(), "{share}");
    }
}

#[test]
fn the_hash_is_of_content() {
    let base = "x,y\n1,a\n2,b\n";
    let hash = |csv: &str| from_csv(csv, "y", TargetKind::Auto).unwrap().hash();
    assert_eq!(hash(base), hash("x,y\r\n1.0, a\r\n2e0,b\r\n"));
    assert_eq!(hash("x,y\n0,a\n2,b\n"), hash("x,y\n-0,a\n2,b\n"));
    for other in [
        "z,y\n1,a\n2,b\n",
        "x,y\n1,a\n3,b\n",
        "x,y\n2,b\n1,a\n",
        "x,y\n1,a\n2,c\n",
        "x,y\n1,a\n,b\n",
    ] {
        assert_ne!(hash(base), hash(other), "{other}");
    }
}

#[test]
fn parts_that_do_not_fit_make_no_data_set() {
    let feature = |name: &str| Feature {
        name: name.to_owned(),
        levels: Vec::new(),
    };
    let said = |features: &[&str], columns: Vec<Vec<f64>>, target: Target| {
        let features = features.iter().map(|name| feature(name)).collect();
        Dataset::new(features, columns, "y", target)
            .unwrap_err()
            .to_string()
    };
    let two = || Target::Numbers(vec![1.0, 2.0]);
    for (features, columns, part) in [
        (
            &["a", "a"][..],
            vec![vec![1.0, 2.0]; 2],
            "\"a\" is there twice",
        ),
        (
            &["a", "y"][..],
            vec![vec![1.0, 2.0]; 2],
            "both a feature and the target",
        ),
        (&["a"][..], vec![vec![1.0]], "has 1 rows, the target 2"),
        (
            &["a"][..],
            vec![vec![1.0, f64::INFINITY]],
            "impossible value in row 1",
        ),
        (
            &["a", "b"][..],
            vec![vec![1.0, 2.0]],
            "2 features are named, 1 columns",
        ),
    ] {
        let said = said(features, columns, two());
        assert!(said.contains(part), "{said}");
    }
    let strange = Target::Classes {
        names: vec!["a".to_owned()],
        of: vec![0, 1],
    };
    assert!(said(&["a"], vec![vec![1.0, 2.0]], strange).contains("without a name"));
}

#[test]
fn a_model_reads_its_training_data_again_with_their_weights() {
    let mut csv = String::from("x,trust,y,comment\n");
    for n in 0..40 {
        csv.push_str(&format!("{n},{},{}.5,none\n", n % 3 + 1, n * 2));
    }
    let options = CsvOptions {
        weights: Some("trust".to_owned()),
        ignore: vec!["comment".to_owned()],
        ..CsvOptions::default()
    };
    let data = Dataset::from_csv(csv.as_bytes(), "y", TargetKind::Auto, &options).unwrap();
    assert_eq!(data.weights_name(), Some("trust"));
    // Sent to another node it is as it was.
    let data = Dataset::decode(&data.encode().unwrap()).unwrap();
    let manifest = Manifest::new(&data, &ForestSpec::regress()).unwrap();
    let table = Table::read_csv(csv.as_bytes(), &manifest.training_options()).unwrap();
    let again = manifest.training(table).unwrap();
    assert_eq!(again.hash(), *manifest.data());
    // Rows to tell need no weights.
    let rows = manifest.read_rows("x\n1\n".as_bytes(), b',').unwrap();
    assert_eq!(rows.len(), 1);

    let both = CsvOptions {
        weights: Some("y".to_owned()),
        ..options
    };
    let both = Dataset::from_csv(csv.as_bytes(), "y", TargetKind::Auto, &both).unwrap_err();
    assert!(both.to_string().contains("cannot say how much"), "{both}");
}

#[test]
fn classes_that_look_like_numbers_are_found_again_as_they_were_taken() {
    let csv = "x,kind\n1,01\n2,02\n3,01\n4,02\n5,01\n";
    let told = |text: &[&str]| {
        let options = CsvOptions {
            text: text.iter().map(|name| (*name).to_owned()).collect(),
            ..CsvOptions::default()
        };
        let data = Dataset::from_csv(csv.as_bytes(), "kind", TargetKind::Classes, &options);
        let forest = Forest::grow(&data.unwrap(), &ForestSpec::classify().with_trees(10)).unwrap();
        let held_out = forest.manifest().read_labelled(csv.as_bytes(), b',');
        (
            forest.manifest().classes().to_vec(),
            forest.evaluate(&held_out.unwrap()).unwrap().rows(),
        )
    };
    assert_eq!(told(&["kind"]), (vec!["01".into(), "02".into()], 5));
    assert_eq!(told(&[]), (vec!["1".into(), "2".into()], 5));
}

#[test]
fn rows_to_tell_are_found_by_name_and_text() {
    let csv = "n,color,y\n1,red,a\n2,blue,b\n3,red,a\n4,blue,b\n";
    let data = from_csv(csv, "y", TargetKind::Auto).unwrap();
    let spec = crate::ForestSpec::classify().with_trees(10);
    let manifest = crate::Manifest::new(&data, &spec).unwrap();
    let rows = |csv: &str| manifest.read_rows(csv.as_bytes(), b',');
    let read = rows("color,junk,n\nred,1,5\ngreen,x,\n").unwrap();
    assert_eq!(read.row(0).unwrap(), [5.0, 1.0]);
    assert!(read.row(1).unwrap().iter().all(|value| value.is_nan()));
    assert_eq!(
        rows("n\n1\n").unwrap_err().to_string(),
        "there is no column \"color\"; the columns are n"
    );
    assert_eq!(
        rows("n,color\nlots,red\n").unwrap_err().to_string(),
        "line 2, column \"n\": \"lots\" is no number, and the column was said to hold numbers; \
         correct the cell, or leave it empty if the number is not known"
    );
    // What is to be told may be there, whatever it holds.
    let beside = rows("n,color,y\n1,red,1.5\n2,blue,unknown\n").unwrap();
    assert_eq!(beside.len(), 2);
    let labelled = manifest
        .read_labelled("y,color,n\nb,blue,7\n".as_bytes(), b',')
        .unwrap();
    assert_eq!(labelled.target_text(0), "b");
    assert_eq!(labelled.features(), data.features());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_encoded_decodes_to_the_same(
        rows in prop::collection::vec(
            (prop_oneof![Just(f64::NAN), -1e6..1e6, Just(7.0)], 0u8..3, -1e50..1e50), 1..40),
        classes in any::<bool>(),
    ) {
        let columns = vec![
            rows.iter().map(|row| row.0).collect(),
            rows.iter().map(|row| f64::from(row.1)).collect(),
        ];
        let levels = ["p", "q", "r"].map(str::to_owned).to_vec();
        let features = vec![
            Feature { name: "a".to_owned(), levels: Vec::new() },
            Feature { name: "b".to_owned(), levels: levels.clone() },
        ];
        let target = if classes {
            Target::Classes { names: levels, of: rows.iter().map(|r| u32::from(r.1)).collect() }
        } else {
            Target::Numbers(rows.iter().map(|row| row.2).collect())
        };
        let data = Dataset::new(features, columns, "y", target).unwrap();
        let bytes = data.encode().unwrap();
        let back = Dataset::decode(&bytes).unwrap();
        prop_assert_eq!(&back, &data);
        prop_assert_eq!(back.encode().unwrap(), bytes);
    }

    #[test]
    fn whatever_the_bytes_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Dataset::decode(&bytes);
        let _ = Table::read_csv(&bytes[..], &CsvOptions::default());
    }

    #[test]
    fn a_changed_byte_gives_an_error_or_a_sound_data_set(
        place in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let data = from_csv("x,c,y\n1,p,a\n2,q,b\n3.5,p,a\n", "y", TargetKind::Auto).unwrap();
        let mut bytes = data.encode().unwrap();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(data) = Dataset::decode(&bytes) {
            data.check().unwrap();
            let _ = data.rows();
        }
    }
}
