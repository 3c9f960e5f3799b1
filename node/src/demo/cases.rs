//! Held-out cases on their way: to the forest agent, to the triage agent, and back as decisions.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cpe::{Field, Kind, Template, Tuple};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::agents::Agent;
use super::crowd::Crowd;
use super::data::Data;
use super::door::Door;
use super::voice::Voice;
use crate::exit::{About, Fault};
use crate::remote::Space;

/// The triage program, as shipped.
const TRIAGE: &str = include_str!("../../../configs/triage.clp");

/// Where the program puts decisions.
const WORKSPACE: &str = "decisions";

/// Cases under way at once: enough to hide the way there and back.
const AT_ONCE: usize = 8;

/// How long no decision may come.
const CASE_WITHIN: Duration = Duration::from_secs(30);

/// How long one wait for a decision lasts, before cases that died with a node are told again.
const QUIET: Duration = Duration::from_secs(3);

/// The forest agent's name.
pub(crate) const ORACLE: &str = "oracle";

/// The triage agent's name.
pub(crate) const TRIAGIST: &str = "triage";

/// What the triage says of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Decision {
    /// Surely not of the watched class.
    ClearNo,
    /// A person should look at it.
    SecondOpinion,
    /// Surely of the watched class.
    ClearYes,
}

/// A case that has been decided.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Case {
    /// Its row among the held-out ones.
    pub(crate) id: usize,
    /// Index of its true class.
    pub(crate) truth: usize,
    /// Index of the class the forest told.
    pub(crate) told: usize,
    /// Probability of the watched class.
    pub(crate) probability: f64,
    /// What the triage said.
    pub(crate) decision: Decision,
    /// And why.
    pub(crate) reason: String,
}

/// The program for these classes: it is written for a clinic, and for other data it speaks of
/// negative and positive.
pub(crate) fn program(bundled: bool) -> String {
    if bundled {
        return TRIAGE.to_owned();
    }
    TRIAGE
        .replace("malignant", "positive")
        .replace("benign", "negative")
}

/// Who judges and decides, and how they are reached.
#[derive(Debug)]
pub(crate) struct Desk<'a> {
    pub(crate) crowd: &'a Crowd,
    pub(crate) space: &'a Door<'a>,
    pub(crate) judge: &'a Agent<'a>,
    pub(crate) triage: &'a Agent<'a>,
}

/// What came of the cases.
#[derive(Debug)]
pub(crate) struct Decided {
    /// The cases, in order.
    pub(crate) cases: Vec<Case>,
    /// How many cases were judged on each node.
    pub(crate) judged: BTreeMap<String, usize>,
    /// How many were given to the triage agent on each node, each counted where it went last.
    pub(crate) triaged: BTreeMap<String, usize>,
}

/// A case on its way.
#[derive(Debug)]
struct Judged {
    truth: usize,
    told: usize,
    probability: f64,
    /// The message to the triage agent.
    case: Value,
    /// The nodes of the two agents.
    on: [String; 2],
}

/// Streams all held-out cases through both agents and gathers the decisions from the space.
///
/// What a node that died took with it is judged or decided again.
///
/// # Errors
/// When an agent does not answer, or a decision does not come.
pub(crate) async fn stream(
    desk: &Desk<'_>,
    data: &Data,
    importance: &[f64],
    voice: &Voice,
) -> Result<Decided, Fault> {
    let count = data.test.len();
    let under_way = Mutex::new(BTreeMap::new());
    let judging = stream::iter(0..count)
        .map(Ok)
        .try_for_each_concurrent(AT_ONCE, |row| {
            let under_way = &under_way;
            async move {
                let judged = judge(desk, data, importance, row).await?;
                lock(under_way).insert(row, judged);
                Ok(())
            }
        });
    let deciding = decisions(desk, count, &under_way, voice);
    let ((), mut decided) = tokio::try_join!(judging, deciding)?;
    let under_way = under_way
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    let (mut judged_on, mut triaged_on) = (BTreeMap::new(), BTreeMap::new());
    let mut cases = Vec::with_capacity(count);
    for (id, judged) in under_way {
        let Some((decision, reason)) = decided.remove(&id) else {
            return Err(Fault::failed(format!("case {id} was never decided")));
        };
        let [judge, triage] = judged.on;
        *judged_on.entry(judge).or_insert(0) += 1;
        *triaged_on.entry(triage).or_insert(0) += 1;
        cases.push(Case {
            id,
            truth: judged.truth,
            told: judged.told,
            probability: judged.probability,
            decision,
            reason,
        });
    }
    Ok(Decided {
        cases,
        judged: judged_on,
        triaged: triaged_on,
    })
}

