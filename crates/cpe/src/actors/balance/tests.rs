#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn has(keys: &[&str]) -> BTreeMap<String, String> {
    let keys = keys.iter();
    keys.map(|key| ((*key).to_owned(), "yes".to_owned()))
        .collect()
}

fn host(node: u64, keys: &[&str]) -> Host {
    Host {
        node: NodeId(node),
        takes: true,
        capabilities: has(keys),
    }
}

fn guests(host: u64, class: usize, count: usize) -> impl Iterator<Item = Guest> {
    (0..count).map(move |n| Guest {
        name: format!("{host}-{class}-{n}"),
        host: NodeId(host),
        class,
        stays: false,
    })
}

const ME: NodeId = NodeId(1);

#[test]
fn an_actor_goes_from_a_node_that_lost_what_it_needs_to_the_one_with_the_fewest() {
    let needs = vec![has(&[]), has(&["gpu"])];
    let mut view = View {
        hosts: vec![
            host(1, &[]),
            host(2, &["gpu"]),
            host(3, &["gpu"]),
            host(4, &[]),
        ],
        needs,
        guests: guests(1, 1, 1)
            .chain(guests(2, 0, 2))
            .chain(guests(1, 0, 5))
            .collect(),
    };
    let to = |node| {
        let name = "1-1-0".to_owned();
        (
            vec![Move {
                name,
                to: NodeId(node),
            }],
            Vec::new(),
        )
    };
    assert_eq!(view.must_go(ME), to(3), "2 has more already, 4 has no GPU");
    view.hosts[2].takes = false;
    assert_eq!(view.must_go(ME), to(2), "3 is on its way out");
    view.hosts[1].takes = false;
    let stuck = vec!["1-1-0".to_owned()];
    assert_eq!(
        view.must_go(ME),
        (Vec::new(), stuck),
        "it stays until somebody fits"
    );
    view.hosts[0] = host(1, &["gpu"]);
    assert_eq!(view.must_go(ME), (Vec::new(), Vec::new()));
}

#[test]
fn a_node_that_takes_no_more_hands_all_it_has_to_the_others_evenly() {
    let mut view = View {
        hosts: vec![host(1, &[]), host(2, &[]), host(3, &[])],
        needs: vec![has(&[])],
        guests: guests(1, 0, 9).chain(guests(2, 0, 3)).collect(),
    };
    view.hosts[0].takes = false;
    let (moves, stuck) = view.must_go(ME);
    let to = |node| moves.iter().filter(|it| it.to == NodeId(node)).count();
    assert_eq!((to(2), to(3), stuck.len()), (3, 6, 0));
}

#[test]
fn what_is_equal_goes_where_it_would_be_claimed_first() {
    let hosts: Vec<_> = (1..=5).map(|node| host(node, &["gpu"])).collect();
    for n in 0..50 {
        let name = format!("actor-{n}");
        let guest = Guest {
            name: name.clone(),
            host: ME,
            class: 0,
            stays: false,
        };
        let mut view = View {
            hosts: hosts.clone(),
            needs: vec![has(&["gpu"])],
            guests: vec![guest],
        };
        view.hosts[0].capabilities.clear();
        let first = (2..=5)
            .map(NodeId)
            .max_by_key(|node| weight(&name, *node))
            .unwrap();
        assert_eq!(view.must_go(ME).0, [Move { name, to: first }]);
    }
}

#[test]
fn a_new_node_is_given_its_share_and_no_difference_of_one_moves_anything() {
    let mut view = View {
        hosts: vec![host(1, &[]), host(2, &[]), host(3, &[])],
        needs: vec![has(&[])],
        guests: guests(1, 0, 6).chain(guests(2, 0, 3)).collect(),
    };
    let even = view.even(ME, 100);
    assert_eq!(even.own.len(), 3, "{even:?}");
    assert!(even.own.iter().all(|it| it.to == NodeId(3)));
    assert_eq!(view.even(ME, 2).own.len(), 2, "no more than may be at once");
    assert!(view.even(NodeId(2), 100).own.is_empty() && even.any);
    for guest in &mut view.guests {
        guest.stays = true;
    }
    assert!(
        !view.even(ME, 100).any,
        "those that were started for their node stay"
    );
    view.guests = guests(1, 0, 4)
        .chain(guests(2, 0, 3))
        .chain(guests(3, 0, 3))
        .collect();
    assert!(!view.even(ME, 100).any);
}

