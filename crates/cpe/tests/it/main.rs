//! Nodes on loopback, over real TCP.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod actors;
mod admission;
mod effects;
mod examples;
mod failover;
mod handing;
mod harness;
mod homes;
mod large;
mod leases;
mod minority;
mod monitors;
mod moving;
mod one_node;
mod poison;
mod three_nodes;

#[path = "../../../../examples/chat.rs"]
#[expect(dead_code, reason = "its `main`")]
mod chat;
#[path = "../../../../examples/follower.rs"]
#[expect(dead_code, reason = "its `main`")]
mod follower;
#[path = "../../../../examples/many_hands.rs"]
#[expect(dead_code, reason = "its `main`")]
mod many_hands;
#[path = "../../../../examples/own_kinds.rs"]
#[expect(dead_code, reason = "its `main`")]
mod own_kinds;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_runs() {
    let answer = own_kinds::run().await.unwrap();
    assert_eq!(answer, "ahoy Ada, from node here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_reaches_the_listeners_of_its_room_on_every_node() {
    assert_eq!(
        chat::run().await.unwrap(),
        [
            "ann in tea, ann: anyone there?",
            "ann in tea, bob: on my way",
            "bob in code, ann: it builds",
            "bob in tea, ann: anyone there?",
            "bob in tea, bob: on my way",
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_map_a_list_and_one_that_leaves_costs_nothing() {
    // Primes below 200,000.
    assert_eq!(many_hands::run().await.unwrap(), 17_984);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_follows_a_gpu_across_nodes() {
    assert_eq!(
        follower::run().await.unwrap(),
        [
            "dawn is picture 1, by left",
            "noon is picture 2, by right",
            "dusk is picture 3, by right",
            "night is picture 4, by desk",
        ]
    );
}
