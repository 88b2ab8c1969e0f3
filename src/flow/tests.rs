//! Flows as their users see them, one behaviour a test. That the table is right whatever happens is
//! shown in `tests/flow_table`.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::*;
use crate::ambient;

const IDLE: Duration = Duration::from_secs(30);

fn settings() -> Settings {
    let most = NonZeroU32::new(100).unwrap();
    Settings { by: FlowBy::AddressAndPort, idle: IDLE, most, requests: None, replies: None }
}

fn limited(requests: u32, replies: Option<u32>) -> Settings {
    Settings { requests: NonZeroU32::new(requests), replies, ..settings() }
}

fn client(port: u16) -> Peer {
    Peer { client: SocketAddr::from(([10, 0, 0, 1], port)), local: None }
}

fn one() -> Datagrams {
    Datagrams::one(100)
}

/// Opens a flow that keeps its client's port.
#[track_caller]
fn opened(table: &mut Table<u16>, port: u16, now: Instant) -> Opened<u16> {
    assert_eq!(table.arrived(&client(port), one(), now), Decision::Open);
    table.open(&client(port), port, one(), now)
}

#[test]
fn datagrams_of_a_client_are_one_flow_both_ways() {
    let (mut table, now) = (Table::new(settings(), 1), ambient::now());
    let flow = opened(&mut table, 1, now);
    assert_eq!(flow.then, Then::Stay);
    assert_ne!(opened(&mut table, 2, now).id, flow.id);
    let later = now + IDLE / 2;
    assert_eq!(table.arrived(&client(1), one(), later), Decision::Forward(flow.id, Then::Stay));
    let reply = table.replied(flow.id, Datagrams { count: 3, bytes: 50 }, later);
    assert_eq!(reply, Some(Reply { peer: client(1), then: Then::Stay }));
    let ended = table.close(flow.id, Cause::Drained).unwrap();
    assert_eq!((ended.kept, ended.cause, ended.began, ended.last), (1, Cause::Drained, now, later));
    assert_eq!(ended.counts, Counts { requests: 2, request_bytes: 200, replies: 3, reply_bytes: 50 });
    assert!(table.close(flow.id, Cause::Drained).is_none());
    assert_eq!(table.replied(flow.id, one(), later), None);
}

#[test]
fn a_flow_is_over_when_nothing_came_from_either_side() {
    let (mut table, now) = (Table::new(settings(), 1), ambient::now());
    let ids: Vec<_> = (0..3).map(|port| opened(&mut table, port, now).id).collect();
    assert_eq!(table.next_end(), Some(now + IDLE));
    let later = now + IDLE / 2;
    let _ = table.arrived(&client(0), one(), later);
    let _ = table.replied(ids[1], one(), later);
    let ended = table.expire(now + IDLE).unwrap();
    assert_eq!((ended.kept, ended.cause), (2, Cause::Idle));
    assert!(table.expire(now + IDLE).is_none());
    assert_eq!((table.next_end(), table.len()), (Some(later + IDLE), 2));
    // Not yet taken out, and gone all the same.
    assert_eq!(table.replied(ids[0], one(), later + IDLE), None);
    let again = opened(&mut table, 0, later + IDLE);
    assert_ne!(again.id, ids[0]);
    assert_eq!(std::iter::from_fn(|| table.expire(later + IDLE)).count(), 2);
    assert_eq!(table.len(), 1);
}

#[test]
fn the_one_that_was_idle_longest_makes_room() {
    let most = NonZeroU32::new(2).unwrap();
    let (mut table, now) = (Table::new(Settings { most, ..settings() }, 1), ambient::now());
    let [first, _] = [1, 2].map(|port| opened(&mut table, port, now).id);
    let _ = table.replied(first, one(), now);
    let third = opened(&mut table, 3, now);
    let evicted = third.evicted.unwrap();
    assert_eq!((evicted.kept, evicted.cause, table.len()), (2, Cause::Evicted, 2));
    table.set(Settings { most: NonZeroU32::MIN, ..settings() });
    assert_eq!(table.expire(now).map(|ended| (ended.kept, ended.cause)), Some((1, Cause::Evicted)));
    assert!(table.expire(now).is_none());
    let fourth = opened(&mut table, 4, now + IDLE);
    assert_eq!(fourth.evicted.map(|ended| (ended.kept, ended.cause)), Some((3, Cause::Idle)));
}

#[test]
fn a_flow_ends_with_the_last_reply_that_is_due() {
    let (mut table, now) = (Table::new(Settings { replies: Some(1), ..settings() }, 1), ambient::now());
    let flow = opened(&mut table, 1, now).id;
    let _ = table.arrived(&client(1), one(), now);
    assert_eq!(table.replied(flow, one(), now).map(|reply| reply.then), Some(Then::Stay));
    assert_eq!(table.replied(flow, one(), now).map(|reply| reply.then), Some(Then::Close));
}

