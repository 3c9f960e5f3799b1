//! Why an agent did that: a bounded record of which rule fired on which facts, producing what.

use std::collections::VecDeque;
use std::fmt;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::raw::{Happened, LiveFact, LiveMatch};

/// Firings kept; older ones are forgotten.
pub const FIRINGS_MAX: usize = 256;

/// Facts kept for one firing, each way.
const FACTS_MAX: usize = 64;

/// Bytes kept of a fact's text.
const TEXT_BYTES_MAX: usize = 256;

/// Room for a fact's text to begin with: it need not grow for most.
const TEXT_BYTES_USUAL: usize = 64;

/// A fact as it was at a time: a `modify` keeps the index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TracedFact {
    /// Its index.
    pub index: i64,
    /// As CLIPS prints it, cut off when it is long.
    pub text: String,
}

/// A rule that fired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Firing {
    /// Counted from 1 since the engine was made.
    pub number: u64,
    /// `MODULE::name`
    pub rule: String,
    /// Facts it fired on.
    pub facts: Vec<TracedFact>,
    /// Instances it fired on.
    pub instances: Vec<String>,
    /// Facts it asserted.
    pub asserted: Vec<TracedFact>,
    /// Facts it retracted, or changed: those are among the asserted ones too.
    pub retracted: Vec<TracedFact>,
}

/// The latest firings, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Trace {
    /// Firings before those that are kept.
    pub forgotten: u64,
    /// Those kept, [`FIRINGS_MAX`] at most.
    pub firings: VecDeque<Firing>,
}

/// One line for each firing and for each fact it took, made or removed.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.forgotten > 0 {
            writeln!(f, "({} earlier firings are forgotten)", self.forgotten)?;
        }
        for firing in &self.firings {
            writeln!(f, "{} {}", firing.number, firing.rule)?;
            for fact in &firing.facts {
                writeln!(f, "    on f-{} {}", fact.index, fact.text)?;
            }
            for instance in &firing.instances {
                writeln!(f, "    on [{instance}]")?;
            }
            for fact in &firing.retracted {
                writeln!(f, "     - f-{} {}", fact.index, fact.text)?;
            }
            for fact in &firing.asserted {
                writeln!(f, "     + f-{} {}", fact.index, fact.text)?;
            }
        }
        Ok(())
    }
}

impl Trace {
    /// As a picture in the DOT language of Graphviz: boxes are firings, ovals facts; an arrow into
    /// a firing is what it fired on, one out of it what it asserted, a dashed one what it removed.
    ///
    /// ```
    /// # use cpe_rules::{Engine, Limits, Recorder};
    /// let mut engine = Engine::sandboxed(Limits::AGENT, 1);
    /// let recorder = Recorder::attach(&mut engine);
    /// engine.load("(defrule alarm (hot ?x) => (assert (alarm ?x)))")?;
    /// engine.assert_ordered("hot", vec!["boiler".into()])?;
    /// engine.run(None)?;
    /// let dot = recorder.trace().to_dot();
    /// assert!(dot.starts_with("digraph trace {"));
    /// assert!(dot.contains("\"f-1 (hot \\\"boiler\\\")\" -> \"1 MAIN::alarm\""));
    /// # Ok::<(), cpe_rules::EngineError>(())
    /// ```
    #[must_use]
    pub fn to_dot(&self) -> String {
        let mut dot =
            "digraph trace {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n".to_owned();
        let fact = |fact: &TracedFact| quoted(&format!("f-{} {}", fact.index, fact.text));
        for firing in &self.firings {
            let name = quoted(&format!("{} {}", firing.number, firing.rule));
            let _ = writeln!(
                dot,
                "  {name} [shape=box,style=filled,fillcolor=\"#dbe9f6\"];"
            );
            for one in &firing.facts {
                let _ = writeln!(dot, "  {} -> {name};", fact(one));
            }
            for one in &firing.instances {
                let _ = writeln!(dot, "  {} -> {name};", quoted(&format!("[{one}]")));
            }
            for one in &firing.asserted {
                let _ = writeln!(dot, "  {name} -> {};", fact(one));
            }
            for one in &firing.retracted {
                let _ = writeln!(dot, "  {name} -> {} [style=dashed];", fact(one));
            }
        }
        dot.push_str("}\n");
        dot
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Records what an engine does, as its only listener.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Recorded>>);

#[derive(Debug, Default)]
struct Recorded {
    trace: Trace,
    fired: u64,
    current: Option<Firing>,
}

impl Recorder {
    /// Record from now on. Another listener of the engine hears nothing any more.
    #[must_use]
    pub fn attach(engine: &mut Engine) -> Self {
        let this = Self::default();
        this.listen(engine);
        this
    }

    /// Go on with another engine: that of an agent that was built again.
    pub(crate) fn listen(&self, engine: &mut Engine) {
        {
            let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            recorded.current = None;
        }
        let shared = self.0.clone();
        engine.listen_live(move |event| {
            shared
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .hear(event);
        });
    }

