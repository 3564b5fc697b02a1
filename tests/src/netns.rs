//! A host of its own for a client: a network namespace behind a veth pair, so that a test can make it vanish without a
//! FIN or a reset.
//!
//! Nothing leaves the machine: both ends of the pair are here, and the engine binds to the pair's own address. Needs
//! root and iproute2; where a namespace cannot be made, the test says loudly that it skipped. What killed runs left is
//! swept.

use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Socket, Type};

/// Where iproute2 keeps namespaces.
const KEPT: &str = "/run/netns";
const PREFIX: &str = "mediation-far-";

/// A host at the other end of a cable. Dropping it removes it.
#[derive(Debug)]
pub struct FarHost {
    namespace: String,
    near: Ipv4Addr,
    far: Ipv4Addr,
    interfaces: [String; 2],
}

impl FarHost {
    /// Makes one; None where namespaces cannot be made, which is said loudly.
    #[must_use]
    pub fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        sweep();
        let pid = std::process::id();
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        // 198.18.0.0/15 is for tests between hosts (RFC 2544): nobody's route is hidden. A /30 for each pair.
        let net = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + (pid.wrapping_mul(64).wrapping_add(n) % 0x8000) * 4;
        let host = Self {
            namespace: format!("{PREFIX}{pid}-{n}"),
            near: (net + 1).into(),
            far: (net + 2).into(),
            interfaces: [format!("mn{pid}-{n}"), format!("mf{pid}-{n}")],
        };
        match host.set_up() {
            Ok(()) => Some(host),
            Err(why) => {
                // Past the test harness, which shows the output of failed tests only.
                let test = std::thread::current().name().unwrap_or("?").to_owned();
                let loudly = format!("\nSKIPPED {test}: no network namespace (root and iproute2 are needed): {why}\n");
                std::io::stderr().write_all(loudly.as_bytes()).expect("standard error is open");
                None
            }
        }
    }

    fn set_up(&self) -> Result<(), String> {
        let (ns, [near, far]) = (self.namespace.as_str(), &self.interfaces);
        ip(&["netns", "add", ns])?;
        ip(&["link", "add", near, "type", "veth", "peer", "name", far, "netns", ns])?;
        ip(&["address", "add", &format!("{}/30", self.near), "dev", near])?;
        ip(&["link", "set", near, "up"])?;
        ip(&["-netns", ns, "address", "add", &format!("{}/30", self.far), "dev", far])?;
        ip(&["-netns", ns, "link", "set", far, "up"])
    }

    /// The address that this machine has on the cable: what the engine binds to.
    #[must_use]
    pub fn near(&self) -> IpAddr {
        self.near.into()
    }

    /// Connects from the far host. A small `receive_buffer` bounds what its kernel takes while nobody reads.
    ///
    /// # Panics
    /// When it cannot.
    #[must_use]
    pub fn connect(&self, to: SocketAddr, receive_buffer: Option<usize>) -> tokio::net::TcpStream {
        let namespace = File::open(Path::new(KEPT).join(&self.namespace)).expect("the namespace is there");
        // A socket stays in the namespace that its thread was in when it was made.
        let thread = std::thread::spawn(move || -> std::io::Result<TcpStream> {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            if let Some(bytes) = receive_buffer {
                socket.set_recv_buffer_size(bytes)?;
            }
            socket.connect_timeout(&to.into(), Duration::from_secs(60))?;
            socket.set_tcp_nodelay(true)?;
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        });
        let socket = thread.join().expect("no panic").expect("the far host reaches the engine");
        tokio::net::TcpStream::from_std(socket).expect("a socket of this runtime")
    }

    /// The host is gone from one moment to the next: what is sent to it is neither answered nor refused, and what its
    /// kernel would say is not heard.
    ///
    /// # Panics
    /// When its address cannot be removed.
    pub fn vanish(&self) {
        ip(&["-netns", &self.namespace, "address", "flush", "dev", &self.interfaces[1]]).expect("its address goes");
    }
}

impl Drop for FarHost {
    fn drop(&mut self) {
        // A socket that is still open would keep the namespace, so the cable goes by itself.
        for gone in [["link", "delete", &self.interfaces[0]], ["netns", "delete", &self.namespace]] {
            if let Err(why) = ip(&gone) {
                eprintln!("{gone:?}: {why}");
            }
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let out = Command::new("ip").args(arguments).output().map_err(|error| format!("ip: {error}"))?;
    if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).trim().to_owned()) }
}

/// Namespaces of runs that were killed; their ends of the pairs go with them.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(KEPT) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()) else { continue };
        if !Path::new("/proc").join(pid).exists() && ip(&["netns", "delete", &name]).is_err() {
            continue; // somebody else swept it
        }
    }
}
