//! Results that stay in the space when a master takes them, for one that comes back.
//!
//! They stand in one of two variables. Whoever comes back has to take them out to read them, and
//! puts each into the other one at once: killed in the midst of that, it loses the one it holds.

use cpe_tuple::Value;
use futures::Stream;

use crate::job::JobError;
use crate::master::Imap;
use crate::port::TaskSpace;
use crate::wire::{Answer, News, Outcome, Report, size};

/// Where results stay while a job goes on.
const HOME: usize = 0;

fn bytes_of(answers: &[Answer]) -> usize {
    answers.iter().map(|it| size(&it.outcome)).sum()
}

impl<S: TaskSpace, I: Stream<Item = Value> + Unpin> Imap<'_, S, I> {
    /// Notes the results of a report that are none of failures, as long as there is room.
    pub(crate) fn keep(&mut self, report: &Report) {
        let News::Answers { took, answers } = &report.news else {
            return;
        };
        if self.job.keep_bytes == 0 {
            return;
        }
        let is_failure = self.job.is_failure;
        let good = |outcome: &Outcome| match outcome {
            Ok(value) => !is_failure.is_some_and(|is| is(value)),
            Err(_) => false,
        };
        let answers = answers.iter().filter(|it| good(&it.outcome));
        let answers: Vec<Answer> = answers.cloned().collect();
        let bytes = bytes_of(&answers);
        if answers.is_empty() || self.kept_bytes.saturating_add(bytes) > self.job.keep_bytes {
            return;
        }
        self.kept_bytes += bytes;
        let took = *took;
        self.unkept.push_back(Report {
            id: report.id,
            node: report.node.clone(),
            news: News::Answers { took, answers },
        });
    }

    /// Puts what was noted into the space: before anybody hears of it, and again if the future that
    /// did it was dropped.
    pub(crate) async fn put_noted(&mut self) -> Result<(), JobError> {
        while let Some(report) = self.unkept.front().cloned() {
            self.put_kept(&report, HOME).await?;
            self.unkept.pop_front();
        }
        Ok(())
    }

    /// Puts a report there, however long that takes.
    async fn put_kept(&mut self, report: &Report, place: usize) -> Result<(), JobError> {
        // One that fits in no tuple is had again by whoever comes back.
        let Ok(tuple) = report.to_tuple_in(Report::kept(&self.job.id, place)) else {
            return Ok(());
        };
        loop {
            let left = self.left()?;
            let put = self.space.out(&self.job.workspace, tuple.clone());
            match tokio::time::timeout(left, put).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => self.trouble(error).await,
                // Nothing was heard for as long as the job waits at all.
                Err(_) => {}
            }
        }
    }

    /// Takes up the results that stayed of an earlier life, and lets them stay.
    pub(crate) async fn take_up_kept(&mut self) -> Result<(), JobError> {
        // What a life that was killed had moved by half is at home again in the end.
        for (from, to) in [(HOME, 1), (1, HOME)] {
            let kept = Report::any_in(Report::kept(&self.job.id, from));
            let kept = kept.map_err(|source| JobError::Names { source })?;
            loop {
                match self.space.try_take(&self.job.workspace, kept.clone()).await {
                    Ok(None) => break,
                    Ok(Some(tuple)) => {
                        let Some(report) = Report::of(&tuple) else {
                            continue;
                        };
                        self.put_kept(&report, to).await?;
                        if to == HOME
                            && let News::Answers { answers, .. } = &report.news
                        {
                            self.kept_bytes += bytes_of(answers);
                            self.ledger.remember(report);
                        }
                    }
                    Err(error) => {
                        self.trouble(error).await;
                        self.left()?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Forgets them: the job has come to its end.
    pub(crate) async fn drop_kept(&mut self) {
        for place in [HOME, 1] {
            let variable = Report::kept(&self.job.id, place);
            let _ = self.space.delete(&self.job.workspace, &variable).await;
        }
    }
}
