//! Questions about an agent's rules, which the rules do not see: from `cpe rules` and the console.

use cpe::Value;
use cpe_rules::agent::CONSOLE;
use cpe_rules::process::Agent;
use cpe_rules::{AgentError, Delivery};

use super::{Answer, Driver};

/// A message that is not for the rules: `{"$rules": "trace"}`, `{"$rules": {"inspect": "(facts)"}}`
/// or `{"$rules": {"do": "(assert (a))"}}`.
pub(super) enum Question {
    /// Which rules fired on which facts.
    Trace,
    /// What a command of CLIPS that only looks prints.
    Inspect(String),
    /// What any command prints; rules fire afterwards.
    Command(String),
}

/// Whether a message is one.
pub(in crate::kinds::rules) fn is_question(message: &Value) -> bool {
    question(message).is_some()
}

pub(super) fn question(message: &Value) -> Option<Question> {
    let message = message.as_map().filter(|map| map.len() == 1)?;
    let asked = message.get(CONSOLE)?;
    if asked.as_str() == Some("trace") {
        return Some(Question::Trace);
    }
    let asked = asked.as_map().filter(|map| map.len() == 1)?;
    let (what, command) = asked.first_key_value()?;
    let command = command.as_str()?.to_owned();
    match what.as_str() {
        "inspect" => Some(Question::Inspect(command)),
        "do" => Some(Question::Command(command)),
        _ => None,
    }
}

impl Driver {
    /// Answers a question about the rules themselves, or does what a person types; rules do not see
    /// it.
    pub(super) async fn look(&mut self, question: Question) -> Answer {
        let looked = match question {
            Question::Trace => self.on_agent(traced).await,
            Question::Inspect(command) => {
                let inspect = move |agent: &mut Agent| agent.inspect(&command).map(Value::from);
                self.on_agent(inspect).await
            }
            Question::Command(command) => {
                let (error, printed) = self.deliver_heard(Delivery::Command(command)).await;
                return match error {
                    None => Ok(Some(Value::from(printed))),
                    Some(error) => Err(printed + &error),
                };
            }
        };
        match looked {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Which rules fired on which facts, as text and as a picture.
fn traced(agent: &mut Agent) -> Result<Value, AgentError> {
    let trace = agent.trace()?;
    let forms = [("text", trace.to_string()), ("dot", trace.to_dot())];
    let forms = forms.map(|(name, form)| (name.to_owned(), Value::from(form)));
    Ok(Value::Map(forms.into()))
}