#[test]
fn actors_are_spread_some_time_after_a_node_came_and_until_they_are() {
    let second = Duration::from_secs(1);
    let mut occasion = Occasion::default();
    let mut hosts = vec![host(1, &[])];
    assert!(!occasion.see(Duration::ZERO, &hosts));
    assert!(!occasion.see(SETTLE / 2, &hosts));
    hosts.push(host(2, &[]));
    assert!(!occasion.see(SETTLE, &hosts), "another one came meanwhile");
    assert!(occasion.see(SETTLE * 2, &hosts));
    let some = |uneven| Evening {
        own: Vec::new(),
        any: true,
        uneven,
    };
    occasion.looked(&some(10));
    assert!(
        occasion.see(SETTLE * 2 + second, &hosts),
        "there is more to do"
    );
    occasion.looked(&Evening::default());
    assert!(!occasion.see(SETTLE * 3, &hosts));
    hosts.pop();
    assert!(!occasion.see(SETTLE * 4, &hosts));
    assert!(
        !occasion.see(SETTLE * 8, &hosts),
        "one that goes is no occasion"
    );
    hosts[0].capabilities = has(&["gpu"]);
    assert!(!occasion.see(SETTLE * 9, &hosts));
    assert!(
        occasion.see(SETTLE * 10, &hosts),
        "it may take other actors now"
    );
    for _ in 0..LOOKS_MAX {
        occasion.looked(&some(10));
        assert!(occasion.see(SETTLE * 11, &hosts));
    }
    occasion.looked(&some(10));
    assert!(!occasion.see(SETTLE * 11, &hosts), "nothing comes of it");
}

/// A mesh in which each node knows its own actors, and of those of others what was so a round ago.
#[derive(Clone, Debug)]
struct Mesh {
    view: View,
    before: Vec<NodeId>,
    lags: bool,
}

impl Mesh {
    /// What a node sees.
    fn seen_by(&self, me: NodeId) -> View {
        let mut view = self.view.clone();
        for (guest, before) in view.guests.iter_mut().zip(&self.before) {
            if self.lags && guest.host != me && *before != me {
                guest.host = *before;
            }
        }
        view
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.view.hosts.iter().map(|host| host.node).collect()
    }

    /// Does what a node wants done.
    fn apply(&mut self, me: NodeId, moves: &[Move]) {
        for Move { name, to } in moves {
            let able = &self.view.able();
            let guest = self.view.guests.iter_mut().find(|it| it.name == *name);
            let guest = guest.unwrap();
            assert_eq!(guest.host, me, "a node moves its own");
            assert!(
                able[guest.class].contains(to),
                "{guest:?} does not fit {to}"
            );
            guest.host = *to;
        }
    }

    /// One round of all nodes; how many moves.
    fn round(&mut self, own_max: usize) -> usize {
        let now: Vec<_> = self.view.guests.iter().map(|guest| guest.host).collect();
        let mut moves = 0;
        for me in self.nodes() {
            let own = self.seen_by(me).even(me, own_max).own;
            assert!(own.len() <= own_max);
            if !self.lags && !own.is_empty() {
                let uneven = self.view.even(me, 0).uneven;
                self.apply(me, &own);
                assert!(self.view.even(me, 0).uneven < uneven, "a step back");
            } else {
                self.apply(me, &own);
            }
            moves += own.len();
        }
        self.before = now;
        moves
    }

    /// Whether an actor could go where there are two fewer.
    fn is_even(&self) -> bool {
        let (loads, able) = (self.view.loads(), self.view.able());
        self.view.guests.iter().all(|guest| {
            let able = &able[guest.class];
            guest.stays
                || !able.contains(&guest.host)
                || able.iter().all(|to| loads[to] + 2 > loads[&guest.host])
        })
    }
}

