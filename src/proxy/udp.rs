//! A `udp` listener's socket on one worker: datagrams in, flows to endpoints, replies back.

use std::cell::RefCell;
use std::future::pending;
use std::net::UdpSocket;
use std::rc::Rc;

use super::{Listening, Worker};

/// Passes on what `socket` receives, for whichever listener it belongs to at the time, until dropped.
pub async fn receive(_worker: Rc<Worker>, _listening: &RefCell<Rc<Listening>>, _socket: UdpSocket) {
    pending().await
}
