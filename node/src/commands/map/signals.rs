//! Signals that ask a map for its end.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::exit::{About as _, Fault};

/// What was asked for so far, each more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asked {
    Nothing,
    /// Ctrl-C: begin nothing more.
    Stop,
    /// Ctrl-C once more: end what runs.
    End,
    /// SIGTERM: the same, and whoever sent it does not wait long.
    Terminate,
}

/// Hears what is asked for as long as it lives.
#[derive(Clone, Debug)]
pub(super) struct Signals(watch::Receiver<Asked>);

impl Signals {
    /// Signals end the process no more: whoever has this does.
    pub(super) fn listen() -> Result<Self, Fault> {
        let open = |kind| signal(kind).about("cannot listen for signals");
        let mut interrupt = open(SignalKind::interrupt())?;
        let mut terminate = open(SignalKind::terminate())?;
        let (sender, receiver) = watch::channel(Asked::Nothing);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(()) = interrupt.recv() => sender.send_modify(|asked| {
                        *asked = match asked {
                            Asked::Nothing => Asked::Stop,
                            _ => Asked::End.max(*asked),
                        };
                    }),
                    Some(()) = terminate.recv() => {
                        sender.send_modify(|asked| *asked = Asked::Terminate);
                    }
                    () = sender.closed() => return,
                    else => return,
                }
            }
        });
        Ok(Self(receiver))
    }

    /// Waits until at least this is asked for, and says what is.
    pub(super) async fn asked(&self, least: Asked) -> Asked {
        let mut receiver = self.0.clone();
        let asked = receiver.wait_for(|asked| *asked >= least).await;
        match asked.map(|asked| *asked) {
            Ok(asked) => asked,
            // There are no signals any more.
            Err(_) => std::future::pending().await,
        }
    }
}
