//! How large the parts of a text are, token by token.
//!
//! After a fault CLIPS looks for the next construct wherever one may begin, inside another one
//! too. So a rule is measured at any depth, and inside each construct that is open around it.

use super::VetLimits;
use super::scan::Token;

/// What a pair of parentheses holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    /// Nothing of a rule's condition.
    #[default]
    Other,
    /// A rule, before or behind its arrow.
    Rule { past_arrow: bool },
    /// `or`, of which each alternative is a rule.
    Or,
    /// Another conditional element that has elements in it.
    Group,
    /// A pattern for facts or instances.
    Pattern,
    /// A slot of one.
    Slot,
    /// A call in a condition.
    Call,
}

/// One open parenthesis.
#[derive(Debug, Default)]
struct Frame<'a> {
    kind: Kind,
    /// A conditional element of a rule, which its first word will tell the kind of.
    element: bool,
    head: Option<&'a str>,
    /// Words, strings and parentheses directly inside.
    items: usize,
    /// Of a class or template.
    slots: usize,
    /// Whether its words are those of a construct or call, which are bounded.
    counts: bool,
    all_words: usize,
    variables: usize,
    /// Words of the rule's condition, or of the pattern.
    words: usize,
    /// Elements of the rule.
    elements: usize,
    /// Multifields of this one list, and places at which those of the pattern divide their lists.
    multifields: usize,
    divided: usize,
    /// Rules that the elements so far make.
    disjuncts: usize,
    /// The item before: `:` or `=`, behind which a call is evaluated.
    evaluates: bool,
    /// The token before was `&`, `|` or `~`.
    constrains: bool,
}

impl Frame<'_> {
    fn is_condition(&self) -> bool {
        self.kind == Kind::Rule { past_arrow: false }
    }

    fn holds_elements(&self) -> bool {
        self.is_condition() || matches!(self.kind, Kind::Or | Kind::Group)
    }
}

/// What is open at a place of a text, and how large it is so far.
pub(super) struct Measure<'a, 'l> {
    limits: &'l VetLimits,
    frames: Vec<Frame<'a>>,
}

impl<'a, 'l> Measure<'a, 'l> {
    pub(super) fn new(limits: &'l VetLimits) -> Self {
        Self {
            limits,
            frames: Vec::new(),
        }
    }

    /// # Errors
    /// What is too large.
    pub(super) fn take(&mut self, token: Token<'a>) -> Result<(), String> {
        match token {
            Token::Open => self.open()?,
            Token::Close => return self.close(),
            Token::Word(word) => {
                bounded(word.len(), self.limits.token_bytes, |most| {
                    format!("symbol longer than {most} bytes")
                })?;
                self.word(word)?;
            }
            Token::Text(text) => {
                bounded(text.len(), self.limits.string_bytes, |most| {
                    format!("string longer than {most} bytes")
                })?;
                self.word("")?;
            }
            Token::Connective | Token::Unprintable => self.no_item(),
            Token::Stop(0) => return Err("NUL byte, which CLIPS can not hold".to_owned()),
            Token::Stop(byte) => {
                return Err(format!("byte {byte}, which CLIPS takes for the end"));
            }
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.constrains = token == Token::Connective;
        }
        Ok(())
    }

    fn open(&mut self) -> Result<(), String> {
        bounded(self.frames.len() + 1, self.limits.nesting, |most| {
            format!("nested deeper than {most}")
        })?;
        let mut frame = Frame {
            disjuncts: 1,
            ..Frame::default()
        };
        frame.counts = self.frames.is_empty();
        if let Some(parent) = self.frames.last_mut() {
            parent.items += 1;
            frame.element = parent.holds_elements();
            frame.kind = match parent.kind {
                Kind::Pattern if parent.evaluates => Kind::Call,
                Kind::Pattern => Kind::Slot,
                Kind::Slot | Kind::Call => Kind::Call,
                _ => Kind::Other,
            };
            (parent.evaluates, parent.constrains) = (false, false);
        }
        if frame.element {
            self.in_conditions(
                |rule| &mut rule.elements,
                self.limits.elements,
                |most| format!("rule with more than {most} elements"),
            )?;
        }
        self.frames.push(frame);
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let Some(frame) = self.frames.pop() else {
            return Ok(());
        };
        let Some(parent) = self.frames.last_mut() else {
            return Ok(());
        };
        // The `or` of one element, and of none, is no choice.
        let disjuncts = frame.disjuncts.max(1);
        parent.disjuncts = match parent.kind {
            _ if !frame.element => return Ok(()),
            // Its first element replaces the one that a group begins with.
            Kind::Or if parent.items == 2 => disjuncts,
            Kind::Or => parent.disjuncts.saturating_add(disjuncts),
            _ => parent.disjuncts.saturating_mul(disjuncts),
        };
        bounded(parent.disjuncts, self.limits.disjuncts, |most| {
            format!("`or` elements make more than {most} rules of one")
        })?;
        let expanded = parent.words.saturating_mul(parent.disjuncts);
        if parent.disjuncts > 1 && parent.is_condition() {
            bounded(expanded, self.limits.expanded_words, |most| {
                format!("`or` elements make rules with more than {most} words of one")
            })?;
        }
        Ok(())
    }

