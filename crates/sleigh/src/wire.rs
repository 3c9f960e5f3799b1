//! Tasks and what is told of them, as they stand in the space.
//!
//! - `["task:KIND", job, id, [[index, element], ...]]`; of a task for one worker the variable is
//!   `task:KIND@WORKER`;
//! - `["result:JOB", id, worker, microseconds, [[index, mark, true, value], ...]]`, of an element
//!   that failed `[index, mark, false, reason]`. A task may have several, each with some elements.
//!   `microseconds` below zero tells that a worker has begun the task, and under which lease, that
//!   it is at it still, or that a master who takes this may have elements of it back.
//!
//! The mark is a hash of the element: a master that comes back to a job knows by it whether a
//! result is of the element it has.

use std::time::Duration;

use cpe_tuple::{Field, Kind, LimitError, Template, Tuple, Value, codec};

/// Bytes of a reason why not; longer ones are cut.
const REASON_BYTES_MAX: usize = 4096;

const BEGUN: i64 = -1;
const ALIVE: i64 = -2;
const SPARE: i64 = -3;

/// What came of one element.
pub type Outcome = Result<Value, String>;

/// An element with its place among all.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Element {
    pub(crate) index: usize,
    pub(crate) value: Value,
}

impl Element {
    /// A hash of the value (FNV-1a over its encoding): tells elements apart, and resists nobody.
    pub(crate) fn mark(value: &Value) -> i64 {
        let bytes = codec::encode(value).unwrap_or_default();
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix);
        hash.cast_signed()
    }
}

/// Some elements to work on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Task {
    pub(crate) job: String,
    pub(crate) id: u64,
    pub(crate) elements: Vec<Element>,
}

impl Task {
    pub(crate) fn variable(kind: &str, worker: Option<&str>) -> String {
        match worker {
            Some(worker) => format!("task:{kind}@{worker}"),
            None => format!("task:{kind}"),
        }
    }

    /// Matches every task in a variable.
    pub(crate) fn any(variable: &str) -> Result<Template, LimitError> {
        Template::new(vec![
            Field::Actual(Value::from(variable)),
            Field::Typed(Kind::String),
            Field::Typed(Kind::Int),
            Field::Typed(Kind::List),
        ])
    }

    /// Matches the tasks of a job that nobody has taken: one, or any.
    pub(crate) fn waiting(
        variable: &str,
        job: &str,
        id: Option<u64>,
    ) -> Result<Template, LimitError> {
        Template::new(vec![
            Field::Actual(Value::from(variable)),
            Field::Actual(Value::from(job)),
            id.map_or(Field::Typed(Kind::Int), |id| Field::Actual(number(id))),
            Field::Typed(Kind::List),
        ])
    }

    pub(crate) fn to_tuple(&self, variable: &str) -> Result<Tuple, LimitError> {
        let element = |element: &Element| {
            Value::List(vec![number(element.index as u64), element.value.clone()])
        };
        Tuple::new(vec![
            Value::from(variable),
            Value::from(self.job.as_str()),
            number(self.id),
            Value::List(self.elements.iter().map(element).collect()),
        ])
    }

    /// Reads a task back; `None` for what is none.
    pub(crate) fn of(tuple: &Tuple) -> Option<Self> {
        let [_, job, id, elements] = tuple.fields() else {
            return None;
        };
        let element = |value: &Value| match value.as_list()? {
            [index, value] => Some(Element {
                index: usize::try_from(index.as_int()?).ok()?,
                value: value.clone(),
            }),
            _ => None,
        };
        Some(Self {
            job: job.as_str()?.to_owned(),
            id: u64::try_from(id.as_int()?).ok()?,
            elements: elements
                .as_list()?
                .iter()
                .map(element)
                .collect::<Option<_>>()?,
        })
    }
}

/// An element with what came of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) index: usize,
    pub(crate) mark: i64,
    pub(crate) outcome: Outcome,
}

/// What a worker tells of a task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum News {
    /// It has begun it, under this lease.
    Begun { lease: String },
    /// It is at it still.
    Alive,
    /// It is long at it, and has not begun these elements: whoever takes this has them, the worker
    /// again if no master did meanwhile.
    Spare { indexes: Vec<usize> },
    /// What came of some elements, which took so long.
    Answers {
        took: Duration,
        answers: Vec<Answer>,
    },
}

/// What a worker tells, and who and of which task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    pub(crate) id: u64,
    pub(crate) node: String,
    pub(crate) news: News,
}

impl Report {
    pub(crate) fn variable(job: &str) -> String {
        format!("result:{job}")
    }

    /// Where results stay that a master has taken: in one of two places, to be moved from one to
    /// the other by a master that reads them.
    pub(crate) fn kept(job: &str, place: usize) -> String {
        format!("kept:{job}:{place}")
    }

    pub(crate) fn any(job: &str) -> Result<Template, LimitError> {
        Self::any_in(Self::variable(job))
    }

    pub(crate) fn any_in(variable: String) -> Result<Template, LimitError> {
        Template::new(vec![
            Field::Actual(Value::from(variable)),
            Field::Typed(Kind::Int),
            Field::Typed(Kind::String),
            Field::Typed(Kind::Int),
            Field::Typed(Kind::List),
        ])
    }

