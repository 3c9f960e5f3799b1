//! The lines of standard input.

use std::io::{BufRead, BufReader, Read as _};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cpe::Value;
use futures::Stream;
use tokio::sync::mpsc;

use crate::map::element;

/// Lines read before they are asked for.
const LINES_AHEAD: usize = 1024;

/// Bytes of one line at most: more does not fit into the arguments of a program on most systems.
pub(super) const LINE_BYTES_MAX: usize = 1 << 20;

/// What the thread that reads has to tell.
enum Input {
    Line(Value),
    /// The line of this number is too long.
    Long(u64),
    Fault(std::io::Error),
}

/// What is known of the input besides its lines.
#[derive(Debug, Default)]
struct About {
    /// Lines that are too long, in order.
    long: Vec<Long>,
    fault: Option<String>,
    lines: u64,
    bytes: u64,
    /// Bytes of all of it, if it is a file.
    size: Option<u64>,
}

/// A line that is too long.
#[derive(Debug)]
struct Long {
    number: u64,
    /// How many that are not come before it.
    after: u64,
}

impl About {
    fn is_long(&mut self, number: u64) {
        let after = number - 1 - self.long.len() as u64;
        self.long.push(Long { number, after });
    }
}

/// What was read so far. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Read(Arc<Mutex<About>>);

impl Read {
    fn lock(&self) -> MutexGuard<'_, About> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number, from 1, of a line that became the element of this index.
    pub(super) fn number(&self, index: usize) -> u64 {
        let index = index as u64;
        let about = self.lock();
        let before = about.long.partition_point(|long| long.after <= index);
        index + 1 + before as u64
    }

    /// Numbers of lines that are too long, from the `n`th on, below this number.
    pub(super) fn long(&self, n: usize, below: u64) -> Vec<u64> {
        let about = self.lock();
        let numbers = about.long.iter().skip(n).map(|long| long.number);
        numbers.take_while(|number| *number < below).collect()
    }

    /// What ended the reading before the end.
    pub(super) fn fault(&self) -> Option<String> {
        self.lock().fault.clone()
    }

    /// How many lines were read so far, those included that are too long.
    pub(super) fn lines(&self) -> u64 {
        self.lock().lines
    }

    /// How many lines there are, about: as many as fit into the file that standard input is.
    pub(super) fn about(&self) -> Option<u64> {
        let about = self.lock();
        let size = u128::from(about.size?);
        let all = size * u128::from(about.lines) / u128::from(about.bytes).max(1);
        u64::try_from(all).ok().filter(|_| about.bytes > 0)
    }
}

/// The lines of standard input, as elements, read by a thread of their own.
pub(super) fn lines(null: bool) -> (impl Stream<Item = Value> + Unpin, Read) {
    let read = Read::default();
    if let Ok(input) = std::io::stdin().as_fd().try_clone_to_owned()
        && let Ok(about) = std::fs::File::from(input).metadata()
        && about.is_file()
    {
        read.lock().size = Some(about.len());
    }
    let (sender, mut receiver) = mpsc::channel(LINES_AHEAD);
    let (end, reading) = (if null { 0 } else { b'\n' }, read.clone());
    std::thread::spawn(move || {
        let mut input = BufReader::new(std::io::stdin().lock());
        for number in 1.. {
            let told = match line(&mut input, end, &reading) {
                Ok(Some(Some(line))) => Input::Line(element(number, line)),
                Ok(Some(None)) => Input::Long(number),
                Ok(None) => return,
                Err(error) => Input::Fault(error),
            };
            let last = matches!(told, Input::Fault(_));
            if sender.blocking_send(told).is_err() || last {
                return;
            }
        }
    });
    let told = read.clone();
    let lines = futures::stream::poll_fn(move |context| {
        loop {
            match std::task::ready!(receiver.poll_recv(context)) {
                Some(Input::Line(line)) => return std::task::Poll::Ready(Some(line)),
                Some(Input::Long(number)) => told.lock().is_long(number),
                Some(Input::Fault(error)) => told.lock().fault = Some(error.to_string()),
                None => return std::task::Poll::Ready(None),
            }
        }
    });
    (lines, read)
}

/// The next line, without its end, if there is one; none of it if it is too long.
fn line(
    input: &mut impl BufRead,
    end: u8,
    read: &Read,
) -> std::io::Result<Option<Option<Vec<u8>>>> {
    let mut line = Vec::new();
    let most = LINE_BYTES_MAX as u64 + 1;
    let mut bytes = input.by_ref().take(most).read_until(end, &mut line)?;
    if bytes == 0 {
        return Ok(None);
    }
    let ended = line.last() == Some(&end);
    if ended {
        line.pop();
    }
    let long = line.len() > LINE_BYTES_MAX;
    if long {
        bytes += input.skip_until(end)?;
    }
    let mut about = read.lock();
    about.lines += 1;
    about.bytes += bytes as u64;
    Ok(Some((!long).then_some(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_as_long_as_may_be_is_read_and_a_longer_one_passed_over() {
        let just = vec![b'x'; LINE_BYTES_MAX];
        let long = vec![b'y'; LINE_BYTES_MAX + 1];
        let longer = vec![b'z'; 3 * LINE_BYTES_MAX];
        let all = [&just[..], &long, &longer, b"", b"last"].join(&b'\n');
        let (mut input, read) = (&all[..], Read::default());
        let mut next = || line(&mut input, b'\n', &read).unwrap();
        assert!(next() == Some(Some(just)));
        assert_eq!((next(), next()), (Some(None), Some(None)));
        assert_eq!(
            (next(), next()),
            (Some(Some(Vec::new())), Some(Some(b"last".to_vec())))
        );
        assert_eq!(next(), None);
        let about = read.lock();
        assert_eq!((about.lines, about.bytes), (5, all.len() as u64));
    }

    #[test]
    fn lines_keep_their_numbers_though_some_are_passed_over() {
        let read = Read::default();
        assert_eq!(read.number(4), 5);
        // Good are 1, 4, 6, 7 ...
        for number in [2, 3, 5] {
            read.lock().is_long(number);
        }
        let numbers: Vec<_> = (0..4).map(|index| read.number(index)).collect();
        assert_eq!(numbers, [1, 4, 6, 7]);
        assert_eq!(read.long(0, 5), [2, 3]);
        assert_eq!(read.long(2, u64::MAX), [5]);
    }

    #[test]
    fn how_many_lines_a_file_has_is_told_from_those_that_were_read() {
        let read = Read::default();
        assert_eq!(read.about(), None);
        read.lock().size = Some(1000);
        assert_eq!(read.about(), None);
        (read.lock().lines, read.lock().bytes) = (10, 50);
        assert_eq!(read.about(), Some(200));
    }
}
