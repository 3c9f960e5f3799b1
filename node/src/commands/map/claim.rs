//! A job's name, which one `cpe map` has at a time, and what stands under it.

use std::cell::Cell;
use std::time::Duration;

use cpe_sleigh::TaskSpace as _;
use tokio::sync::Notify;

use crate::exit::{About as _, Fault};
use crate::map::sign::{self, Sign, Silence};
use crate::map::{Offer, WORKSPACE, is_of, notes};
use crate::remote::{Remote, Space as _};

/// How often it is seen to that the nodes still know of the job, in signs of life.
const OFFER_EVERY: u32 = 5;

/// How often it is looked whether another is still there.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long to wait for what was under way when a job is over.
const END_WITHIN: Duration = Duration::from_secs(5);

/// A job of this run of `cpe map`.
pub(super) struct Claim<'a> {
    space: &'a Remote,
    offer: &'a Offer,
    /// What this run calls itself.
    who: String,
    announced: Cell<bool>,
    over: Notify,
}

impl<'a> Claim<'a> {
    /// Claims the name of a job; `named` if others may know it.
    ///
    /// # Errors
    /// When another has it, or runs another command under it, or the mesh cannot be reached.
    pub(super) async fn new(
        space: &'a Remote,
        offer: &'a Offer,
        named: bool,
    ) -> Result<Self, Fault> {
        let claim = Self {
            space,
            offer,
            who: format!("{:016x}", rand::random::<u64>()),
            announced: Cell::new(false),
            over: Notify::new(),
        };
        if named {
            claim.may_be_had().await?;
        }
        claim.first().await?;
        Ok(claim)
    }

