//! Stores on their way: into the outbox, to the home, and out again once they are admitted (rule
//! R16).

use super::*;

impl Peer {
    /// Adds a tuple whose bodies are where they have to be.
    pub(crate) fn store_placed(
        &mut self,
        request: RequestId,
        workspace: Name,
        tuple: Tuple,
        ack: Ack,
    ) {
        let shard = self.shard_for(&workspace, variable_in(&tuple));
        let item = Item { workspace, tuple };
        let Some(slot) = self.slot(shard) else { return };
        let origin = slot.me;
        if slot.client.outbox.len() >= MAX_OUTBOX {
            let why = format!("{MAX_OUTBOX} stores wait for the home of shard {shard}");
            self.finish(request, Reply::Failed(Failure::Busy(why)));
            return;
        }
        let size = item.tuple.size();
        if self.outbox_bytes + size > self.config.outbox_bytes_max {
            let most = self.config.outbox_bytes_max >> 20;
            let why = format!("{most} MiB of stores wait for their homes, as many as may");
            self.finish(request, Reply::Failed(Failure::Busy(why)));
            return;
        }
        self.outbox_bytes += size;
        let Some(slot) = self.slot(shard) else { return };
        slot.client.stored += 1;
        let n = slot.client.stored;
        // The home of a group of one decides by writing: the entry is its own outbox. With more
        // members a proposal may be known elsewhere while it is not yet on this disk.
        let of_one = slot
            .seat
            .group()
            .is_some_and(|group| group.members().len() == 1);
        let alone = of_one
            && slot
                .client
                .outbox
                .last_key_value()
                .is_none_or(|(_, out)| out.direct);
        let group = slot.seat.group().filter(|_| slot.home.is_some());
        let deciding = group.is_some_and(|group| !group.is_sealed());
        let direct = alone && deciding && ack == Ack::Home;
        if slot.shard.add_pending(Dot { origin, n }, item.clone()) {
            self.wake_readers(&item.workspace, &item.tuple);
        }
        let Some(slot) = self.slot(shard) else { return };
        let waiting = Some((request, ack));
        if direct {
            let out = Out {
                item: item.clone(),
                durable: true,
                direct: true,
                waiting,
            };
            slot.client.outbox.insert(n, out);
            self.requests.insert(request, Request::Store);
            let proposed = self.store_at_home(shard, origin, n, vec![item.clone()]);
            self.timers
                .set_if_none(Timer::Stores(shard), self.now + self.config.retry_first);
            if proposed.is_none_or(|last| last < n) {
                // There is no room: it has to wait where a crash does not reach it.
                self.outbox_instead(shard);
            }
            return;
        }
        let out = Out {
            item: item.clone(),
            durable: false,
            direct: false,
            waiting,
        };
        slot.client.outbox.insert(n, out);
        self.requests.insert(request, Request::Store);
        self.save_store(shard, n, &item);
    }

    /// Writes a store into the outbox table.
    pub(super) fn save_store(&mut self, shard: ShardId, n: u64, item: &Item) {
        if let Some(batch) = self.disk(shard) {
            // What was stored can be encoded: it was made within the limits of a tuple.
            if let Ok(bytes) = cpe_tuple::codec::encode(item) {
                batch.put(Table::Outbox, boot::indexed(shard, n), bytes);
            }
            batch.put(Table::Meta, boot::dot_key(shard), n.to_be_bytes().to_vec());
        }
        if holds(Guard::OutboxFirst) {
            self.once_kept(shard, After::Outbox(shard, n));
        } else {
            self.outbox_durable(shard, n);
        }
    }

    /// The own home of the shard is gone: stores it was given and did not decide take the way of
    /// all others, through the outbox, before another node hears of them.
    pub(crate) fn outbox_instead(&mut self, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        let mut undecided = Vec::new();
        for (n, out) in slot.client.outbox.iter_mut().filter(|(_, out)| out.direct) {
            out.direct = false;
            out.durable = false;
            undecided.push((*n, out.item.clone()));
        }
        for (n, item) in undecided {
            self.save_store(shard, n, &item);
        }
    }

