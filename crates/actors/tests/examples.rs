//! The examples do what they say.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../../examples/saga.rs"]
#[expect(dead_code, reason = "its main")]
mod saga;
#[path = "../../../examples/work_queue.rs"]
#[expect(dead_code, reason = "its main")]
mod work_queue;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_work_queue_loses_no_job_and_takes_the_poison_out() {
    let (total, poison) = work_queue::run().await.unwrap();
    assert_eq!(total, 9_592);
    assert!(
        matches!(poison, cpe_actors::AskError::Poisoned { .. }),
        "{poison}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_saga_undoes_what_was_done_when_a_step_fails() {
    assert_eq!(
        saga::run(false).await.unwrap(),
        [
            "booked the flight",
            "booked the car",
            "booked the hotel",
            "all is booked"
        ]
    );
    assert_eq!(
        saga::run(true).await.unwrap(),
        [
            "booked the flight",
            "booked the car",
            "the hotel failed: booked out",
            "cancelled the car",
            "cancelled the flight",
            "nothing is booked",
        ]
    );
}
