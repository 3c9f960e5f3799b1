//! Tasks and their results as they stand in the space.
//!
//! - `["task:KIND", job, id, [element, ...]]`
//! - `["result:JOB", id, node, microseconds, [[true, value] or [false, reason], ...]]`

use std::time::Duration;

use cpe_tuple::{Field, Kind, LimitError, Template, Tuple, Value};

/// Bytes of a reason why not; longer ones are cut.
pub(crate) const REASON_BYTES_MAX: usize = 4096;

/// What came of one element.
pub type Outcome = Result<Value, String>;

/// Some elements to work on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Task {
    pub(crate) job: String,
    pub(crate) id: u64,
    pub(crate) elements: Vec<Value>,
}

impl Task {
    pub(crate) fn variable(kind: &str) -> String {
        format!("task:{kind}")
    }

    /// Matches every task of a kind.
    pub(crate) fn any(kind: &str) -> Result<Template, LimitError> {
        Template::new(vec![
            Field::Actual(Value::from(Self::variable(kind))),
            Field::Typed(Kind::String),
            Field::Typed(Kind::Int),
            Field::Typed(Kind::List),
        ])
    }

    /// Matches one task while nobody has taken it.
    pub(crate) fn waiting(kind: &str, job: &str, id: u64) -> Result<Template, LimitError> {
        Template::new(vec![
            Field::Actual(Value::from(Self::variable(kind))),
            Field::Actual(Value::from(job)),
            Field::Actual(number(id)),
            Field::Typed(Kind::List),
        ])
    }

    pub(crate) fn to_tuple(&self, kind: &str) -> Result<Tuple, LimitError> {
        Tuple::new(vec![
            Value::from(Self::variable(kind)),
            Value::from(self.job.as_str()),
            number(self.id),
            Value::List(self.elements.clone()),
        ])
    }

    /// Reads a task back; `None` for what is none.
    pub(crate) fn of(tuple: &Tuple) -> Option<Self> {
        let [_, job, id, elements] = tuple.fields() else {
            return None;
        };
        Some(Self {
            job: job.as_str()?.to_owned(),
            id: u64::try_from(id.as_int()?).ok()?,
            elements: elements.as_list()?.to_vec(),
        })
    }
}

/// What came of a task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    pub(crate) id: u64,
    pub(crate) node: String,
    pub(crate) took: Duration,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Report {
    pub(crate) fn variable(job: &str) -> String {
        format!("result:{job}")
    }

    pub(crate) fn any(job: &str) -> Result<Template, LimitError> {
        Template::new(vec![
            Field::Actual(Value::from(Self::variable(job))),
            Field::Typed(Kind::Int),
            Field::Typed(Kind::String),
            Field::Typed(Kind::Int),
            Field::Typed(Kind::List),
        ])
    }

    pub(crate) fn to_tuple(&self, job: &str) -> Result<Tuple, LimitError> {
        let outcome = |outcome: &Outcome| match outcome {
            Ok(value) => Value::List(vec![Value::Bool(true), value.clone()]),
            Err(reason) => Value::List(vec![Value::Bool(false), Value::from(cut(reason))]),
        };
        Tuple::new(vec![
            Value::from(Self::variable(job)),
            number(self.id),
            Value::from(self.node.as_str()),
            number(u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX)),
            Value::List(self.outcomes.iter().map(outcome).collect()),
        ])
    }

    /// Reads a result back; `None` for what is none.
    pub(crate) fn of(tuple: &Tuple) -> Option<Self> {
        let [_, id, node, took, outcomes] = tuple.fields() else {
            return None;
        };
        let outcome = |value: &Value| match value.as_list()? {
            [Value::Bool(true), value] => Some(Ok(value.clone())),
            [Value::Bool(false), reason] => Some(Err(reason.as_str()?.to_owned())),
            _ => None,
        };
        Some(Self {
            id: u64::try_from(id.as_int()?).ok()?,
            node: node.as_str()?.to_owned(),
            took: Duration::from_micros(u64::try_from(took.as_int()?).ok()?),
            outcomes: outcomes
                .as_list()?
                .iter()
                .map(outcome)
                .collect::<Option<_>>()?,
        })
    }
}

fn cut(reason: &str) -> &str {
    reason
        .get(..reason.floor_char_boundary(REASON_BYTES_MAX))
        .unwrap_or(reason)
}

fn number(n: u64) -> Value {
    Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            id in 0..i64::MAX as u64,
            micros in 0..i64::MAX as u64,
            node in "[a-z]{0,8}",
            numbers in prop::collection::vec(prop::result::maybe_ok(any::<i64>(), ".{0,20}"), 0..9),
        ) {
            let outcomes = numbers.iter().map(|n| n.clone().map(Value::Int)).collect();
            let report = Report { id, node, took: Duration::from_micros(micros), outcomes };
            let tuple = report.to_tuple("j").unwrap();
            prop_assert!(Report::any("j").unwrap().matches(&tuple));
            prop_assert_eq!(Report::of(&tuple), Some(report));

            let elements = numbers.into_iter().flatten().map(Value::Int).collect();
            let task = Task { job: "j".to_owned(), id, elements };
            let tuple = task.to_tuple("k").unwrap();
            prop_assert!(Task::any("k").unwrap().matches(&tuple));
            prop_assert!(Task::waiting("k", "j", id).unwrap().matches(&tuple));
            prop_assert_eq!(Task::of(&tuple), Some(task));
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = "ü".repeat(REASON_BYTES_MAX);
        let report = Report {
            id: 0,
            node: String::new(),
            took: Duration::ZERO,
            outcomes: vec![Err(reason)],
        };
        let read = Report::of(&report.to_tuple("j").unwrap()).unwrap();
        assert_eq!(read.outcomes, [Err("ü".repeat(REASON_BYTES_MAX / 2))]);
    }

    #[test]
    fn a_stranger_s_tuple_is_no_result() {
        for outcomes in [
            "[17]",
            "[[true]]",
            "[[false,17]]",
            "[[1,2]]",
            "[[true,1,2]]",
        ] {
            let json = format!("[\"result:j\",1,\"a\",1,{outcomes}]");
            assert_eq!(
                Report::of(&cpe_tuple::json::parse_tuple(&json).unwrap()),
                None,
                "{json}"
            );
        }
    }
}
