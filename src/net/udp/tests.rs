//! Datagrams between real sockets of this machine.

use std::time::Duration;

use tokio::time::timeout;

use super::*;

fn bound(address: &str) -> StdUdpSocket {
    let socket = StdUdpSocket::bind(address).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

fn client(of: SocketAddr) -> StdUdpSocket {
    let socket = StdUdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", of.port())).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// Receives until there are as many datagrams as that: the contents of each, with our address.
async fn receive(intake: &Intake, inbox: &mut Inbox, count: usize) -> Vec<(Vec<u8>, Option<IpAddr>)> {
    let mut came = Vec::new();
    while came.len() < count {
        timeout(Duration::from_secs(5), intake.readable()).await.unwrap().unwrap();
        match intake.receive(inbox) {
            Ok(received) => {
                for received in received {
                    came.extend(received.parcel.each().map(|one| (one.bytes().to_vec(), received.local)));
                }
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    came
}

#[test]
fn a_parcel_is_what_came_cut_into_datagrams() {
    let cut = |bytes: &'static [u8], size| {
        let parcel = Parcel { bytes, size, ecn: None };
        let each: Vec<_> = parcel.each().map(|one| one.bytes().to_vec()).collect();
        assert_eq!(each.len(), parcel.count() as usize);
        each
    };
    assert_eq!(cut(b"abcde", 2), [b"ab".to_vec(), b"cd".to_vec(), b"e".to_vec()]);
    assert_eq!(cut(b"abcd", 2), [b"ab", b"cd"]);
    assert_eq!(cut(b"ab", 2), [b"ab"]);
    assert_eq!(cut(b"", 0), [b""]);
}

#[tokio::test]
async fn a_parcel_goes_through_in_order_and_as_it_was() {
    let socket = bound("127.0.0.1:0");
    let at = socket.local_addr().unwrap();
    let intake = Intake::new(socket).unwrap();
    let (outlet, mut inbox) = (Outlet::connect(at, None).unwrap(), Inbox::default());
    let payload: Vec<u8> = (0..40_u8).flat_map(|n| [n; 1000]).chain([200; 10]).collect();
    outlet.send(&intake, Parcel { bytes: &payload, size: 1000, ecn: None }).unwrap();
    outlet.send(&intake, Parcel::one(b"")).unwrap();
    let came = receive(&intake, &mut inbox, 42).await;
    assert!(came.iter().all(|(_, local)| local.is_none()));
    let sizes: Vec<_> = came.iter().map(|(bytes, _)| bytes.len()).collect();
    assert_eq!((&sizes[..40], &sizes[40..]), (&[1000; 40][..], &[10, 0][..]));
    assert_eq!(came.into_iter().flat_map(|(bytes, _)| bytes).collect::<Vec<_>>(), payload);
}

#[tokio::test]
async fn replies_come_from_the_address_that_was_asked() {
    let socket = bound("0.0.0.0:0");
    let at = socket.local_addr().unwrap();
    let (intake, mut inbox) = (Intake::new(socket).unwrap(), Inbox::default());
    for own in ["127.0.0.1", "127.0.0.2", "127.0.0.3"] {
        let client = client(at);
        client.connect((own, at.port())).unwrap();
        client.send(b"question").unwrap();
        intake.readable().await.unwrap();
        let mut received = intake.receive(&mut inbox).unwrap();
        let received = received.next().unwrap();
        assert_eq!((received.local, received.parcel.bytes()), (own.parse().ok(), &b"question"[..]));
        intake.send(received.from, received.local, Parcel::one(b"answer")).unwrap();
        let mut answer = [0; 16];
        // Connected: what comes from another address does not reach it.
        assert_eq!(client.recv(&mut answer).unwrap(), 6);
    }
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_told_by_the_kernel() {
    let intake = Intake::new(bound("127.0.0.1:0")).unwrap();
    let nobody = bound("127.0.0.1:0").local_addr().unwrap();
    let (outlet, mut inbox) = (Outlet::connect(nobody, None).unwrap(), Inbox::default());
    outlet.send(&intake, Parcel::one(b"hello")).unwrap();
    outlet.readable().await.unwrap();
    let refused = outlet.receive(&intake, &mut inbox).err().map(|error| error.kind());
    assert_eq!(refused, Some(io::ErrorKind::ConnectionRefused));
}

#[tokio::test]
async fn what_does_not_fit_one_packet_goes_in_fragments() {
    let intake = Intake::new(bound("127.0.0.1:0")).unwrap();
    let receiver = StdUdpSocket::bind("127.0.0.1:0").unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let large = vec![7; 65_000];
    intake.send(receiver.local_addr().unwrap(), None, Parcel::one(&large)).unwrap();
    let mut got = vec![0; 65_536];
    assert_eq!(receiver.recv(&mut got).unwrap(), 65_000);
}
