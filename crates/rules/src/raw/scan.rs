//! CLIPS's own scanner, for tests that compare ours with it.

use std::ffi::CStr;

use super::{Env, c, copied};

/// A token, as far as the vetting tells them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scanned {
    Open,
    Close,
    /// As it is written.
    Word(String),
    /// CLIPS does not keep how a number was written.
    Number,
    Connective,
    Text,
    Stop,
    Unprintable,
}

impl Env {
    /// The first `count` tokens of a text: also those behind a byte that stops CLIPS, and stops
    /// when there are no more.
    pub(crate) fn scan(&mut self, text: &str, count: usize) -> Vec<Scanned> {
        const SOURCE: &CStr = c"*** scan ***";
        // SAFETY: the text outlives its source, which is closed below; each token is copied before
        // the next one is read, and a number's or symbol's member of the union is the one it has.
        unsafe {
            let length = text.len() as _;
            c::OpenTextSource(self.env, SOURCE.as_ptr(), text.as_ptr().cast(), 0, length);
            let next = || {
                let mut token = std::mem::zeroed::<c::token>();
                c::GetToken(self.env, SOURCE.as_ptr(), &raw mut token);
                let word = |before: &str, after: &str| {
                    let lexeme = copied((*token.__bindgen_anon_1.lexemeValue).contents);
                    Scanned::Word(format!("{before}{lexeme}{after}"))
                };
                match token.tknType {
                    c::TokenType_LEFT_PARENTHESIS_TOKEN => Scanned::Open,
                    c::TokenType_RIGHT_PARENTHESIS_TOKEN => Scanned::Close,
                    c::TokenType_STRING_TOKEN => Scanned::Text,
                    c::TokenType_STOP_TOKEN => Scanned::Stop,
                    c::TokenType_INTEGER_TOKEN | c::TokenType_FLOAT_TOKEN => Scanned::Number,
                    c::TokenType_NOT_CONSTRAINT_TOKEN
                    | c::TokenType_AND_CONSTRAINT_TOKEN
                    | c::TokenType_OR_CONSTRAINT_TOKEN => Scanned::Connective,
                    c::TokenType_SYMBOL_TOKEN
                    | c::TokenType_SF_WILDCARD_TOKEN
                    | c::TokenType_MF_WILDCARD_TOKEN => word("", ""),
                    c::TokenType_INSTANCE_NAME_TOKEN => word("[", "]"),
                    c::TokenType_SF_VARIABLE_TOKEN => word("?", ""),
                    c::TokenType_MF_VARIABLE_TOKEN => word("$?", ""),
                    c::TokenType_GBL_VARIABLE_TOKEN => word("?*", "*"),
                    c::TokenType_MF_GBL_VARIABLE_TOKEN => word("$?*", "*"),
                    _ => Scanned::Unprintable,
                }
            };
            let tokens = std::iter::repeat_with(next).take(count).collect();
            c::CloseStringSource(self.env, SOURCE.as_ptr());
            tokens
        }
    }
}
