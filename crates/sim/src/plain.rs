//! Plain actors under names: hosted by belief, so that there may be two of one name while a node
//! stands still or is cut off (decision 034).
//!
//! What is checked: a node that shows the name of such an actor to be another's, or nobody's, has
//! ended it; once all is healed each name has one incarnation at most, the one of its record; and
//! who watches one is told once ([`crate::watches`]).

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use cpe_mesh::{Command, Reply, is_replaced};
use cpe_tuple::Value;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use cpe_membership::Member;

use crate::actors::{Asked, PLAIN, name};
use crate::check::Violation;
use crate::world::{Happening, World};

/// Randomness of its own.
const STREAM: u64 = 10;

/// Names.
const NAMES: usize = 2;

/// Milliseconds. So often a node tries to start an actor of a name, and to stop it.
const START_MS: Range<u64> = 200..1_500;
const STOP_MS: Range<u64> = 1_000..8_000;

/// How long the home has to answer.
const DEADLINE: Duration = Duration::from_millis(700);

/// How often is looked, and how long a node may take to do what it knows of.
const LOOK: Duration = Duration::from_millis(250);
const AT_ONCE: Duration = Duration::from_secs(1);

/// Within how long each name has one incarnation at most, once all is healed.
const ONE_WITHIN: Duration = Duration::from_secs(60);

/// What happens to plain actors, by their numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Some node starts one, if it may.
    Start(usize),
    /// Some node stops one, if it has it or believes its host gone.
    Stop(usize),
    Look,
}

#[derive(Debug)]
struct Instance {
    token: u64,
    /// Since when its node shows that its name is not its any more.
    replaced: Option<Duration>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Plains {
    rng: Option<ChaCha8Rng>,
    /// By node and number.
    running: BTreeMap<(usize, usize), Instance>,
}

impl Plains {
    /// A node has ended.
    pub(crate) fn gone(&mut self, n: usize) {
        self.running.retain(|(at, _), _| *at != n);
    }

    /// Whether one runs on a node that began with this token.
    pub(crate) fn runs(&self, n: usize, actor: usize, token: u64) -> bool {
        let running = self.running.get(&(n, actor));
        running.is_some_and(|it| it.token == token)
    }
}

impl World {
    fn plain_rng(&mut self) -> &mut ChaCha8Rng {
        let seed = self.seed;
        self.plains.rng.get_or_insert_with(|| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(STREAM);
            rng
        })
    }

    fn plain_in(&mut self, ms: Range<u64>, step: Step) {
        let pause = Duration::from_millis(self.plain_rng().random_range(ms));
        self.at(self.now + pause, Happening::Plain(step));
    }

    /// Plans who starts and stops them, where there are actors.
    pub(crate) fn plan_plains(&mut self) {
        if self.scenario.workload.actors == 0 {
            return;
        }
        for actor in PLAIN..PLAIN + NAMES {
            self.plain_in(START_MS, Step::Start(actor));
            self.plain_in(STOP_MS, Step::Stop(actor));
            self.watch_plain(actor);
        }
        self.at(LOOK, Happening::Plain(Step::Look));
    }

    pub(crate) fn plain_step(&mut self, step: Step) {
        match step {
            Step::Start(actor) if !self.calm => {
                self.plain_in(START_MS, step);
                self.start_plain(actor);
            }
            Step::Stop(actor) if !self.calm => {
                self.plain_in(STOP_MS, step);
                self.stop_plain(actor);
            }
            Step::Look => self.look_at_plains(),
            Step::Start(_) | Step::Stop(_) => {}
        }
    }

    /// A node, its member, and what its replica shows of a name: the token, and who has it as far
    /// as it believes.
    fn plain_at(&self, n: usize, actor: usize) -> Option<(Member, u64, Option<Member>)> {
        let peer = self.awake(n)?;
        let record = peer.actor(&name(actor));
        let host = record.as_ref().and_then(|record| record.host);
        let alive = host.filter(|host| peer.alive().contains(host));
        Some((peer.member(), record.map_or(0, |it| it.token), alive))
    }

