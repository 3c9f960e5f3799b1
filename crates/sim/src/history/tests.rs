//! The monitors against the search, and the readable parts.

mod against_search;
mod facts;
mod random;
mod second_opinion;
