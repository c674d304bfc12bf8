//! Short connections, as many as go: opened through a service's address, accepted and closed by its pod, reset by the client.

use std::{
    io::Read as _,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::SockRef;

/// The pod that takes the load, and the service that leads to it.
pub const POD: &str = "10.0.0.5:8080";
const SERVICE: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 96, 0, 1), 80);

const CLIENTS: usize = 2;
const SERVERS: usize = 2;

pub struct Load {
    opened: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub fn start() -> Self {
        let listener = TcpListener::bind(POD).unwrap();
        let (opened, stopped) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        for _ in 0..SERVERS {
            let listener = listener.try_clone().unwrap();
            // Waits in accept(2) to the end of the process.
            thread::spawn(move || {
                loop {
                    drop(listener.accept());
                }
            });
        }
        let client = |_| {
            let (opened, stopped) = (Arc::clone(&opened), Arc::clone(&stopped));
            thread::spawn(move || {
                let to = SocketAddr::from(SERVICE);
                while !stopped.load(Relaxed) {
                    match TcpStream::connect_timeout(&to, Duration::from_secs(1)) {
                        Ok(mut stream) => {
                            // Until the server has accepted it and hung up: clients that do not wait fill its queue.
                            let _ = stream.read(&mut [0]);
                            // A reset leaves no TIME_WAIT: the ports would be used up in seconds.
                            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                            opened.fetch_add(1, Relaxed);
                        }
                        Err(error) => eprintln!("a connection failed: {error}"),
                    }
                }
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self {
            opened,
            stopped,
            clients,
        }
    }

    /// Connections so far.
    pub fn opened(&self) -> u64 {
        self.opened.load(Relaxed)
    }

    pub fn stop(self) {
        self.stopped.store(true, Relaxed);
        for client in self.clients {
            client.join().unwrap();
        }
    }
}