    fn start_plain(&mut self, actor: usize) {
        let nodes = self.nodes.len();
        let n = self.plain_rng().random_range(0..nodes);
        let Some((me, expect, host)) = self.plain_at(n, actor) else {
            return;
        };
        // A record of this node without an actor is what a crash left.
        let left_over = host == Some(me) && !self.plains.runs(n, actor, expect);
        if host.is_some() && !left_over {
            return;
        }
        let command = Command::Claim {
            name: name(actor),
            expect,
            spec: Value::Int(actor as i64),
            deadline: DEADLINE,
        };
        self.ask_actor(n, Asked::Plain(actor), command);
    }

    fn stop_plain(&mut self, actor: usize) {
        let nodes = self.nodes.len();
        let n = self.plain_rng().random_range(0..nodes);
        let Some((_, token, host)) = self.plain_at(n, actor) else {
            return;
        };
        let here = self.plains.runs(n, actor, token);
        if token == 0 || (host.is_some() && !here) {
            return;
        }
        if here {
            self.plains.running.remove(&(n, actor));
            self.plain_ended(n, actor, token);
        }
        let command = Command::Release {
            name: name(actor),
            token,
            keeps: false,
            deadline: DEADLINE,
        };
        self.ask_actor(n, Asked::Effect, command);
    }

    /// A claim was answered.
    pub(crate) fn plain_claimed(&mut self, n: usize, actor: usize, reply: &Reply) {
        let Reply::Actor(Some(record)) = reply else {
            return;
        };
        let (token, replaced) = (record.token, None);
        self.note(n, || format!("runs {} with token {token}", name(actor)));
        self.report.plain_run += 1;
        let instance = Instance { token, replaced };
        self.plains.running.insert((n, actor), instance);
        // What came of its name before was told to nobody.
        let peer = self.nodes.get(n).and_then(|node| node.peer.as_ref());
        if let Some(record) = peer.and_then(|peer| peer.actor(&name(actor))) {
            self.end_replaced(n, actor, (record.token, record.host));
        }
    }

    /// A node is told who has a name.
    pub(crate) fn plain_named(&mut self, n: usize, of: &str, now: (u64, Option<Member>)) {
        let names = PLAIN..PLAIN + NAMES;
        if let Some(actor) = names.into_iter().find(|actor| name(*actor) == of) {
            self.end_replaced(n, actor, now);
        }
    }

    fn end_replaced(&mut self, n: usize, actor: usize, now: (u64, Option<Member>)) {
        let peer = self.nodes.get(n).and_then(|node| node.peer.as_ref());
        let running = self.plains.running.get(&(n, actor));
        let (Some(peer), Some(token)) = (peer, running.map(|it| it.token)) else {
            return;
        };
        if is_replaced(peer.member(), token, now) {
            self.note(n, || {
                format!("ends {}, token {token}: {now:?}", name(actor))
            });
            self.report.plain_ended += 1;
            self.plains.running.remove(&(n, actor));
            self.plain_ended(n, actor, token);
        }
    }

    /// Whether a node that runs one shows that it should not.
    fn look_at_plains(&mut self) {
        self.at(self.now + LOOK, Happening::Plain(Step::Look));
        let now = self.now;
        let running: Vec<(usize, usize)> = self.plains.running.keys().copied().collect();
        for (n, actor) in running {
            let record = self
                .awake(n)
                .map(|it| (it.member(), it.actor(&name(actor))));
            let Some(instance) = self.plains.running.get_mut(&(n, actor)) else {
                continue;
            };
            let replaced = record.is_some_and(|(me, record)| {
                record.is_some_and(|record| {
                    let same = record.token == instance.token;
                    record.token > instance.token || (same && record.host != Some(me))
                })
            });
            let since = instance.replaced.take().unwrap_or(now);
            instance.replaced = replaced.then_some(since);
            if replaced && since + AT_ONCE < now {
                self.violation = Some(Violation::PlainGoesOn(actor - PLAIN));
            }
        }
    }

    /// With all healed, no name has two incarnations for long.
    pub(crate) fn demand_one_plain(&mut self) -> Result<(), Violation> {
        let limit = self.now + ONE_WITHIN;
        loop {
            let mut counts = [0; NAMES];
            for (_, actor) in self.plains.running.keys() {
                if let Some(count) = counts.get_mut(actor - PLAIN) {
                    *count += 1;
                }
            }
            let Some(two) = counts.iter().position(|count| *count > 1) else {
                return Ok(());
            };
            if self.now >= limit {
                return Err(Violation::PlainGoesOn(two));
            }
            let next = self.now + LOOK;
            self.run_until(next)?;
        }
    }
}