async fn judge(
    desk: &Desk<'_>,
    data: &Data,
    importance: &[f64],
    row: usize,
) -> Result<Judged, Fault> {
    let question = json!({"predict": data.case(row)});
    let (said, judge) = desk.judge.say("ask", &question).await?;
    let answer = said.get("answer").unwrap_or(&Value::Null);
    let class_of = |name: &str| data.classes.iter().position(|class| class == name);
    let watched = data.watched_class();
    let probability = answer
        .get("probabilities")
        .and_then(|all| all.get(watched)?.as_f64());
    let told = answer
        .get("class")
        .and_then(Value::as_str)
        .and_then(class_of);
    let (Some(probability), Some(told)) = (probability, told) else {
        return Err(Fault::failed(format!(
            "the forest agent's answer is none: {said}"
        )));
    };
    let case = json!({"case": {
        "id": row,
        "probability": probability,
        "votes": answer.get("trees"),
        "top-features": data.reasons(row, importance),
    }});
    let (_, triage) = desk.triage.say("tell", &case).await?;
    let truth = class_of(&data.test.target_text(row)).unwrap_or(usize::MAX);
    Ok(Judged {
        truth,
        told,
        probability,
        case,
        on: [judge, triage],
    })
}

/// What was decided of each case, and why.
type Decisions = BTreeMap<usize, (Decision, String)>;

/// Takes decisions until each case has one.
async fn decisions(
    desk: &Desk<'_>,
    count: usize,
    under_way: &Mutex<BTreeMap<usize, Judged>>,
    voice: &Voice,
) -> Result<Decisions, Fault> {
    let template = Template::new(vec![
        Field::Actual("decision".into()),
        Field::Typed(Kind::Int),
        Field::Typed(Kind::Symbol),
        Field::Typed(Kind::String),
    ]);
    let template = template.about("cannot ask for decisions")?;
    let mut decided = Decisions::new();
    let mut progress = voice.progress("cases", count as u64);
    let mut heard = Instant::now();
    while decided.len() < count {
        let Some(tuple) = desk.space.take(WORKSPACE, template.clone(), QUIET).await? else {
            if heard.elapsed() >= CASE_WITHIN {
                let came = decided.len();
                return Err(Fault::unavailable(format!(
                    "{came} of {count} decisions came, and no other one within {CASE_WITHIN:?}"
                )));
            }
            if !desk.crowd.dead().is_empty() {
                tell_again(desk, &decided, under_way).await?;
            }
            continue;
        };
        heard = Instant::now();
        let read = read(&tuple);
        let (id, decision, reason) =
            read.ok_or_else(|| Fault::failed(format!("not a decision: {tuple:?}")))?;
        let before = decided.insert(id, (decision, reason));
        // Only a case that was told again may be decided again, and then in the same way.
        if before.is_some_and(|(before, _)| before != decision || desk.crowd.dead().is_empty()) {
            return Err(Fault::failed(format!("case {id} was decided twice")));
        }
        let unsure = decided
            .values()
            .filter(|(decision, _)| *decision == Decision::SecondOpinion);
        let text = format!("{} for a second opinion", unsure.count());
        progress.at(decided.len() as u64, &text)?;
    }
    Ok(decided)
}

/// Gives the triage agent the cases once more of which nothing was heard.
async fn tell_again(
    desk: &Desk<'_>,
    decided: &Decisions,
    under_way: &Mutex<BTreeMap<usize, Judged>>,
) -> Result<(), Fault> {
    let silent: Vec<(usize, Value)> = lock(under_way)
        .iter()
        .filter(|(id, _)| !decided.contains_key(id))
        .map(|(id, judged)| (*id, judged.case.clone()))
        .collect();
    for (id, case) in silent {
        let (_, triage) = desk.triage.say("tell", &case).await?;
        if let Some(judged) = lock(under_way).get_mut(&id) {
            judged.on[1] = triage;
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(tuple: &Tuple) -> Option<(usize, Decision, String)> {
    let [_, id, decision, reason] = tuple.fields() else {
        return None;
    };
    let decision = match decision.as_symbol()? {
        "benign" | "negative" => Decision::ClearNo,
        "malignant" | "positive" => Decision::ClearYes,
        "second-opinion" => Decision::SecondOpinion,
        _ => return None,
    };
    Some((
        usize::try_from(id.as_int()?).ok()?,
        decision,
        reason.as_str()?.to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_has_no_errors_for_any_data() {
        for bundled in [true, false] {
            let program = program(bundled);
            assert_eq!(cpe_rules::check("triage.clp", &program), []);
            assert_eq!(program.contains("malignant"), bundled);
        }
    }

    #[test]
    fn a_decision_is_read_from_its_tuple() {
        let read = |text| read(&cpe_tuple::json::parse_tuple(text).unwrap());
        let tuple = r#"["decision",7,{"sym":"second-opinion"},"it is close"]"#;
        assert_eq!(
            read(tuple),
            Some((7, Decision::SecondOpinion, "it is close".to_owned()))
        );
        assert_eq!(read(r#"["decision",7,{"sym":"maybe"},""]"#), None);
    }
}
