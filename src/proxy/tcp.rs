//! A `tcp` listener's connection: an endpoint is chosen and connected to, then bytes move both ways.

use std::sync::Arc;

use super::Arrival;
use crate::net::stream::Socket;
use crate::upstream::Listener;

/// Serves a connection that was let in, until it ends.
pub(super) async fn accepted(_arrival: Arrival, _listener: Arc<Listener>, _socket: Socket) {}
