//! A saga: a trip is booked step by step, each step by an actor that is watched. When one fails,
//! those done before are undone, the last one first: `cargo run -p cpe-actors --example saga`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use cpe_actors::{
    Actor, ActorError, Address, Context, Options, ReplyTo, Supervision, System, Terminated,
};

/// One step. Its ending as a failure says that the step was not done.
struct Booking {
    what: &'static str,
    booked_out: bool,
}

enum Order {
    Book,
    Undo,
}

impl Actor for Booking {
    type Message = Order;
    type Reply = String;

    async fn handle(&mut self, it: Order, _: &mut Context<Self>) -> Result<String, ActorError> {
        match it {
            Order::Book if self.booked_out => Err(ActorError::failed("booked out")),
            Order::Book => Ok(format!("booked the {}", self.what)),
            Order::Undo => Ok(format!("cancelled the {}", self.what)),
        }
    }
}

/// Books steps in order, or none of them.
struct Trip {
    steps: Vec<(&'static str, bool)>,
    done: Vec<Address<Order, String>>,
    diary: Vec<String>,
    customer: Option<ReplyTo<Vec<String>>>,
}

enum Plan {
    /// The answer comes when all is done, or undone.
    Go(ReplyTo<Vec<String>>),
    Next,
}

impl Actor for Trip {
    type Message = Plan;
    type Reply = ();

    async fn handle(&mut self, it: Plan, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        if let Plan::Go(customer) = it {
            self.customer = Some(customer);
        }
        if self.steps.is_empty() {
            self.finish("all is booked");
            return Ok(());
        }
        let (what, booked_out) = self.steps.remove(0);
        let options = Options::default()
            .name(what)
            .supervision(Supervision::stop());
        let step = ctx.spawn_with(options, move || Ok(Booking { what, booked_out }))?;
        ctx.watch(&step)?;
        // When the step fails there is no answer, and `terminated` is called.
        if let Ok(line) = step.ask(Order::Book).await {
            self.diary.push(line);
            self.done.push(step);
            let _ = ctx.tell_after(Duration::ZERO, Plan::Next)?;
        }
        Ok(())
    }

    async fn terminated(
        &mut self,
        step: Terminated,
        _: &mut Context<Self>,
    ) -> Result<(), ActorError> {
        self.diary
            .push(format!("the {} {}", step.actor, step.reason));
        while let Some(done) = self.done.pop() {
            let line = done.ask(Order::Undo).await?;
            self.diary.push(line);
        }
        self.finish("nothing is booked");
        Ok(())
    }
}

impl Trip {
    fn finish(&mut self, line: &str) {
        self.diary.push(line.to_owned());
        if let Some(customer) = self.customer.take() {
            customer.send(std::mem::take(&mut self.diary));
        }
    }
}

/// Books a trip; what happened, line by line.
pub(crate) async fn run(hotel_is_full: bool) -> Result<Vec<String>, ActorError> {
    let system = System::default();
    let trip = system.spawn(Trip {
        steps: vec![("flight", false), ("car", false), ("hotel", hotel_is_full)],
        done: Vec::new(),
        diary: Vec::new(),
        customer: None,
    })?;
    let diary = trip.request(Plan::Go).await?;
    system.shutdown(Duration::from_secs(5)).await;
    Ok(diary)
}

#[tokio::main]
async fn main() {
    for hotel_is_full in [false, true] {
        match run(hotel_is_full).await {
            Ok(diary) => println!("{}\n", diary.join("\n")),
            Err(error) => println!("failed: {error}"),
        }
    }
}
