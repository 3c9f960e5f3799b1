//! One of each command, and of what is bound to an instance of a workspace.

use super::*;

/// One command of every variant: what entries of a feed hold.
pub(crate) fn commands() -> Vec<Command> {
    let (op, name) = (op(), Name::new("w").unwrap());
    let (variable, tuple) = (Value::from("v"), pair("v", -1));
    let template = Template::new(vec![
        Field::Any,
        Field::Range {
            low: Bound::Included(Value::from(-7)),
            high: Bound::Excluded(Value::from(7)),
        },
    ])
    .unwrap();
    vec![
        Command::Noop,
        Command::Admit {
            dot: Dot {
                origin: member(2),
                n: 1,
            },
            workspace: name.clone(),
            tuple,
        },
        Command::Take {
            op,
            acks: vec![1, 2],
            workspace: name.clone(),
            template,
            wait: false,
        },
        Command::Untake { op },
        Command::Ack {
            session: op.session,
            seqs: vec![9],
        },
        Command::Declare {
            op,
            workspace: name.clone(),
            variable: variable.clone(),
            mode: Mode::Multi,
        },
        Command::Drop {
            op,
            workspace: name,
            variable: None,
        },
        Command::Claim {
            op,
            name: "a".into(),
            expect: 0,
            spec: variable,
            host: member(1),
        },
        Command::Release {
            op,
            name: "a".into(),
            token: 1,
            void: Some(member(3)),
            keeps: true,
            sent: sent(),
        },
        Command::Seal {
            config: Config {
                epoch: 2,
                members: vec![member(1)],
            },
        },
        Command::TakeLeased {
            op,
            acks: vec![3],
            workspace: Name::new("w").unwrap(),
            template: Template::named("v").unwrap(),
            wait: true,
            ttl_ms: 30_000,
        },
        Command::ActOnLease {
            op,
            lease: lease(),
            act: LeaseAct::Commit,
        },
        Command::Expire {
            lease: lease(),
            renewals: 2,
        },
        Command::Inquire { op, about: op },
        Command::Fork {
            after: 11,
            config: Config {
                epoch: 1 << 32,
                members: vec![member(1)],
            },
        },
        Command::Resume { op, n: 3 },
        Command::Begin {
            shard: ShardId(256),
            after: 0,
            members: vec![member(1)],
        },
        Command::Register {
            shard: ShardId(256),
            config: Config {
                epoch: (1 << 40) + 1,
                members: vec![member(2)],
            },
        },
        Command::Reinstate {
            shard: ShardId(256),
            sealed_at: (1 << 40) + 7,
            config: Config {
                epoch: (1 << 40) + 2,
                members: vec![member(1)],
            },
        },
        Command::Retire {
            lives: vec![member(1), member(2)],
        },
        Command::Bound {
            op,
            acks: vec![4],
            workspace: Name::new("w").unwrap(),
            terms: terms(),
            act: cpe_space::Bound::Take {
                variable: Value::from("v"),
                wait: true,
                leave: true,
            },
        },
        Command::Enlist {
            op,
            lease_ms: 5_000,
        },
        Command::Void { life: member(3) },
        Command::GiveUp {
            session: op.session,
            latest: 7,
        },
        Command::ClaimLeased {
            op,
            name: "a".to_owned(),
            expect: 4,
            spec: Value::from("spec"),
            needs: needs(),
            host: member(2),
            void: Some(member(3)),
        },
        Command::Commit {
            op,
            name: "a".to_owned(),
            token: 5,
            seq: 9,
            snapshot: Value::from("state"),
            marks: vec![marked(), marked_by_actor(), marked_by_take()],
            effects: effects(),
            sent: sent(),
            rest_over: true,
        },
        Command::Emit {
            op,
            name: "a".to_owned(),
            born: 3,
            n: 9,
            workspace: Name::new("w").unwrap(),
            tuple: pair("v", 1),
        },
        Command::Sent {
            op,
            name: "a".to_owned(),
            sent: sent(),
        },
        Command::NoteFailures {
            op,
            name: "a".to_owned(),
            token: 5,
            failures: 3,
        },
        Command::Migrate {
            op,
            name: "a".to_owned(),
            token: 5,
            seq: 9,
            to: Some(member(2)),
        },
        Command::TakeFor {
            op,
            taker: taker(),
            workspace: Name::new("w").unwrap(),
            template: Template::named("v").unwrap(),
            wait: true,
        },
        Command::EndTake {
            op,
            taker: taker(),
            back: true,
        },
        Command::TakesOver {
            op,
            name: "a".to_owned(),
            born: 3,
            takes: vec![4, 9],
            ended: Some(5),
        },
    ]
}

/// One of everything done under terms.
pub(crate) fn bounds() -> Vec<cpe_space::Bound> {
    let variable = || Value::from("v");
    let tuple = Tuple::named("v", 1).unwrap();
    let marked = tuple.clone().with_mark(cpe_tuple::Mark {
        descriptor: Some(0x0100_0001),
        variable: 5,
        ordinal: 9,
    });
    vec![
        cpe_space::Bound::Put {
            tuple: marked.clone(),
        },
        cpe_space::Bound::Take {
            variable: variable(),
            wait: false,
            leave: false,
        },
        cpe_space::Bound::Declare {
            variable: variable(),
            mode: None,
        },
        cpe_space::Bound::Drop {
            variable: variable(),
        },
        cpe_space::Bound::Exchange {
            variable: variable(),
            expect: Some(marked),
            put: Some(tuple),
        },
    ]
}

pub(crate) fn of_bound(act: &cpe_space::Bound) -> (usize, usize) {
    let place = match act {
        cpe_space::Bound::Put { .. } => 0,
        cpe_space::Bound::Take { .. } => 1,
        cpe_space::Bound::Declare { .. } => 2,
        cpe_space::Bound::Drop { .. } => 3,
        cpe_space::Bound::Exchange { .. } => 4,
    };
    (place, 5)
}

/// Place and number of variants. A new variant does not compile here until it has a place, and
/// the test below fails until the lists above have it.
pub(crate) fn of_command(command: &Command) -> (usize, usize) {
    let place = match command {
        Command::Noop => 0,
        Command::Admit { .. } => 1,
        Command::Take { .. } => 2,
        Command::Untake { .. } => 3,
        Command::Ack { .. } => 4,
        Command::Declare { .. } => 5,
        Command::Drop { .. } => 6,
        Command::Claim { .. } => 7,
        Command::Release { .. } => 8,
        Command::Seal { .. } => 9,
        Command::TakeLeased { .. } => 10,
        Command::ActOnLease { .. } => 11,
        Command::Expire { .. } => 12,
        Command::Inquire { .. } => 13,
        Command::Fork { .. } => 14,
        Command::Resume { .. } => 15,
        Command::Begin { .. } => 16,
        Command::Register { .. } => 17,
        Command::Reinstate { .. } => 18,
        Command::Bound { .. } => 19,
        Command::Retire { .. } => 20,
        Command::Enlist { .. } => 21,
        Command::Void { .. } => 22,
        Command::ClaimLeased { .. } => 23,
        Command::Commit { .. } => 24,
        Command::Migrate { .. } => 25,
        Command::GiveUp { .. } => 26,
        Command::Emit { .. } => 27,
        Command::Sent { .. } => 28,
        Command::TakeFor { .. } => 29,
        Command::EndTake { .. } => 30,
        Command::TakesOver { .. } => 31,
        Command::NoteFailures { .. } => 32,
    };
    (place, 33)
}
