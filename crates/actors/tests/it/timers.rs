//! Timers and delayed messages.

use cpe_actors::{Options, System, TellError};

use crate::{Do, MS, SECOND, lines, log, spawn};

#[tokio::test(start_paused = true)]
async fn timers_fire_in_order_ahead_of_the_mailbox() {
    let system = System::default();
    let log = log();
    let actor = spawn(&system, &log, Options::default().name("p"));
    for (delay, text) in [(3, "third"), (1, "first"), (2, "second"), (2, "second too")] {
        actor.ask(Do::After(delay * SECOND, text)).await.unwrap();
    }
    actor.tell(Do::Sleep(10 * SECOND)).await.unwrap();
    actor.tell(Do::Note("mailbox")).await.unwrap();
    actor.ask_within(60 * SECOND, Do::Add(0)).await.unwrap();
    assert_eq!(
        lines(&log),
        [
            "started p",
            "first",
            "second",
            "second too",
            "third",
            "mailbox"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_periodic_timer_skips_missed_beats_and_can_be_cancelled() {
    let system = System::default();
    let log = log();
    let actor = spawn(&system, &log, Options::default().name("p"));
    actor.ask(Do::Every(SECOND, "beat")).await.unwrap();
    tokio::time::sleep(3_500 * MS).await;
    assert_eq!(lines(&log).len(), 1 + 3);
    // Busy from 3.5 s to 8.5 s: the beats at 4 to 8 s become one, the next is at 9 s.
    actor.tell(Do::Sleep(5 * SECOND)).await.unwrap();
    tokio::time::sleep(5_600 * MS).await;
    assert_eq!(lines(&log).len(), 1 + 5);
    // A restart ends it.
    actor.tell(Do::Fail).await.unwrap();
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(lines(&log).len(), 1 + 5 + 1);
}

#[tokio::test(start_paused = true)]
async fn tell_after_waits_and_is_cancellable() {
    let system = System::default();
    let log = log();
    let actor = spawn(&system, &log, Options::default().name("p"));
    let kept = actor.tell_after(SECOND, Do::Note("kept")).unwrap();
    let cancelled = actor.tell_after(SECOND, Do::Note("cancelled")).unwrap();
    assert!(actor.cancel_timer(cancelled));
    assert!(!actor.cancel_timer(cancelled));
    tokio::time::sleep(999 * MS).await;
    assert_eq!(lines(&log), ["started p"]);
    tokio::time::sleep(2 * MS).await;
    assert_eq!(lines(&log), ["started p", "kept"]);
    assert!(!actor.cancel_timer(kept));
    for _ in 0..cpe_actors::MAX_TIMERS {
        let _ = actor.tell_after(SECOND, Do::Add(1)).unwrap();
    }
    assert!(matches!(
        actor.tell_after(SECOND, Do::Add(1)),
        Err(TellError::Full { .. })
    ));
    actor.stop();
    actor.ended().await;
    assert!(matches!(
        actor.tell_after(SECOND, Do::Add(1)),
        Err(TellError::Dead { .. })
    ));
}
