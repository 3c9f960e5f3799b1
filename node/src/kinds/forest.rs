//! The kind `forest`: an actor that answers what a model in the mesh says of cases.
//!
//! Arguments: `{"model": NAME}`. Messages:
//! - `{"predict": [feature, ...]}` or `{"predict": {"column": feature, ...}}`: one case; answers
//!   `{"class", "votes", "probabilities", "trees"}`, or `{"value", "trees"}` for numbers;
//! - `{"predict": [case, case, ...]}`: several; answers a list;
//! - `"model"`: answers `{"model", "forest", "target", "classes", "features", "trees"}`.
//!
//! A feature is a number, a text of the column's levels, or null where it is not known. The model
//! is the one that has the name when the message comes: training it anew needs no restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use cpe::{ActorError, DynActor, DynContext, KindStart, Value};
use cpe_forest::{Feature, Forest, Manifest, Prediction, Predictions, Rows};
use futures::future::BoxFuture;

use crate::forest::blob::PART_WITHIN;
use crate::forest::job::hex;
use crate::forest::model::Models;

/// Cases of one message at most.
const CASES_MAX: usize = 100_000;

pub(super) struct ForestActor {
    model: String,
    space: cpe::Space,
    models: Models,
}

impl ForestActor {
    /// The actor that the arguments describe.
    pub(super) fn make(start: KindStart, models: Models) -> Result<Box<dyn DynActor>, ActorError> {
        let model = start
            .args
            .as_map()
            .and_then(|args| args.get("model")?.as_str());
        let model = model.ok_or_else(|| {
            ActorError::refused("a forest needs the name of its model: {\"model\": NAME}")
        })?;
        let (model, space) = (model.to_owned(), start.node.space().clone());
        Ok(Box::new(Self {
            model,
            space,
            models,
        }))
    }
}

impl DynActor for ForestActor {
    fn handle<'a>(
        &'a mut self,
        message: Value,
        _: &'a mut DynContext,
    ) -> BoxFuture<'a, Result<Option<Value>, ActorError>> {
        Box::pin(async move {
            let forest = self.models.get(&self.space, &self.model, PART_WITHIN).await;
            let forest = forest.map_err(|fault| ActorError::refused(fault.to_string()))?;
            let answer = if message.as_str() == Some("model") {
                Ok(describe(&self.model, &forest))
            } else {
                match cases_of(message) {
                    Some(cases) => predict_apart(forest, cases).await,
                    None => Err("it knows {\"predict\": [feature, ...]} and \"model\"".to_owned()),
                }
            };
            answer.map(Some).map_err(ActorError::refused)
        })
    }

    // Its model is in the space: another node goes on with it from its arguments.
    fn snapshot(&self) -> Result<Option<Value>, ActorError> {
        Ok(Some(Value::Null))
    }
}

fn cases_of(message: Value) -> Option<Value> {
    match message {
        Value::Map(mut map) => map.remove("predict"),
        _ => None,
    }
}

/// What a forest says of one case, or of a list of cases: perhaps seconds of arithmetic, so off the
/// threads that move messages.
///
/// # Errors
/// What is wrong with the case.
pub(crate) async fn predict_apart(forest: Arc<Forest>, cases: Value) -> Result<Value, String> {
    let predicting = tokio::task::spawn_blocking(move || predict(&forest, &cases));
    predicting.await.map_err(|error| error.to_string())?
}

/// Of what was told of one case, how probable each class is.
///
/// # Errors
/// When the model tells numbers.
pub(crate) fn probabilities(told: Value) -> Result<Value, String> {
    let found = match told {
        Value::Map(mut map) => map.remove("probabilities"),
        _ => None,
    };
    found.ok_or_else(|| "the model tells numbers, which have no probabilities".to_owned())
}

fn predict(forest: &Forest, cases: &Value) -> Result<Value, String> {
    let manifest = forest.manifest();
    let (rows, several) = rows(manifest, cases)?;
    let told = forest.predict(&rows).map_err(|error| error.to_string())?;
    let mut answers = answers(manifest, &told);
    if several {
        return Ok(Value::List(answers));
    }
    answers.pop().ok_or_else(|| "there is no case".to_owned())
}

