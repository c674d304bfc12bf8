//! Requests over UDP: one datagram each, from a small set of source ports, so that conntrack entries are met again.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};

use super::{Args, pace::Job, ports, writer::Writer};
use crate::{
    clock::monotonic_ns,
    truth::{Outcome, Phase, Request},
};

/// Source ports without `--source-ports`.
const PORTS: u16 = 4;

/// What came back for a request: the server's name, or an error of the socket.
type Answer = Result<String, i32>;

/// One source port, and who waits for an answer on it.
struct Source {
    socket: UdpSocket,
    local: SocketAddr,
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<Answer>>>,
}

/// Sends a datagram for each job, from the source ports in turn.
pub(super) async fn requests(
    args: &Arc<Args>,
    mut jobs: mpsc::Receiver<Job>,
    writer: &Writer,
) -> anyhow::Result<JoinSet<()>> {
    let count = args.source_ports.unwrap_or(PORTS);
    let sources = (0..count)
        .map(|n| Source::open(args.target, ports::port(n)).map(Arc::new))
        .collect::<io::Result<Vec<_>>>()
        .context("cannot open the source ports")?;
    let mut readers = JoinSet::new();
    for source in &sources {
        let source = Arc::clone(source);
        readers.spawn(async move { source.read().await });
    }
    let mut tasks = JoinSet::new();
    while let Some(job) = jobs.recv().await {
        let turn = usize::try_from(job.id).unwrap_or(0) % sources.len().max(1);
        let Some(source) = sources.get(turn).map(Arc::clone) else {
            break;
        };
        let (args, writer) = (Arc::clone(args), writer.clone());
        tasks.spawn(async move {
            let request = source.request(&job, &args).await;
            writer.record(&job, request).await;
        });
        while tasks.try_join_next().is_some() {}
    }
    // The last answers are still awaited; dropping the readers would leave them to time out.
    while tasks.join_next().await.is_some() {}
    readers.abort_all();
    Ok(tasks)
}

impl Source {
    fn open(target: SocketAddr, port: u16) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(target), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.bind(&ports::any(target, port).into())?;
        socket.connect(&target.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Self {
            local: socket.local_addr()?,
            socket,
            waiting: Mutex::new(BTreeMap::new()),
        })
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Answer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives each answer to who waits for it. An ICMP error names no request: it is the oldest one's.
    async fn read(&self) {
        let mut bytes = [0; 1024];
        loop {
            match self.socket.recv(&mut bytes).await {
                Ok(length) => {
                    let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned();
                    let mut words = text.split(' ');
                    let id = words.next().and_then(|id| id.parse().ok());
                    let server = words.next().unwrap_or_default().to_owned();
                    if let Some(waits) = id.and_then(|id: u64| self.waiting().remove(&id)) {
                        let _ = waits.send(Ok(server));
                    }
                }
                Err(error) => {
                    let oldest = self.waiting().pop_first();
                    if let Some((_, waits)) = oldest {
                        let _ = waits.send(Err(error.raw_os_error().unwrap_or(0)));
                    }
                }
            }
        }
    }

    async fn request(&self, job: &Job, args: &Args) -> Request {
        let began_ns = monotonic_ns();
        let (waits, answer) = oneshot::channel();
        self.waiting().insert(job.id, waits);
        let exchange = async {
            if let Err(error) = self.socket.send(job.id.to_string().as_bytes()).await {
                return Err(error.raw_os_error().unwrap_or(0));
            }
            answer.await.unwrap_or(Err(0))
        };
        let got = timeout(Duration::from_millis(args.timeout_ms), exchange).await;
        self.waiting().remove(&job.id);
        let (outcome, errno, server) = match got {
            Err(_) => (Outcome::TimedOut, None, None),
            Ok(Ok(server)) => (Outcome::Ok, None, Some(server)),
            Ok(Err(errno)) => (super::connection::outcome_of(Some(errno)), Some(errno), None),
        };
        Request {
            id: job.id,
            began_ns,
            ended_ns: monotonic_ns(),
            local: Some(self.local),
            remote: args.target,
            outcome,
            phase: Phase::Response,
            errno,
            status: None,
            server,
            reused: false,
        }
    }
}