fn meshes() -> impl Strategy<Value = Mesh> {
    const KEYS: [&str; 2] = ["gpu", "disk"];
    let needs: Vec<_> = [&[][..], &KEYS[..1], &KEYS[1..], &KEYS[..]]
        .into_iter()
        .map(has)
        .collect();
    let hosts = prop::collection::vec((0..4_usize, prop::bool::weighted(0.9)), 2..7);
    let guests = prop::collection::vec(
        (
            any::<prop::sample::Index>(),
            0..4_usize,
            prop::bool::weighted(0.1),
        ),
        0..60,
    );
    (hosts, guests, any::<bool>()).prop_map(move |(hosts, guests, lags)| {
        let of = |set: usize| needs[set].clone();
        let hosts: Vec<_> = (1..)
            .zip(hosts)
            .map(|(node, (set, takes))| Host {
                node: NodeId(node),
                takes,
                capabilities: of(set),
            })
            .collect();
        let guests: Vec<_> = guests
            .into_iter()
            .enumerate()
            .map(|(n, (at, class, stays))| Guest {
                name: format!("actor-{n}"),
                host: at.get(&hosts).node,
                class,
                stays,
            })
            .collect();
        let before = guests.iter().map(|guest| guest.host).collect();
        let view = View {
            hosts,
            needs: needs.clone(),
            guests,
        };
        Mesh { view, before, lags }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn spreading_ends_even_as_far_as_needs_let_it_and_comes_back_to_nothing(
        mut mesh in meshes(),
        own_max in 1..6_usize,
    ) {
        for me in mesh.nodes() {
            let (moves, stuck) = mesh.seen_by(me).must_go(me);
            mesh.apply(me, &moves);
            let mut again = mesh.view.must_go(me);
            again.1.sort();
            let mut stuck = stuck;
            stuck.sort();
            prop_assert_eq!(again, (Vec::new(), stuck), "what had to go has gone");
        }
        mesh.before = mesh.view.guests.iter().map(|guest| guest.host).collect();
        let count = mesh.view.guests.len();
        let mut rounds = 0;
        // A round without moves may be one in which nobody knew the latest yet.
        let mut quiet = 0;
        while quiet < 3 {
            rounds += 1;
            prop_assert!(rounds <= count + 10, "no end after {rounds} rounds");
            quiet = if mesh.round(own_max) == 0 { quiet + 1 } else { 0 };
        }
        prop_assert!(mesh.is_even(), "{:?}", mesh.view.loads());
    }

    #[test]
    fn without_needs_all_nodes_end_within_one_of_each_other_and_nothing_moves_twice(
        counts in prop::collection::vec(0..40_usize, 2..7),
        own_max in 1..20_usize,
        lags in any::<bool>(),
    ) {
        let hosts: Vec<_> = (1..).zip(&counts).map(|(node, _)| host(node, &[])).collect();
        let each = (1..).zip(&counts);
        let guests: Vec<_> = each
            .flat_map(|(node, count)| guests(node, 0, *count))
            .collect();
        let before: Vec<_> = guests.iter().map(|guest| guest.host).collect();
        let first = before.clone();
        let view = View { hosts, needs: vec![BTreeMap::new()], guests };
        let mut mesh = Mesh { view, before, lags };
        let mut moves = 0;
        let mut quiet = 0;
        while quiet < 3 {
            let made = mesh.round(own_max);
            moves += made;
            prop_assert!(moves <= mesh.view.guests.len(), "more moves than actors");
            quiet = if made == 0 { quiet + 1 } else { 0 };
        }
        let loads = mesh.view.loads();
        let (most, least) = (loads.values().max().unwrap(), loads.values().min().unwrap());
        prop_assert!(most - least <= 1, "{loads:?}");
        let both = mesh.view.guests.iter().zip(&first);
        let elsewhere = both.filter(|(guest, first)| guest.host != **first);
        if !lags {
            prop_assert_eq!(elsewhere.count(), moves, "one moved twice");
        }
    }
}