    pub(crate) fn outbox_durable(&mut self, shard: ShardId, n: u64) {
        let Some(slot) = self.slot(shard) else { return };
        let Some(out) = slot.client.outbox.get_mut(&n) else {
            return;
        };
        out.durable = true;
        let local = out.waiting.take_if(|(_, ack)| *ack == Ack::Local);
        if let Some((request, _)) = local {
            self.finish(request, Reply::Pending);
        }
        // Those that became durable together go together.
        self.storing.insert(shard);
    }

    /// Sends what became durable since the last time.
    pub(crate) fn send_new_stores(&mut self, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        let from = slot.client.sent.max(slot.client.admitted) + 1;
        self.send_stores_from(shard, from, false);
    }

    /// Sends the shard's home what it has not admitted, sent before or not.
    pub(crate) fn send_stores(&mut self, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        let from = slot.client.admitted + 1;
        self.send_stores_from(shard, from, true);
    }

    fn send_stores_from(&mut self, shard: ShardId, from: u64, again: bool) {
        let Some(slot) = self.slot(shard) else { return };
        let (origin, volatile) = (slot.me, slot.volatile);
        let tries = slot.client.store_tries;
        let home = self.home_for(shard, tries);
        if volatile && !self.may_ask(home) {
            // What nobody has heard of survives the loss of the shard: it is worth to wait until
            // somebody is there.
            if let Some(slot) = self.slot(shard).filter(|slot| slot.client.outbox_len() > 0) {
                slot.client.store_tries = tries.saturating_add(1);
                let at = self.now + self.pause(tries);
                self.timers.set(Timer::Stores(shard), at);
            }
            return;
        }
        let own = home == Some(origin.node);
        let Some(slot) = self.slot(shard) else { return };
        let mut left = STORE_BYTES;
        let mut items = Vec::new();
        let mut first = 0;
        for (n, out) in slot.client.outbox.range(from..) {
            let size = out.item.tuple.size();
            let secret = out.direct && !own;
            if !out.durable || secret || (!items.is_empty() && size > left) {
                break;
            }
            if items.is_empty() {
                first = *n;
            }
            left = left.saturating_sub(size);
            items.push(out.item.clone());
        }
        if items.is_empty() {
            return;
        }
        slot.client.sent = first + items.len() as u64 - 1;
        slot.client.heard = slot.client.heard.max(slot.client.sent);
        if again {
            slot.client.store_tries = tries.saturating_add(1);
        }
        let at = self.now + self.pause(tries);
        if again && holds(Guard::SendAgain) {
            self.timers.set(Timer::Stores(shard), at);
        } else if holds(Guard::SendAgain) {
            // A store that was lost is repeated while others follow it: the home admits none of
            // them before it, so they must not put off its turn.
            self.timers.set_if_none(Timer::Stores(shard), at);
        }
        let is_time = tries % SHOW_EVERY_TRIES == SHOW_EVERY_TRIES - 1;
        if again && is_time {
            self.show_stores(shard);
        }
        if let Some(home) = home {
            self.send_if(
                home,
                Message::Store {
                    shard,
                    origin,
                    first,
                    items,
                },
            );
        }
    }