    /// Matches what a worker offered to give back of a task.
    pub(crate) fn spare(job: &str, id: u64, node: &str) -> Result<Template, LimitError> {
        Template::new(vec![
            Field::Actual(Value::from(Self::variable(job))),
            Field::Actual(number(id)),
            Field::Actual(Value::from(node)),
            Field::Actual(Value::Int(SPARE)),
            Field::Typed(Kind::List),
        ])
    }

    pub(crate) fn to_tuple(&self, job: &str) -> Result<Tuple, LimitError> {
        self.to_tuple_in(Self::variable(job))
    }

    pub(crate) fn to_tuple_in(&self, variable: String) -> Result<Tuple, LimitError> {
        let answer = |answer: &Answer| {
            let (right, value) = match &answer.outcome {
                Ok(value) => (true, value.clone()),
                Err(reason) => (false, Value::from(cut(reason))),
            };
            let index = number(answer.index as u64);
            Value::List(vec![
                index,
                Value::Int(answer.mark),
                Value::Bool(right),
                value,
            ])
        };
        let (took, answers) = match &self.news {
            News::Begun { lease } => (BEGUN, vec![Value::from(lease.as_str())]),
            News::Alive => (ALIVE, Vec::new()),
            News::Spare { indexes } => {
                let indexes = indexes.iter().map(|index| number(*index as u64));
                (SPARE, indexes.collect())
            }
            News::Answers { took, answers } => (
                i64::try_from(took.as_micros()).unwrap_or(i64::MAX),
                answers.iter().map(answer).collect(),
            ),
        };
        Tuple::new(vec![
            Value::from(variable),
            number(self.id),
            Value::from(self.node.as_str()),
            Value::Int(took),
            Value::List(answers),
        ])
    }

    /// Reads it back; `None` for what is none.
    pub(crate) fn of(tuple: &Tuple) -> Option<Self> {
        let [_, id, node, took, answers] = tuple.fields() else {
            return None;
        };
        let answer = |value: &Value| {
            let [index, mark, right, value] = value.as_list()? else {
                return None;
            };
            let outcome = match right {
                Value::Bool(true) => Ok(value.clone()),
                Value::Bool(false) => Err(value.as_str()?.to_owned()),
                _ => return None,
            };
            Some(Answer {
                index: usize::try_from(index.as_int()?).ok()?,
                mark: mark.as_int()?,
                outcome,
            })
        };
        let news = match took.as_int()? {
            BEGUN => News::Begun {
                lease: answers.as_list()?.first()?.as_str()?.to_owned(),
            },
            ALIVE => News::Alive,
            SPARE => {
                let index = |value: &Value| usize::try_from(value.as_int()?).ok();
                let indexes = answers.as_list()?.iter().map(index);
                News::Spare {
                    indexes: indexes.collect::<Option<_>>()?,
                }
            }
            took => News::Answers {
                took: Duration::from_micros(u64::try_from(took).ok()?),
                answers: answers
                    .as_list()?
                    .iter()
                    .map(answer)
                    .collect::<Option<_>>()?,
            },
        };
        Some(Self {
            id: u64::try_from(id.as_int()?).ok()?,
            node: node.as_str()?.to_owned(),
            news,
        })
    }
}

/// About the bytes of an outcome.
pub(crate) fn size(outcome: &Outcome) -> usize {
    match outcome {
        Ok(value) => value.size(),
        Err(reason) => reason.len().min(REASON_BYTES_MAX),
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

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            any::<i64>().prop_map(|n| Ok(Value::Int(n))),
            ".{0,20}".prop_map(Err),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            id in 0..i64::MAX as u64,
            micros in 0..i64::MAX as u64,
            answers in proptest::collection::vec((0..1_usize << 40, any::<i64>(), outcome()), 0..9),
        ) {
            let answer = |(index, mark, outcome)| Answer { index, mark, outcome };
            let answers = answers.into_iter().map(answer).collect();
            let took = Duration::from_micros(micros);
            let lease = "l".to_owned();
            let spare = News::Spare { indexes: vec![3, 4] };
            let answers = News::Answers { took, answers };
            for news in [News::Begun { lease }, News::Alive, spare, answers] {
                let report = Report { id, node: "a".to_owned(), news };
                prop_assert_eq!(Report::of(&report.to_tuple("j").unwrap()), Some(report));
            }
            let element = Element { index: 7, value: Value::from("x") };
            let task = Task { job: "j".to_owned(), id, elements: vec![element] };
            prop_assert_eq!(Task::of(&task.to_tuple("task:k").unwrap()), Some(task));
        }
    }

    #[test]
    fn what_is_no_task_or_result_is_none() {
        let tuple = |fields: Vec<Value>| Tuple::new(fields).unwrap();
        assert_eq!(Task::of(&tuple(vec!["task:k".into()])), None);
        let task = |elements| tuple(vec!["task:k".into(), "j".into(), 1.into(), elements]);
        assert_eq!(Task::of(&task(Value::List(vec![7.into()]))), None);
        assert_eq!(Task::of(&task(Value::Null)), None);
        let result = |took: i64, answers: Value| {
            tuple(vec![
                "result:j".into(),
                1.into(),
                "a".into(),
                took.into(),
                answers,
            ])
        };
        assert_eq!(Report::of(&result(-7, Value::List(Vec::new()))), None);
        assert_eq!(Report::of(&result(7, Value::List(vec![Value::Null]))), None);
    }

    #[test]
    fn a_long_reason_is_cut_between_letters() {
        let reason = "ä".repeat(REASON_BYTES_MAX);
        assert_eq!(cut(&reason).len(), REASON_BYTES_MAX);
    }
}