#[test]
fn a_flow_of_so_many_requests_goes_on_for_its_replies() {
    let (mut table, now) = (Table::new(limited(2, Some(2)), 1), ambient::now());
    let first = opened(&mut table, 1, now).id;
    assert_eq!(table.replied(first, Datagrams { count: 2, bytes: 9 }, now).map(|r| r.then), Some(Then::Stay));
    assert_eq!(table.arrived(&client(1), one(), now), Decision::Forward(first, Then::Stay));
    let second = opened(&mut table, 1, now).id;
    assert_eq!(table.arrived(&client(1), one(), now), Decision::Forward(second, Then::Stay));
    assert_eq!(table.replied(first, one(), now).map(|r| r.then), Some(Then::Stay));
    assert_eq!(table.replied(first, one(), now).map(|r| r.then), Some(Then::Close));
    assert_eq!((table.close(first, Cause::Complete).is_some(), table.len()), (true, 1));
}

#[test]
fn what_nobody_answers_is_over_once_it_is_sent() {
    let (mut table, now) = (Table::new(limited(1, Some(0)), 1), ambient::now());
    for _ in 0..3 {
        let flow = opened(&mut table, 1, now);
        assert_eq!(flow.then, Then::Close);
        assert!(table.close(flow.id, Cause::Complete).is_some());
    }
    table.set(limited(2, Some(0)));
    let flow = opened(&mut table, 1, now);
    assert_eq!(flow.then, Then::Stay);
    assert_eq!(table.arrived(&client(1), one(), now), Decision::Forward(flow.id, Then::Close));
    table.set(limited(1, None));
    assert_eq!(opened(&mut table, 2, now).then, Then::Stay, "any number of replies may come");
}

#[test]
fn a_client_known_by_its_address_is_answered_where_it_was_last() {
    let settings = Settings { by: FlowBy::Address, ..settings() };
    let (mut table, now) = (Table::new(settings, 1), ambient::now());
    let flow = opened(&mut table, 1, now).id;
    assert_eq!(table.arrived(&client(9), one(), now), Decision::Forward(flow, Then::Stay));
    assert_eq!(table.replied(flow, one(), now).map(|reply| reply.peer), Some(client(9)));
}

#[test]
fn a_flow_that_moves_hears_no_more_of_where_it_was() {
    let (mut table, now) = (Table::new(limited(2, Some(1)), 1), ambient::now());
    let before = opened(&mut table, 1, now).id;
    let (moved, kept) = table.repin(before, 77, 1).unwrap();
    assert_eq!((kept, table.replied(before, one(), now)), (1, None));
    assert!(table.repin(before, 78, 1).is_none());
    assert_eq!(table.arrived(&client(1), one(), now), Decision::Forward(moved, Then::Stay));
    assert_eq!(table.replied(moved, one(), now).map(|reply| reply.then), Some(Then::Stay));
    assert_eq!(table.replied(moved, one(), now).map(|reply| reply.then), Some(Then::Close));
    assert_eq!(
        table.close(moved, Cause::Complete).map(|ended| (ended.kept, ended.counts.requests)),
        Some((77, 2))
    );
}

#[test]
fn flows_of_an_endpoint_that_is_gone_end_together() {
    let (mut table, now) = (Table::new(settings(), 1), ambient::now());
    (0..6).for_each(|port| drop(opened(&mut table, port, now)));
    let gone: Vec<_> =
        table.sweep(Cause::EndpointGone, |port| port % 2 == 0).iter().map(|e| e.kept).collect();
    assert_eq!((gone, table.len()), (vec![0, 2, 4], 3));
    assert_eq!(table.arrived(&client(0), one(), now), Decision::Open);
}

#[test]
fn a_table_that_closes_keeps_what_is_open() {
    let (mut table, now) = (Table::new(settings(), 1), ambient::now());
    let flow = opened(&mut table, 1, now).id;
    table.open_no_more();
    assert_eq!(table.arrived(&client(1), one(), now), Decision::Forward(flow, Then::Stay));
    assert_eq!(table.arrived(&client(2), one(), now), Decision::Drop(Dropped::Closing));
}

#[test]
fn time_does_not_go_back() {
    let (mut table, now) = (Table::new(settings(), 1), ambient::now());
    let flow = opened(&mut table, 1, now + IDLE).id;
    let _ = opened(&mut table, 2, now);
    assert_eq!(table.arrived(&client(1), one(), now), Decision::Forward(flow, Then::Stay));
    assert!(table.expire(now + IDLE * 2 - Duration::from_nanos(1)).is_none());
    assert_eq!(std::iter::from_fn(|| table.expire(now + IDLE * 2)).count(), 2);
}