    /// What is neither a head nor anything else that counts.
    fn no_item(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            // Behind it no word is the head any more.
            frame.items += usize::from(frame.items == 0);
            frame.evaluates = false;
        }
    }

    /// A word, or a string as an empty one.
    fn word(&mut self, word: &'a str) -> Result<(), String> {
        for construct in self.frames.iter_mut().filter(|frame| frame.counts) {
            construct.all_words += 1;
            bounded(construct.all_words, self.limits.words, |most| {
                format!("more than {most} words in one construct")
            })?;
            construct.variables += usize::from(word.starts_with(['?', '$']) || word == "case");
            bounded(construct.variables, self.limits.variables, |most| {
                format!("more than {most} variables and cases in one construct")
            })?;
        }
        let Some(frame) = self.frames.last_mut() else {
            return Ok(());
        };
        frame.items += 1;
        match frame.items {
            1 => self.head(word)?,
            2 if frame.head.is_some_and(is_slot_keyword) => {
                bounded(word.len(), self.limits.slot_name_bytes, |most| {
                    format!("slot name longer than {most} bytes")
                })?;
            }
            // The second item is the rule's name, whatever it looks like.
            3.. if word == "=>" && frame.is_condition() => {
                frame.kind = Kind::Rule { past_arrow: true };
            }
            _ => {}
        }
        self.in_conditions(
            |rule| &mut rule.words,
            self.limits.condition_words,
            |most| format!("conditions of a rule with more than {most} words"),
        )?;
        self.field(word)
    }

    /// The first word of the innermost parentheses says what they hold.
    fn head(&mut self, word: &'a str) -> Result<(), String> {
        let Some((frame, around)) = self.frames.split_last_mut() else {
            return Ok(());
        };
        frame.head = Some(word);
        frame.counts = match word {
            // Long, and read in no more time than they are long.
            "deffacts" | "definstances" => false,
            _ => frame.counts || word.starts_with("def"),
        };
        frame.kind = match word {
            "defrule" => Kind::Rule { past_arrow: false },
            "or" if frame.element => Kind::Or,
            "and" | "not" | "exists" | "forall" | "logical" if frame.element => Kind::Group,
            "test" if frame.element => Kind::Call,
            _ if frame.element => Kind::Pattern,
            _ => frame.kind,
        };
        let Some(parent) = around.last_mut().filter(|_| is_slot_keyword(word)) else {
            return Ok(());
        };
        parent.slots += 1;
        bounded(parent.slots, self.limits.slots, |most| {
            format!("more than {most} slots")
        })
    }

    /// A word that is a part of a pattern.
    fn field(&mut self, word: &str) -> Result<(), String> {
        let Some(frame) = self.frames.last_mut() else {
            return Ok(());
        };
        if !matches!(frame.kind, Kind::Pattern | Kind::Slot) {
            return Ok(());
        }
        frame.evaluates = matches!(word, ":" | "=");
        let divides = word.starts_with("$?") && !frame.constrains && {
            frame.multifields += 1;
            frame.multifields > 1
        };
        let mut around = self.frames.iter_mut().rev();
        let Some(pattern) = around.find(|frame| frame.kind == Kind::Pattern) else {
            return Ok(());
        };
        pattern.words += 1;
        bounded(pattern.words, self.limits.fields, |most| {
            format!("pattern with more than {most} fields")
        })?;
        pattern.divided += usize::from(divides);
        bounded(pattern.divided, self.limits.multifields, |most| {
            format!("pattern with more than {most} `$?` beside the first of each slot")
        })
    }

    /// Count one more of something in every rule whose condition this is a part of.
    fn in_conditions(
        &mut self,
        count: impl for<'f> Fn(&'f mut Frame<'a>) -> &'f mut usize,
        limit: usize,
        told: impl Fn(usize) -> String,
    ) -> Result<(), String> {
        for rule in self.frames.iter_mut().filter(|frame| frame.is_condition()) {
            let count = count(rule);
            *count += 1;
            bounded(*count, limit, &told)?;
        }
        Ok(())
    }
}

fn bounded(size: usize, limit: usize, told: impl FnOnce(usize) -> String) -> Result<(), String> {
    if size > limit {
        Err(told(limit))
    } else {
        Ok(())
    }
}

fn is_slot_keyword(head: &str) -> bool {
    matches!(
        head,
        "slot" | "multislot" | "field" | "multifield" | "single-slot" | "multi-slot"
    )
}
