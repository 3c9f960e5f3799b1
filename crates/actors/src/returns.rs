//! Who gives poison back to senders that are known by name alone.

use std::{fmt, sync::OnceLock};

use crate::Poisoned;

type Carrier = Box<dyn Fn(&str, Poisoned) + Send + Sync>;

/// See [`System::on_return`](crate::System::on_return).
#[derive(Default)]
pub(crate) struct Returns(OnceLock<Carrier>);

impl Returns {
    /// The first one stays.
    pub(crate) fn set(&self, carrier: Carrier) {
        drop(self.0.set(carrier));
    }

    pub(crate) fn give(&self, sender: &str, poisoned: Poisoned) {
        if let Some(carrier) = self.0.get() {
            carrier(sender, poisoned);
        }
    }
}

impl fmt::Debug for Returns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Returns")
    }
}
