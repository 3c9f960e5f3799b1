//! Any bytes, in pieces of any size: decoded, collected within bounds, read as operations.
//!
//! `cargo xtask fuzz requests`.

#![no_main]

use cpe_nws::Operation;
use cpe_nws::limits::{ARGUMENT_BYTES_MAX, ARGUMENTS_MAX, WHOLE_BYTES_MAX};
use cpe_nws::wire::{Collector, Decoder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (size, stream) = input;
    let mut decoder = Decoder::default();
    let mut collector = Collector::default();
    for mut piece in stream.chunks(usize::from(size).max(1)) {
        loop {
            match decoder.next(&mut piece) {
                Err(_) => return,
                Ok(None) => break,
                Ok(Some(item)) => {
                    let Some(request) = collector.add(item) else {
                        continue;
                    };
                    assert!(request.arguments.len() <= ARGUMENTS_MAX);
                    let bytes: usize = request.arguments.iter().map(Vec::len).sum();
                    assert!(bytes <= WHOLE_BYTES_MAX + ARGUMENTS_MAX * ARGUMENT_BYTES_MAX);
                    let _ = Operation::read(request);
                }
            }
        }
        assert!(piece.is_empty());
    }
});