/// One case or a list of cases as the rows of a model, and whether it was a list.
///
/// # Errors
/// What is wrong with the case.
pub(crate) fn rows(manifest: &Manifest, cases: &Value) -> Result<(Rows, bool), String> {
    let several = matches!(cases, Value::List(items)
        if matches!(items.first(), Some(Value::List(_) | Value::Map(_))));
    let cases = match cases {
        Value::List(items) if several => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    if cases.len() > CASES_MAX {
        return Err(format!("{} cases; at most {CASES_MAX}", cases.len()));
    }
    let width = manifest.features().len();
    let mut values = Vec::with_capacity(cases.len() * width);
    for case in cases {
        values.extend(features(manifest, case)?);
    }
    let rows = Rows::new(width, values).map_err(|error| error.to_string())?;
    Ok((rows, several))
}

/// What was told of each case.
pub(crate) fn answers(manifest: &Manifest, told: &Predictions) -> Vec<Value> {
    let rows = told.rows.iter();
    rows.map(|row| answer(manifest, row, told.trees)).collect()
}

fn features(manifest: &Manifest, case: &Value) -> Result<Vec<f64>, String> {
    let wanted = manifest.features();
    match case {
        Value::List(given) if given.len() == wanted.len() => wanted
            .iter()
            .zip(given)
            .map(|(feature, value)| number(feature, value))
            .collect(),
        Value::List(given) => Err(format!(
            "{} features were given, the model wants {}",
            given.len(),
            wanted.len()
        )),
        Value::Map(given) => {
            if let Some(name) = given
                .keys()
                .find(|name| wanted.iter().all(|f| f.name != **name))
            {
                return Err(format!("the model has no feature `{name}`"));
            }
            let value = |feature: &Feature| given.get(&feature.name).unwrap_or(&Value::Null);
            wanted
                .iter()
                .map(|feature| number(feature, value(feature)))
                .collect()
        }
        other => Err(format!(
            "a case is a list or a map of features, not a value of {}",
            other.kind()
        )),
    }
}

fn number(feature: &Feature, value: &Value) -> Result<f64, String> {
    let text = value.as_str().or_else(|| value.as_symbol());
    match (value, text) {
        (Value::Null, _) => Ok(f64::NAN),
        (Value::Int(number), _) if feature.levels.is_empty() => Ok(*number as f64),
        (Value::Float(number), _) if feature.levels.is_empty() => Ok(*number),
        // A text the model has never seen counts as missing, as in a CSV.
        (_, Some(text)) if !feature.levels.is_empty() => {
            let level = feature.levels.iter().position(|level| level == text);
            Ok(level.map_or(f64::NAN, |level| level as f64))
        }
        _ if feature.levels.is_empty() => Err(format!("feature `{}` is a number", feature.name)),
        _ => Err(format!("feature `{}` is a text", feature.name)),
    }
}

fn answer(manifest: &Manifest, told: &Prediction, trees: u32) -> Value {
    let mut map = BTreeMap::new();
    map.insert("trees".to_owned(), Value::Int(trees.into()));
    match told {
        Prediction::Class {
            class,
            votes,
            probabilities,
            ..
        } => {
            let classes = || manifest.classes().iter().cloned();
            let votes = classes().zip(votes.iter().map(|votes| Value::Int((*votes).into())));
            let shares = classes().zip(probabilities.iter().map(|share| Value::Float(*share)));
            map.insert("class".to_owned(), Value::from(class.as_str()));
            map.insert("votes".to_owned(), Value::Map(votes.collect()));
            map.insert("probabilities".to_owned(), Value::Map(shares.collect()));
        }
        Prediction::Number { value } => {
            map.insert("value".to_owned(), Value::Float(*value));
        }
    }
    Value::Map(map)
}

fn describe(name: &str, forest: &Forest) -> Value {
    let manifest = forest.manifest();
    let list = |names: Vec<&str>| Value::List(names.into_iter().map(Value::from).collect());
    let features = manifest
        .features()
        .iter()
        .map(|feature| feature.name.as_str())
        .collect();
    let classes = manifest.classes().iter().map(String::as_str).collect();
    let entries = [
        ("model", Value::from(name)),
        ("forest", Value::from(hex(&forest.hash()))),
        ("target", Value::from(manifest.target())),
        ("classes", list(classes)),
        ("features", list(features)),
        ("trees", Value::Int(manifest.spec().trees.into())),
    ];
    Value::Map(
        entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use cpe_forest::{CsvOptions, Dataset, ForestSpec, TargetKind};
    use cpe_tuple::json::{parse_value, value_to_json};

    use super::*;

    fn forest() -> Forest {
        let mut csv = String::from("size,colour,kind\n");
        for n in 0..40 {
            let (colour, kind) = if n < 20 {
                ("red", "small")
            } else {
                ("blue", "large")
            };
            csv.push_str(&format!("{n},{colour},{kind}\n"));
        }
        let options = CsvOptions::default();
        let data = Dataset::from_csv(csv.as_bytes(), "kind", TargetKind::Auto, &options).unwrap();
        Forest::grow(&data, &ForestSpec::classify().with_trees(10)).unwrap()
    }

    fn ask(cases: &str) -> Result<serde_json::Value, String> {
        predict(&forest(), &parse_value(cases).unwrap()).map(|value| value_to_json(&value))
    }

    #[test]
    fn a_case_is_a_list_or_a_map() {
        let by_list = ask("[3, \"red\"]").unwrap();
        assert_eq!(by_list["class"], "small");
        assert_eq!(by_list["trees"], 10);
        assert_eq!(by_list["votes"]["small"], 10);
        assert_eq!(ask("{\"colour\":\"red\",\"size\":3}").unwrap(), by_list);
        assert_eq!(ask("[3.0, {\"sym\":\"red\"}]").unwrap(), by_list);
    }

    #[test]
    fn several_cases_get_as_many_answers() {
        let told = ask("[[3, \"red\"], [33, \"blue\"], [33, null]]").unwrap();
        let classes: Vec<_> = told
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a["class"].clone())
            .collect();
        assert_eq!(classes.get(..2).unwrap(), ["small", "large"]);
        assert_eq!(classes.len(), 3);
    }

    #[test]
    fn a_wrong_case_is_refused_with_what_is_wrong() {
        for (case, said) in [
            ("[3]", "1 features were given, the model wants 2"),
            ("[\"3\", \"red\"]", "feature `size` is a number"),
            ("[3, 4]", "feature `colour` is a text"),
            ("{\"weight\": 3}", "no feature `weight`"),
            ("17", "a list or a map"),
        ] {
            let wrong = ask(case).unwrap_err();
            assert!(wrong.contains(said), "{case}: {wrong}");
        }
    }
}