    /// Waits until whoever had the name before counts as gone, if it does.
    #[expect(
        clippy::disallowed_methods,
        reason = "how long there was no sign is real time"
    )]
    async fn may_be_had(&self) -> Result<(), Fault> {
        self.offered().await?;
        let began = std::time::Instant::now();
        let mut silence = Silence::new(Duration::ZERO);
        let mut first = None;
        loop {
            let seen = self.seen().await?;
            if !seen
                .as_ref()
                .is_some_and(|sign| sign.is_of_other(&self.who))
            {
                return Ok(());
            }
            if *first.get_or_insert_with(|| seen.clone()) != seen {
                return Err(self.taken());
            }
            if silence.look(seen, began.elapsed()) > sign::GONE_AFTER {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn taken(&self) -> Fault {
        let job = &self.offer.job;
        Fault::usage(format!("another `cpe map` has the job `{job}` under way"))
            .next("choose another name, or wait for its end")
    }

    /// Whether the nodes know of the job.
    async fn offered(&self) -> Result<bool, Fault> {
        let job = &self.offer.job;
        let template = Offer::template(Some(job)).about("cannot offer the job")?;
        let found = self.space.look(WORKSPACE, &template).await?;
        match found.as_ref().map(Offer::of) {
            None => Ok(false),
            Some(Some(other)) if other == *self.offer => Ok(true),
            Some(other) => {
                let shown = other.map_or_else(String::new, |other| other.shown());
                Err(Fault::usage(format!(
                    "a job `{job}` runs another command, or with other options: {shown}"
                ))
                .next(format!(
                    "choose another name, or end that one: `cpe map cancel {job}`"
                )))
            }
        }
    }

    async fn seen(&self) -> Result<Option<Sign>, Fault> {
        let template = Sign::template(&self.offer.job).about("cannot claim the job")?;
        let seen = self.space.look(WORKSPACE, &template).await?;
        Ok(seen.as_ref().and_then(Sign::of))
    }

    async fn give(&self, sign: &Sign) -> Result<(), Fault> {
        let tuple = sign
            .to_tuple(&self.offer.job)
            .about("cannot claim the job")?;
        crate::remote::Space::out(self.space, WORKSPACE, tuple).await
    }

    /// The first sign of life, in the one place where all are.
    async fn first(&self) -> Result<(), Fault> {
        let variable = Sign::variable(&self.offer.job);
        self.space.declare_single(WORKSPACE, &variable).await?;
        self.give(&Sign::of_asker(&self.who)).await?;
        // Of two that came at once, the later one has it.
        match self.seen().await? {
            Some(other) if other.is_of_other(&self.who) => Err(self.taken()),
            _ => Ok(()),
        }
    }

    /// Lets the nodes know of the job, unless they do.
    pub(super) async fn announce(&self) -> Result<(), Fault> {
        if !self.offered().await? {
            let tuple = self.offer.to_tuple().map_err(Fault::usage)?;
            crate::remote::Space::out(self.space, WORKSPACE, tuple).await?;
        }
        self.announced.set(true);
        Ok(())
    }

    /// Gives signs of life until the job is over, and says what nodes have to say of it. Ends
    /// before that when another has the name now.
    pub(super) async fn hold(&self, say: impl Fn(&str)) -> Option<Fault> {
        let mut sign = Sign::of_asker(&self.who);
        for turn in 1_u32.. {
            tokio::select! {
                () = tokio::time::sleep(sign::EVERY) => {}
                () = self.over.notified() => break,
            }
            sign.next();
            // A fault of the space shows in the map itself, if it lasts.
            match self.seen().await {
                Ok(Some(other)) if other.is_cancelled() => {
                    self.remove().await;
                    return Some(Fault::failed("the job was ended by `cpe map cancel`"));
                }
                Ok(Some(other)) if other.is_of_other(&self.who) => return Some(self.taken()),
                Ok(Some(_)) => drop(self.give(&sign).await),
                // The space began anew.
                Ok(None) => drop(self.first().await),
                Err(_) => {}
            }
            if self.announced.get() && turn.is_multiple_of(OFFER_EVERY) {
                let _ = self.announce().await;
            }
            self.tell(&say).await;
        }
        None
    }

    /// Says why nodes do not work for the job.
    async fn tell(&self, say: &impl Fn(&str)) {
        let Ok(notes) = notes(&self.offer.job) else {
            return;
        };
        while let Ok(Some(note)) = self.space.try_take(WORKSPACE, notes.clone()).await {
            if let [_, node, why] = note.fields() {
                let text = |value: &cpe::Value| value.as_str().unwrap_or_default().to_owned();
                let (node, why) = (text(node), text(why));
                say(&format!(
                    "warning: node {node} does not work for this: {why}"
                ));
            }
        }
    }

    /// What [`hold`](Self::hold) is at comes to its end.
    pub(super) async fn end(&self, holding: impl Future<Output = Option<Fault>>) {
        self.over.notify_one();
        let _ = tokio::time::timeout(END_WITHIN, holding).await;
        self.remove().await;
    }

    /// Removes all that is left of the job. What cannot be removed now, nodes remove after a while.
    async fn remove(&self) {
        remove(self.space, self.offer).await;
        let signs = Sign::variable(&self.offer.job);
        let _ = crate::remote::Space::delete(self.space, WORKSPACE, &signs).await;
    }
}

/// Removes all of a job but its signs of life.
async fn remove(space: &Remote, offer: &Offer) {
    take_offers(space, &offer.job).await;
    for variable in offer.variables() {
        let _ = crate::remote::Space::delete(space, WORKSPACE, &variable).await;
    }
}

/// Lets the nodes know of a job no more.
async fn take_offers(space: &Remote, job: &str) {
    while let Ok(template) = Offer::template(Some(job)) {
        match space.try_take(WORKSPACE, template).await {
            Ok(Some(_)) => {}
            _ => break,
        }
    }
}

/// Removes all of a job whatever it runs, but its signs of life.
async fn remove_all(space: &Remote, job: &str) -> Result<(), Fault> {
    take_offers(space, job).await;
    let signs = Sign::variable(job);
    for variable in crate::remote::Space::variables(space, WORKSPACE).await? {
        if is_of(&variable, job) && variable != signs {
            crate::remote::Space::delete(space, WORKSPACE, &variable).await?;
        }
    }
    Ok(())
}

/// Whether somebody has given a sign of life of a job, and nobody has ended it.
///
/// # Errors
/// When the mesh cannot be reached.
pub(super) async fn is_signed(space: &Remote, job: &str) -> Result<bool, Fault> {
    let template = Sign::template(job).about("cannot look for the job")?;
    let seen = space.look(WORKSPACE, &template).await?;
    let seen = seen.as_ref().and_then(Sign::of);
    Ok(seen.is_some_and(|sign| !sign.is_cancelled()))
}

/// Ends a job, whoever asked for it.
///
/// # Errors
/// When there is none of this name, or the mesh cannot be reached.
pub(super) async fn cancel(space: &Remote, job: &str) -> Result<(), Fault> {
    let template = Offer::template(Some(job)).about("cannot look for the job")?;
    let found = space.look(WORKSPACE, &template).await?;
    // Whoever asked may have been killed before it said what it wanted.
    if found.as_ref().and_then(Offer::of).is_none() && !is_signed(space, job).await? {
        return Err(Fault::failed(format!("there is no job `{job}`"))
            .next("`cpe map jobs` lists those there are"));
    }
    let signs = Sign::variable(job);
    let told = Sign::cancelled()
        .to_tuple(job)
        .about("cannot end the job")?;
    let template = Sign::template(job).about("cannot end the job")?;
    space.declare_single(WORKSPACE, &signs).await?;
    let looks = sign::GONE_AFTER.as_millis() / LOOK_EVERY.as_millis();
    for look in 0..looks {
        let seen = space.look(WORKSPACE, &template).await?;
        match seen.as_ref().and_then(Sign::of) {
            Some(sign) if sign.is_cancelled() => {}
            // Whoever asked has seen it, and removed the sign.
            None if look > 0 => break,
            _ => crate::remote::Space::out(space, WORKSPACE, told.clone()).await?,
        }
        remove_all(space, job).await?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // Nodes have ended by now what ran, and told of it perhaps.
    tokio::time::sleep(LOOK_EVERY).await;
    remove_all(space, job).await?;
    crate::remote::Space::delete(space, WORKSPACE, &signs).await
}
