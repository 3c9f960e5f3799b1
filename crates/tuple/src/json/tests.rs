use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{Field, Kind, Template, Tuple, Value, strategies};

#[track_caller]
fn reads(text: &str, value: impl Into<Value>) {
    assert_eq!(parse_value(text), Ok(value.into()));
}

#[track_caller]
fn refused(error: impl ToString, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

proptest! {
    #[test]
    fn a_value_reads_back_from_its_text(value in strategies::value()) {
        prop_assert_eq!(parse_value(&value.to_string()).unwrap(), value);
    }

    #[test]
    fn a_tuple_reads_back_from_its_text(tuple in strategies::tuple()) {
        prop_assert_eq!(parse_tuple(&tuple.to_string()).unwrap(), tuple);
    }

    #[test]
    fn a_template_reads_back_from_its_text(template in strategies::template()) {
        prop_assert_eq!(parse_template(&template.to_string()).unwrap(), template);
    }

    #[test]
    fn serde_json_uses_the_same_forms(value in strategies::value(), t in strategies::template()) {
        let message = (value, t);
        let text = serde_json::to_string(&message).unwrap();
        prop_assert_eq!(&text, &format!("[{},{}]", message.0, message.1));
        prop_assert_eq!(serde_json::from_str::<(Value, Template)>(&text).unwrap(), message);
    }

    #[test]
    fn any_text_is_read_or_refused_without_panic(text in strategies::text()) {
        let _ = parse_value(&text);
        let _ = parse_template(&text);
        let _ = parse_cli_value(&text);
    }
}

#[test]
fn the_documented_forms_read_as_documented() {
    reads("17", 17);
    reads("-9223372036854775808", i64::MIN);
    reads("1.0", 1.0);
    reads("1e3", 1000.0);
    reads(r#""text""#, "text");
    reads(r#"{"sym":"x"}"#, Value::symbol("x"));
    reads(r#"{"bytes":"AAEC"}"#, vec![0_u8, 1, 2]);
    reads(r#"{"bytes":"AA"}"#, vec![0_u8]);
    reads(r#"{"float":"-inf"}"#, f64::NEG_INFINITY);
    let map = |key: &str| BTreeMap::from([(key.to_owned(), Value::from("x"))]);
    reads(r#"{"map":{"sym":"x"}}"#, map("sym"));
    reads(r#"{"map":{"a":"x"}}"#, map("a"));
    reads(r#"{"?":"x"}"#, map("?"));
    assert_eq!(
        Value::from(map("sym")).to_string(),
        r#"{"map":{"sym":"x"}}"#
    );
    assert_eq!(Value::from(map("a")).to_string(), r#"{"a":"x"}"#);
}

#[test]
fn the_documented_template_reads_as_documented() {
    let text = r#"["a",{"?":"int"},{"?":"any"},{">=":3,"<":9},{"prefix":"a"},{"sym":"s"}]"#;
    let template = parse_template(text).unwrap();
    assert_eq!(template.to_string().len(), text.len());
    assert_eq!(template.fields()[1], Field::Typed(Kind::Int));
    let tuple = r#"["a",1,null,8,"ab",{"sym":"s"}]"#;
    assert!(template.matches(&parse_tuple(tuple).unwrap()));
    let tuple = r#"["a",1,null,9,"ab",{"sym":"s"}]"#;
    assert!(!template.matches(&parse_tuple(tuple).unwrap()));
}

#[test]
fn an_integer_beyond_64_bits_is_refused_and_named() {
    for digits in [
        "9223372036854775808",
        "-9223372036854775809",
        "100000000000000000000000",
    ] {
        let text = format!(r#"["9999999999999999999\"", 1.5, {digits}]"#);
        refused(parse_value(&text).unwrap_err(), &[digits, "64 signed bits"]);
        // Not a bare word either.
        refused(parse_cli_value(digits).unwrap_err(), &[digits]);
    }
    reads(r#""9999999999999999999999""#, "9999999999999999999999");
    reads("10000000000000000000000.0", 1e22);
}

#[test]
fn errors_name_the_offending_part() {
    let value = |text: &str| parse_value(text).unwrap_err();
    refused(
        value(r#"[0,{"a":[{"sym":3}]}]"#),
        &["at [1].a[0]: ", "takes a string, not a number"],
    );
    refused(value(r#"{"bytes":"*"}"#), &["base64"]);
    refused(value(r#"{"float":"1.0"}"#), &["\"NaN\""]);
    refused(value("[1,"), &["line 1, column 3"]);
    let template = |text: &str| parse_template(text).unwrap_err();
    refused(
        template(r#"[1,{"?":"integer"}]"#),
        &["at [1]: ", "\"integer\"", "any"],
    );
    refused(template(r#"[{">":1,">=":2}]"#), &["at [0]: ", "not both"]);
    refused(
        template(r#"[{">":1,"<":"a"}]"#),
        &["at [0]: ", "int", "string"],
    );
    refused(template(r#"[{"prefix":1}]"#), &["takes a string"]);
    refused(template("3"), &["a template is an array, not a number"]);
    refused(
        parse_tuple("{}").unwrap_err(),
        &["a tuple is an array, not an object"],
    );
}

#[test]
fn deep_text_is_refused() {
    let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(parse_value(&nested(32)).is_ok());
    refused(parse_value(&nested(33)).unwrap_err(), &["deep"]);
    assert!(parse_value(&nested(200_000)).is_err());
    assert!(parse_tuple(&nested(33)).is_ok());
    assert!(parse_tuple(&nested(34)).is_err());
}

#[test]
fn a_bare_word_is_a_string_on_the_command_line() {
    let cli = |text: &str| parse_cli_value(text).unwrap();
    assert_eq!(cli("17"), Value::Int(17));
    assert_eq!(cli("hello"), Value::from("hello"));
    assert_eq!(cli("hello world"), Value::from("hello world"));
    assert_eq!(cli("01"), Value::from("01"));
    assert_eq!(cli(""), Value::from(""));
    assert_eq!(cli("true"), Value::Bool(true));
    assert_eq!(cli(r#""17""#), Value::from("17"));
    assert!(parse_cli_value("[1,2").is_err());
    assert!(parse_cli_value(r#"{"sym":1}"#).is_err());
    assert_eq!(
        Tuple::named("a", cli("b")).unwrap().to_string(),
        r#"["a","b"]"#
    );
}