    /// Shows everybody the next stores that wait to be admitted, beginning anew after the last.
    fn show_stores(&mut self, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        let origin = slot.me;
        let client = &mut slot.client;
        // A direct store may still lose its number to a crash: nobody else must hear of it.
        let size = |out: &Out| {
            let size = out.item.tuple.size() + out.item.workspace.as_str().len() + ITEM_BYTES;
            (out.durable && !out.direct).then_some(size)
        };
        let first_after = |client: &ShardClient, shown: u64| {
            let mut later = client.outbox.range(shown + 1..);
            later.find(|(_, out)| size(out).is_some()).map(|(n, _)| *n)
        };
        let next = first_after(client, client.shown.max(client.admitted));
        let Some(first) = next.or_else(|| first_after(client, client.admitted)) else {
            return;
        };
        let (mut taken, mut items) = (0, Vec::new());
        for (n, out) in client.outbox.range(first..) {
            match size(out) {
                Some(size)
                    if *n == first + items.len() as u64
                        && (items.is_empty() || taken + size <= SHOWN_BYTES) =>
                {
                    taken += size;
                    items.push(out.item.clone());
                }
                _ => break,
            }
        }
        client.shown = first + items.len() as u64 - 1;
        client.heard = client.heard.max(client.shown);
        let shown = Message::Pending {
            shard,
            origin,
            first,
            items,
        };
        if taken <= SHOWN_BYTES {
            self.broadcast(shard, &shown);
        } else {
            // One store that no frame of gossip can hold: linked nodes are told by themselves.
            for node in self.links.clone() {
                self.send_if(node, shown.clone());
            }
        }
    }

    /// Stores up to `upto` are decided.
    pub(crate) fn admitted(&mut self, shard: ShardId, origin: Member, upto: u64, index: u64) {
        let Some(slot) = self.slot(shard) else { return };
        if origin != slot.me {
            return;
        }
        if upto <= slot.client.admitted || upto > slot.client.stored {
            return;
        }
        slot.client.admitted = upto;
        slot.client.store_tries = 0;
        let mut done = Vec::new();
        for (_, out) in slot.client.outbox.range_mut(..=upto) {
            done.extend(out.waiting.take().map(|(request, _)| request));
        }
        let more = slot.client.outbox.range(upto + 1..).next().is_some();
        for request in done {
            self.finish(request, Reply::Stored { index });
        }
        self.clear_outbox(shard);
        self.timers.clear(&Timer::Stores(shard));
        if more {
            // The home is at it: what it was sent is on its way, and only the rest is to be sent.
            let at = self.now + self.config.retry_first;
            if holds(Guard::SendAgain) {
                self.timers.set(Timer::Stores(shard), at);
            }
            self.send_new_stores(shard);
        }
    }

    /// Own stores the replica has applied leave the outbox (rule R16).
    pub(crate) fn clear_outbox(&mut self, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        let applied = slot.shard.sm().admitted(slot.me);
        let kept = slot.client.outbox.split_off(&(applied + 1));
        let gone = std::mem::replace(&mut slot.client.outbox, kept);
        let index = slot.shard.version().index;
        for (n, out) in gone {
            self.outbox_bytes -= out.item.tuple.size();
            if let Some(batch) = self.disk(shard) {
                batch.delete(Table::Outbox, boot::indexed(shard, n));
            }
            if let Some((request, _)) = out.waiting {
                self.finish(request, Reply::Stored { index });
            }
        }
        let Some(slot) = self.slot(shard) else { return };
        slot.client.admitted = slot.client.admitted.max(applied);
        if slot.client.outbox.is_empty() {
            self.timers.clear(&Timer::Stores(shard));
        }
    }

    /// The shard was forked: sends again what the fork may lack, and tells its home which of the
    /// own stores nobody has any more.
    pub(crate) fn resume_stores(&mut self, shard: ShardId) {
        let Some(slot) = self.slot(shard) else { return };
        let admitted = slot.shard.sm().admitted(slot.me);
        let client = &mut slot.client;
        let first = client.outbox.first_key_value().map(|(n, _)| *n);
        let gone = first.unwrap_or(client.stored + 1) - 1;
        client.admitted = admitted;
        client.sent = admitted;
        client.store_tries = 0;
        if first.is_some() {
            self.timers.set(Timer::Stores(shard), self.now);
        }
        if gone > admitted
            && let Some(seq) = self.new_op(None, shard, Operation::Resume { n: gone })
        {
            self.send_op(shard, seq);
        }
    }
}
