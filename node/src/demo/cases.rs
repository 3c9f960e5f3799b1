//! Held-out cases on their way: to the forest agent, to the triage agent, and back as decisions.

use std::time::Duration;

use cpe::{Field, Kind, Template, Tuple};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde_json::{Value, json};

use super::data::Data;
use super::voice::Voice;
use crate::client::Client;
use crate::exit::{About, Fault};
use crate::remote::{Remote, Space};

/// The triage program, as shipped.
const TRIAGE: &str = include_str!("../../../configs/triage.clp");

/// Where the program puts decisions.
const WORKSPACE: &str = "decisions";

/// Cases under way at once: enough to hide the way there and back.
const AT_ONCE: usize = 8;

/// How long a case may take, and a decision until it comes.
const CASE_WITHIN: Duration = Duration::from_secs(30);

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

/// Streams all held-out cases through both agents and gathers the decisions from the space.
///
/// # Errors
/// When an agent does not answer, or a decision does not come.
pub(crate) async fn stream(
    client: &Client,
    data: &Data,
    importance: &[f64],
    voice: &Voice,
) -> Result<Vec<Case>, Fault> {
    let count = data.test.len();
    let judging = stream::iter(0..count).map(|row| judge(client, data, importance, row));
    let judging = judging.buffer_unordered(AT_ONCE).try_collect::<Vec<_>>();
    let (judged, mut decided) = tokio::try_join!(judging, decisions(client, count, voice))?;
    decided.sort_by_key(|(id, ..)| *id);
    let mut judged = judged;
    judged.sort_by_key(|judged| judged.id);
    let twice = decided
        .windows(2)
        .any(|pair| matches!(pair, [(a, ..), (b, ..)] if a == b));
    if twice || decided.len() != judged.len() {
        return Err(Fault::failed(
            "a case was decided twice, and another not at all",
        ));
    }
    let join = |(judged, (_, decision, reason)): (Judged, (usize, Decision, String))| Case {
        id: judged.id,
        truth: judged.truth,
        told: judged.told,
        probability: judged.probability,
        decision,
        reason,
    };
    Ok(judged.into_iter().zip(decided).map(join).collect())
}

#[derive(Debug)]
struct Judged {
    id: usize,
    truth: usize,
    told: usize,
    probability: f64,
}

async fn judge(
    client: &Client,
    data: &Data,
    importance: &[f64],
    row: usize,
) -> Result<Judged, Fault> {
    let timeout_ms = u64::try_from(CASE_WITHIN.as_millis()).unwrap_or(u64::MAX);
    let ask = json!({"message": {"predict": data.case(row)}, "timeout_ms": timeout_ms});
    let said = client
        .post(&format!("/v1/actors/{ORACLE}/ask"), &ask, CASE_WITHIN)
        .await?;
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
    let case = json!({
        "id": row,
        "probability": probability,
        "votes": answer.get("trees"),
        "top-features": data.reasons(row, importance),
    });
    let tell = json!({"message": {"case": case}, "timeout_ms": timeout_ms});
    client
        .post(&format!("/v1/actors/{TRIAGIST}/tell"), &tell, CASE_WITHIN)
        .await?;
    let truth = class_of(&data.test.target_text(row)).unwrap_or(usize::MAX);
    Ok(Judged {
        id: row,
        truth,
        told,
        probability,
    })
}

/// Takes as many decisions as there are cases.
async fn decisions(
    client: &Client,
    count: usize,
    voice: &Voice,
) -> Result<Vec<(usize, Decision, String)>, Fault> {
    let space = Remote(client.clone());
    let template = Template::new(vec![
        Field::Actual("decision".into()),
        Field::Typed(Kind::Int),
        Field::Typed(Kind::Symbol),
        Field::Typed(Kind::String),
    ]);
    let template = template.about("cannot ask for decisions")?;
    let mut decided = Vec::with_capacity(count);
    let mut progress = voice.progress("cases", count as u64);
    while decided.len() < count {
        let Some(tuple) = space.take(WORKSPACE, template.clone(), CASE_WITHIN).await? else {
            let came = decided.len();
            return Err(Fault::unavailable(format!(
                "{came} of {count} decisions came, and no other one within {CASE_WITHIN:?}"
            )));
        };
        let read = read(&tuple);
        decided.push(read.ok_or_else(|| Fault::failed(format!("not a decision: {tuple:?}")))?);
        let unsure = decided
            .iter()
            .filter(|(_, decision, _)| *decision == Decision::SecondOpinion);
        let text = format!("{} for a second opinion", unsure.count());
        progress.at(decided.len() as u64, &text)?;
    }
    Ok(decided)
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
