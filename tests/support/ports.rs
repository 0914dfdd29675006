//! Addresses of the loopback for what a test starts.

use std::net::{SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// All of them are below 32,768, where those begin that the system gives to whoever asks for any.
const FIRST: u16 = 10_000;
const SHARES: u16 = 11;
/// More than a test process needs, so that none is given twice.
const PORTS_IN_SHARE: u16 = 2_000;

/// Addresses where nothing listens, and where nothing will but what this process starts: as long as it lives, what it has
/// stopped can be started again there.
pub(crate) fn free<const COUNT: usize>() -> [SocketAddr; COUNT] {
    static SHARE: OnceLock<(u16, UnixListener)> = OnceLock::new();
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let (first, _) = SHARE.get_or_init(take_share);
    let mut free = std::iter::repeat_with(|| {
        let port = first + GIVEN.fetch_add(1, Ordering::Relaxed) % PORTS_IN_SHARE;
        TcpListener::bind(("127.0.0.1", port)).ok()?.local_addr().ok()
    })
    .flatten();
    [(); COUNT].map(|()| free.next().unwrap())
}

/// Listens again where it was ended. A process that has just been forked has all that was open then, until it becomes its program.
pub(crate) async fn listen_again(address: SocketAddr) -> TcpListener {
    super::eventually("the port is free again", async || TcpListener::bind(address).ok()).await
}

/// Takes a share of the ports that no other test process has: the first of them, and a name that only one process can have,
/// which is free again when that has ended, whatever way.
fn take_share() -> (u16, UnixListener) {
    let take = |number: u16| {
        let first = FIRST + number * PORTS_IN_SHARE;
        let name =
            UnixAddress::from_abstract_name(format!("braze-datadog tests: ports from {first}")).unwrap();
        Some((first, UnixListener::bind_addr(&name).ok()?))
    };
    (0..SHARES).find_map(take).unwrap_or_else(|| panic!("{SHARES} test processes have all the ports"))
}