    /// What was recorded.
    #[must_use]
    pub fn trace(&self) -> Trace {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .trace
            .clone()
    }
}

impl Recorded {
    fn hear(&mut self, event: &Happened<'_>) {
        match event {
            Happened::Asserted(fact) => {
                if let Some(firing) = &mut self.current
                    && firing.asserted.len() < FACTS_MAX
                {
                    firing.asserted.push(traced(fact));
                }
            }
            Happened::Retracted(fact) => {
                if let Some(firing) = &mut self.current
                    && firing.retracted.len() < FACTS_MAX
                {
                    firing.retracted.push(traced(fact));
                }
            }
            Happened::Fires(activation) => {
                self.fired += 1;
                let mut firing = Firing {
                    number: self.fired,
                    rule: activation.rule(),
                    facts: Vec::new(),
                    instances: Vec::new(),
                    asserted: Vec::new(),
                    retracted: Vec::new(),
                };
                activation.each_match(FACTS_MAX, |matched| match matched {
                    LiveMatch::Fact(fact) => firing.facts.push(traced(&fact)),
                    LiveMatch::Instance(name) => firing.instances.push(name),
                });
                self.current = Some(firing);
            }
            Happened::Fired => {
                let Some(firing) = self.current.take() else {
                    return;
                };
                self.trace.firings.push_back(firing);
                if self.trace.firings.len() > FIRINGS_MAX {
                    self.trace.firings.pop_front();
                    self.trace.forgotten += 1;
                }
            }
        }
    }
}

fn traced(fact: &LiveFact<'_>) -> TracedFact {
    let mut text = String::with_capacity(TEXT_BYTES_USUAL);
    fact.write_text(&mut text, TEXT_BYTES_MAX);
    shorten(&mut text);
    TracedFact {
        index: fact.index(),
        text,
    }
}

fn shorten(text: &mut String) {
    if text.len() > TEXT_BYTES_MAX {
        let mut end = TEXT_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("...");
        text.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, Value};

    #[test]
    fn a_trace_tells_what_fired_on_what_and_made_what() {
        let mut engine = Engine::sandboxed(Limits::AGENT, 1);
        let text = "(deftemplate n (slot x)) (defclass C (is-a USER))
            (defrule up ?f <- (n (x 1)) (not (stop)) (object (is-a C)) =>
              (modify ?f (x 2)) (assert (done)))";
        engine.load(text).unwrap();
        let recorder = Recorder::attach(&mut engine);
        engine.make_instance("c", "C", &[]).unwrap();
        engine.assert("n", &[("x", 1.into())]).unwrap();
        engine.run(None).unwrap();
        assert_eq!(
            recorder.trace().to_string(),
            "1 MAIN::up\n    on f-1 (n (x 1))\n    on [c]\n     - f-1 (n (x 1))\n     \
             + f-1 (n (x 2))\n     + f-2 (done)\n"
        );
        let dot = recorder.trace().to_dot();
        assert!(
            dot.contains("\"1 MAIN::up\" -> \"f-1 (n (x 1))\" [style=dashed];"),
            "{dot}"
        );
    }

    #[test]
    fn a_trace_shows_facts_as_they_show_themselves() {
        let mut engine = Engine::sandboxed(Limits::AGENT, 1);
        let text = "(deftemplate v (slot a) (multislot m) (slot f))
            (defrule v (v) => ) (defrule o (o $?) => )";
        engine.load(text).unwrap();
        let recorder = Recorder::attach(&mut engine);
        let symbol = Value::symbol("grün");
        let quoted = Value::string("a \"quoted\" \\ é\n");
        let name = Value::InstanceName("pump-1".into());
        let first = engine.assert_ordered("o", Vec::new()).unwrap();
        let fields = vec![
            symbol,
            quoted,
            name,
            Value::Fact(first),
            0.1.into(),
            7.into(),
        ];
        let many = Value::Multifield(fields.clone());
        let none = Value::Multifield(Vec::new());
        engine.assert_ordered("o", fields).unwrap();
        engine
            .assert("v", &[("a", 1e300.into()), ("m", many)])
            .unwrap();
        engine
            .assert("v", &[("a", "\"".into()), ("m", none)])
            .unwrap();
        let long = Value::Multifield(vec![Value::string("é\"".repeat(90)); 3]);
        let long = engine.assert("v", &[("m", long)]).unwrap();
        let facts = engine.facts();
        assert_eq!(engine.run(None).unwrap(), 5);
        let trace = recorder.trace();
        let mut shown: Vec<_> = trace.firings.iter().flat_map(|one| &one.facts).collect();
        shown.sort();
        for (fact, shown) in facts.iter().zip(shown) {
            let mut text = fact.to_string();
            assert_eq!(fact.index == long, text.len() > TEXT_BYTES_MAX);
            shorten(&mut text);
            assert_eq!(shown.text, text);
        }
    }

    #[test]
    fn a_trace_has_a_bound() {
        let mut engine = Engine::sandboxed(Limits::AGENT, 1);
        let recorder = Recorder::attach(&mut engine);
        let text = "(defrule r ?f <- (n ?x&:(< ?x 300)) => (retract ?f) (assert (n (+ ?x 1))))";
        engine.load(text).unwrap();
        engine.assert_ordered("n", vec![0.into()]).unwrap();
        engine.run(None).unwrap();
        let trace = recorder.trace();
        assert_eq!((trace.firings.len(), trace.forgotten), (FIRINGS_MAX, 44));
        assert!(trace.to_string().starts_with("(44 earlier"), "{trace}");
        let mut long = "é".repeat(500);
        shorten(&mut long);
        assert!(long.ends_with("é...") && long.len() < TEXT_BYTES_MAX + 8);
    }
}
