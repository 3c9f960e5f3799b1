//! Which part of the peer hears which message.

use super::*;

impl Peer {
    pub(super) fn receive(&mut self, from: NodeId, message: Message) {
        self.count("messages_in", 1);
        match message {
            Message::Hello { genesis, map } => self.hello(from, genesis, map),
            Message::Swim(bytes) => self.membership.handle_packet(self.now, from, &bytes),
            Message::Store {
                shard,
                origin,
                first,
                items,
            } => {
                self.serve_store(from, shard, origin, first, items);
            }
            Message::Admitted {
                shard,
                origin,
                upto,
                index,
            } => {
                self.found_leader(from, shard);
                self.admitted(shard, origin, upto, index);
            }
            Message::Operate {
                shard,
                op,
                attempt,
                acks,
                operation,
            } => {
                self.serve_operation(from, shard, (op, attempt), acks, operation);
            }
            Message::Decided {
                shard,
                op,
                outcome,
                index,
            } => {
                self.found_leader(from, shard);
                self.decided(shard, op, outcome, index);
            }
            Message::Parked { shard, op } => self.parked(from, shard, op),
            Message::Cancel { shard, op } => self.serve_cancel(from, shard, op),
            Message::Ack {
                shard,
                session,
                seqs,
            } => self.serve_ack(from, shard, session, seqs),
            Message::WrongHome { shard, config } => self.learn_home(shard, config),
            Message::NotLeader {
                shard,
                epoch,
                leader,
                op,
            } => self.not_leader(from, shard, epoch, leader, op),
            Message::Group {
                shard,
                epoch,
                message,
            } => self.receive_group(from, shard, epoch, message),
            Message::HbReq { round, have } => self.serve_heartbeat(from, round, have),
            Message::HbRep {
                round,
                since,
                version,
                groups,
            } => self.heartbeat_answered(from, round, (since, version), groups),
            Message::Query {
                query,
                shards,
                workspace,
                template,
            } => {
                self.serve_query(from, query, shards, workspace, template);
            }
            Message::Answer {
                query,
                nothing,
                found,
                more,
                elsewhere,
                reached,
            } => {
                self.reached(from, query, &reached);
                self.answered(from, query, &nothing, found, more, elsewhere);
            }
            Message::Feed {
                shard,
                from: index,
                entries,
                version,
            } => {
                self.take_feed(Some(from), shard, index, &entries, version);
            }
            Message::Feeds(parts) => self.take_feeds(parts),
            Message::FeedReq { shard, from: index } => self.serve_feed(from, shard, index),
            Message::Root { root } => self.serve_root(from, root),
            Message::Digest { reply, versions } => self.serve_digest(from, reply, &versions),
            Message::Trimmed { shard, index } => self.trimmed(from, shard, index),
            Message::StateReq {
                shard,
                index,
                after,
                want,
            } => {
                self.serve_state(from, shard, index, after, &want);
            }
            Message::State {
                shard,
                index,
                parts,
            } => {
                self.take_state(from, shard, index, parts);
            }
            Message::EpochStart {
                shard,
                config,
                index,
            } => {
                self.epoch_start(from, shard, config, index);
            }
            Message::Pending {
                shard,
                origin,
                first,
                items,
            } => {
                self.take_pending(shard, origin, first, items);
            }
            Message::Survey { query, shards } => self.serve_survey(from, query, &shards),
            Message::Standings {
                query,
                member,
                start,
                standings,
            } => self.surveyed(from, query, (member, start), standings),
            Message::Fork {
                query,
                shard,
                epoch,
                index,
                hash,
            } => self.serve_fork(from, query, shard, epoch, (index, hash)),
            Message::Forked {
                query,
                shard,
                epoch,
                index,
                refused,
            } => self.fork_told(from, query, shard, (epoch, index), refused),
            Message::Register { shard, config } => self.serve_register(shard, config),
            Message::GiveUp { shard, epoch } => self.serve_give_up(shard, epoch),
            Message::Body(message) => self.receive_body(from, message),
            Message::Renew { shard, life, sent } => self.serve_renew(from, shard, life, sent),
            Message::Granted { life, sent } => self.granted(life, sent),
            Message::Over { life } => self.told_over(life),
            Message::GoodBye { shard, life } => self.serve_good_bye(from, shard, life),
            Message::Leads { shard, epoch } => self.leads_now(from, shard, epoch),
        }
    }
}
