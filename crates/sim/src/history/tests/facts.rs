//! What is written and read, and how a violation reads.
